"""`iterative`: weights of 8, 4 and 2 bits side by side, fewer in every iteration, by the magnitude of each weight.

Kolf et al., sections 3.3 and 4.5, with PACT activations; label-free, or with labels as the source.
Weights of 8 bits are trained first (W₀). In each further iteration half of those weights that are wider than 2 bits,
the least of them, get half the width; in the last all have 2 bits. With the source each iteration begins from W₀ again;
by default it goes on from the one before, so that little is to be regained at a time and all training adds up. With
labels the head starts anew in each iteration, from the people's mean full-precision embeddings.

The weights of a pretrained network have batch normalisation folded in, so that the range differs from channel to
channel: their magnitudes are compared relative to the largest of their channel. By default their levels are learned
steps with a grid for each width (`MixedStepQuantizer`), which disturb a network that comes trained least. With the
source's DoReFa levels each channel is brought to the same range, its levels multiplied by a scale that is learned.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from veriquant.allocation.magnitude import ITERATIONS, LEAST, SHARE, START, MaskState
from veriquant.data.calibration import Calibration
from veriquant.deploy.pack.masked import entropy_coder
from veriquant.networks.network import Network
from veriquant.quantization.lessons import Lessons, learn, lessons_for
from veriquant.quantization.method import METHODS, Method, QuantizationContext, QuantizationResult
from veriquant.quantization.simulated import CalibratedModel
from veriquant.quantization.trained_settings import TEACHER, TrainedSettings
from veriquant.schemes import AffineQuantizer, Quantizer
from veriquant.schemes.dorefa import DorefaQuantizer
from veriquant.schemes.mixed_step import MixedStepQuantizer
from veriquant.schemes.pact import PactQuantizer
from veriquant.simulation.precision import Precision
from veriquant.simulation.trainable import Trainable

#: The latent weights of a channel begin in [−1, 1], where tanh is bent and not yet flat.
_REACH = 1.0

_LEVELS = {
    "steps": "weights on learned steps, a grid for each width",
    "dorefa": "DoReFa weights, levels and ranges",
}

_BEGIN = {
    "first": "each from the 8-bit weights of the first",
    "previous": "each from the weights of the one before",
}


class IterativeSettings(TrainedSettings):
    """The source's settings: `iterations`, the `share` of weights that is halved after each, `activation_bits`.

    `epochs` is the length of each iteration, `first_epochs` that of the first, which trains W₀, `last_epochs` that of
    the last, in which the largest weights go from 8 bits to 2 at once. The run stops after the first iteration whose
    average width is at most `until` bits, or after iteration `stop_after`; neither changes what an iteration comes to,
    so that those trained before are not trained again. `weights`: the levels, learned 'steps' with a grid for each
    width, or the source's 'dorefa'. `begin`: an iteration goes on from the 'previous', or as the source's from the
    'first'.
    """

    free: ClassVar[frozenset[str]] = TrainedSettings.free | {
        "until", "stop_after", "first_epochs", "epochs", "last_epochs"
    }  # fmt: skip

    target: str = "wide"
    weights: Literal["steps", "dorefa"] = "steps"
    begin: Literal["first", "previous"] = "previous"
    iterations: int = Field(default=ITERATIONS, ge=1)
    share: float = Field(default=SHARE, gt=0, le=1)
    until: float = Field(default=float(LEAST), ge=LEAST, le=START)
    stop_after: int | None = Field(default=None, ge=1)
    activation_bits: int = Field(default=8, ge=2, le=8)
    epochs: int = Field(default=3, ge=1)
    first_epochs: int = Field(default=3, ge=1)
    last_epochs: int = Field(default=3, ge=1)

    def length(self, iteration: int) -> int:
        """Return the epochs of an iteration, counted from 1."""
        if iteration == 1:
            return self.first_epochs
        return self.last_epochs if iteration == self.iterations else self.epochs

    @model_validator(mode="after")
    def _rounds_by_training(self) -> IterativeSettings:
        if self.rounding != "nearest" or self.bias_correction:
            raise ValueError("iterations begin from the weights as they are: leave rounding and bias_correction alone")
        return self

    @model_validator(mode="after")
    def _has_levels_of_its_own(self) -> IterativeSettings:
        if given := sorted(self.model_fields_set.intersection(("levels", "observe", "weight_scheme"))):
            raise ValueError(
                f"{' and '.join(given)}: iterations have learned levels of their own, which 'weights' chooses (steps "
                "or dorefa); leave it out"
            )
        return self

    @model_validator(mode="after")
    def _stops_in_time(self) -> IterativeSettings:
        if self.stop_after is not None and self.stop_after > self.iterations:
            raise ValueError(f"stop_after {self.stop_after}: there are {self.iterations} iterations")
        return self


@dataclass(frozen=True)
class Stage:
    """What an iteration came to."""

    state: MaskState
    sqnr: float
    how: str


def _run(
    network: Network, settings: IterativeSettings, calibration: Calibration | None, target: QuantizationContext
) -> QuantizationResult:
    assert calibration is not None
    entropy_coder()  # needed at the end, after hours of training
    lessons = lessons_for(network, settings, calibration, target)
    bench = lessons.bench
    student = _student(bench, settings)
    kinds = _kinds(student)
    recipe = {
        "network": network.digest,
        "method": "iterative",
        "digests": [calibration.digest, lessons.training_set.digest],
        **settings.decisive(),
    }
    with closing(lessons.batches):
        stages = _iterate(lessons, student, settings, recipe)
    last = stages[-1].state
    plan = bench.plan(_precisions(student, settings)).model_copy(
        update={"note": {"trained": "iterative magnitude mask", "average_bits": round(last.average, 4)}}
    )
    content = bench.file(plan)
    parameters = sum(each.numel() for each in last.widths.values())
    bench.notes += [
        f"{_LEVELS[settings.weights]} per output channel; PACT activations of {settings.activation_bits} bits, "
        f"{kinds}; trained by {lessons.told}; {len(stages)} iterations, {_BEGIN[settings.begin]}; "
        f"signal to quantization noise at the output over {lessons.checked}",
        *(f"iteration {each.state.iteration}: {_told(each, parameters)}" for each in stages),
        bench.agreement(content, plan),
    ]
    averages = last.by_layer()
    layers = [
        layer.model_copy(update={"weight_bits": averages[layer.name]}) if layer.name in averages else layer
        for layer in bench.layers(plan)
    ]
    return QuantizationResult(
        content,
        layers,
        bench.notes,
        plan=plan,
        save_pack=bench.pack_saver(plan),
        average_bits=last.average,
        iteration=last.iteration,
    )


def _iterate(
    lessons: Lessons, student: Trainable, settings: IterativeSettings, recipe: dict[str, object]
) -> list[Stage]:
    """Train all iterations, each kept in a folder of its own, so that a run that was cut off goes on in the last."""
    state = MaskState.first({name: weight for name, (weight, _) in student.quantized().items()})
    stages: list[Stage] = []
    lengths: list[int] = []
    first: dict[str, Tensor] = {}
    while True:
        _give_widths(student, state)
        lengths.append(settings.length(state.iteration))
        told = {**recipe, "lengths": list(lengths)}
        part = f"iteration {state.iteration} of {settings.stop_after or settings.iterations}, {state.average:.2f} bits"
        how = learn(lessons, student, told, epochs=lengths[-1], bits=state.average, part=part)
        stages.append(Stage(state, _measured(lessons.bench, student, settings), how))
        if not first:
            first = {name: value.clone() for name, value in student.state_dict().items()}
        if state.average <= settings.until or state.iteration == (settings.stop_after or settings.iterations):
            return stages
        state = state.next(_magnitudes(student), share=settings.share, iterations=settings.iterations)
        if settings.begin == "first":
            student.load_state_dict(first)


def _student(bench: CalibratedModel, settings: IterativeSettings) -> Trainable:
    simulation = bench.simulation
    change = bench.fitted.change(dict.fromkeys(simulation.groups, Precision(START, settings.activation_bits)))
    weights: dict[str, Quantizer] = {}
    latent: dict[str, Tensor] = {}
    for name in change.weights:
        weight = simulation.weighted(name).weight.detach()
        widths = torch.full_like(weight, START, dtype=torch.uint8)
        if settings.weights == "steps":
            weights[name] = MixedStepQuantizer(weight, widths)
        else:
            scale, share = _relative(weight)
            latent[name] = torch.atanh(share * math.tanh(_REACH))
            weights[name] = DorefaQuantizer(widths, scale, normalised="channel")
    activations = {tensor: _clipping(levels) for tensor, levels in change.activations.items()}
    return Trainable(simulation, weights, activations, latent)


def _relative(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest magnitude of each channel, (channels,), 1 where all are 0, and the weights divided by it."""
    largest = weight.flatten(1).abs().amax(dim=1)
    largest = torch.where(largest > 0, largest, 1.0)
    return largest, weight / largest.reshape(-1, *[1] * (weight.ndim - 1))


