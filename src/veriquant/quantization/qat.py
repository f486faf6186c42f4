"""`qat`: one precision for the whole network, trained: label-free on any images, or on a training set with labels.

It starts from the best that calibration alone gives: equalised channels, ranges by least squared error, and if it is
told to, weights rounded by AdaRound and biases corrected. The network that trains is the simulated one; what it has
become is packed as every plan is, in its own bits.
"""

from __future__ import annotations

from contextlib import closing

from veriquant.data.calibration import Calibration
from veriquant.errors import VeriQuantError
from veriquant.networks.network import Network
from veriquant.quantization.lessons import learn, lessons_for
from veriquant.quantization.method import METHODS, Method, QuantizationContext, QuantizationResult
from veriquant.quantization.simulated import CalibratedModel
from veriquant.quantization.trained_settings import TEACHER, QatSettings
from veriquant.schemes import (
    AffineQuantizer,
    LearnedMidriseQuantizer,
    LearnedStepQuantizer,
    MidriseQuantizer,
    Quantizer,
)
from veriquant.schemes.observed import ObservedQuantizer
from veriquant.simulation.precision import Precision
from veriquant.simulation.trainable import Trainable


def _run(
    network: Network, settings: QatSettings, calibration: Calibration | None, target: QuantizationContext
) -> QuantizationResult:
    assert calibration is not None
    lessons = lessons_for(network, settings, calibration, target)
    bench = lessons.bench
    widths = dict.fromkeys(bench.simulation.groups, Precision.parse(settings.precision))
    before = bench.noise_under(bench.fitted.change(widths, codes=True))[1]
    student = _student(bench, settings, widths)
    images = [calibration.digest, lessons.training_set.digest]
    recipe = {"network": network.digest, "method": "qat", "digests": images, **settings.decisive()}
    bits = bench.costs.average_bits(widths)
    with closing(lessons.batches):
        history = learn(lessons, student, recipe, epochs=settings.epochs, bits=bits)
    student.freeze_into(bench.fitted)
    plan = bench.plan(widths).model_copy(update={"note": {"trained": f"{settings.levels} levels, {history}"}})
    content = bench.file(plan)
    noise, after = bench.noise_under(bench.fitted.planned(plan))
    bench.notes += [
        f"trained by {lessons.told}: {history}",
        f"{before:.1f} dB signal to quantization noise at the output before training, {after:.1f} dB after, over "
        f"{lessons.checked} (noise {noise:.2e})",
        f"relative BOPs {bench.costs.relative_bops(widths):.3f}, {bench.costs.average_bits(widths):.2f} bits a weight, "
        f"nominal {bench.costs.nominal_bytes(widths) / 1e6:.3f} MB, on disk {len(content) / 1e6:.3f} MB",
        bench.agreement(content, plan),
    ]
    return QuantizationResult(content, bench.layers(plan), bench.notes, plan=plan, save_pack=bench.pack_saver(plan))


def _student(bench: CalibratedModel, settings: QatSettings, widths: dict[str, Precision]) -> Trainable:
    change = bench.fitted.change(widths)
    bits = {
        name: widths[group.name].weight_bits for group in bench.simulation.groups.values() for name in group.weights
    }
    rounded = {name: bench.fitted.weight(name, bits[name]) for name in change.weights}
    weights = {name: _learning(each.quantizer, settings, batched=False) for name, each in rounded.items()}
    activations = {
        tensor: _learning(quantizer, settings, batched=True) for tensor, quantizer in change.activations.items()
    }
    # Weights that AdaRound rounded lie on levels already, from which training moves them on.
    latent = {name: each.weight for name, each in rounded.items()} if settings.rounding == "adaround" else {}
    corrected = {name: each.bias for name, each in rounded.items() if each.bias is not None}
    return Trainable(bench.simulation, weights, activations, latent, corrected if settings.bias_correction else {})


def _learning(fitted: Quantizer, settings: QatSettings, *, batched: bool) -> Quantizer:
    """Return the levels that train, starting from those that calibration found."""
    if isinstance(fitted, MidriseQuantizer) and settings.levels == "learned":
        return LearnedMidriseQuantizer(fitted)
    if not isinstance(fitted, AffineQuantizer):
        name = settings.activation_scheme if batched else settings.weight_scheme
        raise VeriQuantError(
            f"levels of scheme {name!r} cannot be trained as {settings.levels!r}: choose symmetric or asymmetric, or "
            "midrise for weights with learned levels"
        )
    symmetric = (settings.activation_scheme if batched else settings.weight_scheme).startswith("symmetric")
    if settings.levels == "observed":
        return ObservedQuantizer.like(fitted, running=batched, symmetric=symmetric)
    return LearnedStepQuantizer.of(fitted, batched=batched, learn_offset=batched and not symmetric)


METHODS.add(
    "qat",
    Method(
        "qat",
        "one precision everywhere, weights and levels trained, label-free on any images; packed in its own bits",
        QatSettings,
        _run,
        lambda settings: settings.train_images + settings.check_images,
        plans=True,
        labelled=lambda settings: settings.loss != TEACHER,
    ),
)