def _clipping(fitted: Quantizer) -> PactQuantizer:
    """Return PACT over the range that calibration found."""
    assert isinstance(fitted, AffineQuantizer)
    low = float(-fitted.zero_point * fitted.scale)
    return PactQuantizer.over(low, low + float(fitted.scale) * (2**fitted.bits - 1), fitted.bits)


def _give_widths(student: Trainable, state: MaskState) -> None:
    for name, (weight, quantizer) in student.quantized().items():
        assert isinstance(quantizer, DorefaQuantizer | MixedStepQuantizer)
        quantizer.set_widths(state.widths[name])
        if isinstance(quantizer, MixedStepQuantizer):
            quantizer.fit(weight)


def _magnitudes(student: Trainable) -> dict[str, Tensor]:
    """Return what weights are ranked by over all channels and layers: relative to their channel's largest.

    DoReFa's latent weights are so from the start.
    """
    found = {}
    for name, (weight, quantizer) in student.quantized().items():
        latent = weight.detach()
        found[name] = _relative(latent)[1] if isinstance(quantizer, MixedStepQuantizer) else latent
    return found


def _precisions(student: Trainable, settings: IterativeSettings) -> dict[str, Precision]:
    """Return the precision that each group is stored in: codes that tell all levels of its mixtures apart.

    The weights of a group get codes of as many bits, because a plan has one precision for them.
    """
    quantizers = {name: quantizer for name, (_, quantizer) in student.quantized().items()}
    found = {}
    for name, group in student.simulation.groups.items():
        members = [quantizers[each] for each in group.weights if each in quantizers]
        bits = max((each.bits for each in members), default=START)
        for each in members:
            each.bits = bits
        found[name] = Precision(bits, settings.activation_bits)
    return found


def _measured(bench: CalibratedModel, student: Trainable, settings: IterativeSettings) -> float:
    precisions = _precisions(student, settings)
    student.freeze_into(bench.fitted)
    return bench.noise_under(bench.fitted.change(precisions, codes=True))[1]


def _kinds(student: Trainable) -> str:
    kinds = [q.kind for q in student.activation_quantizers if isinstance(q, PactQuantizer)]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _told(stage: Stage, parameters: int) -> str:
    average = stage.state.average
    return (
        f"{average:.2f} bits a weight, nominal {parameters * average / 8e6:.3f} MB of weights, {stage.sqnr:.1f} dB; "
        f"{stage.how}"
    )


METHODS.add(
    "iterative",
    Method(
        "iterative",
        "8, 4 and 2 bits weight by weight, fewer in every iteration, trained label-free on any images",
        IterativeSettings,
        _run,
        lambda settings: settings.train_images + settings.check_images,
        plans=True,
        labelled=lambda settings: settings.loss != TEACHER,
    ),
)
