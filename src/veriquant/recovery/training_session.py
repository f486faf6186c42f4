"""`TrainingSession`: what trains a calibrated network: full-precision embeddings, or the names of people.

Without labels the loss is the distance of the embeddings to the full-precision network's. With a training set (kolf,
section 4.4) it is a margin head's; its class vectors begin as the mean full-precision embedding of each person, about
where the head that trained the network had them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from veriquant.caches.folder import cache_folder
from veriquant.calibration.config import CalibrationConfig
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.model import CalibratedModel
from veriquant.code_digest import import_digest
from veriquant.data.calibration import Calibration
from veriquant.data.digest import samples_digest
from veriquant.data.training_set import TrainingSet, from_calibration
from veriquant.errors import VeriQuantError
from veriquant.files import json_digest
from veriquant.locks import locked
from veriquant.progress import tell, track
from veriquant.recovery.qat_config import QatConfig
from veriquant.results import remark
from veriquant.schemes.observed import ObservedQuantizer
from veriquant.simulation.trainable import Trainable
from veriquant.training.augment import PRESETS
from veriquant.training.checkpoint import LAST, DamagedStateError
from veriquant.training.distillation import Distillation, ParameterScales, difference, grouped
from veriquant.training.heads import Head, make_head
from veriquant.training.loader import Batches
from veriquant.training.loop import train
from veriquant.training.start import seeded
from veriquant.training.task import Recognition, Task

#: Images of a person whose mean embedding a class vector begins as.
_IMAGES_A_CENTRE = 20
#: Images that tell how large parameters are.
_PROBES = 8
#: The length of a class vector at the start, that of a drawn one: an optimizer turns shorter ones faster.
_CENTRE_STD = 0.01


@dataclass(frozen=True)
class Split:
    """Which calibration images set ranges and check, and which may train: by their places."""

    places: list[int]
    """Those of `calibrate_model`: the first `fit` set ranges, the last `checks` check."""
    fit: int
    checks: int

    @classmethod
    def of(cls, calibration: Calibration, images: CalibrationConfig, config: QatConfig) -> Split:
        """Return how many images set ranges and how many check, at most a quarter: most are to train.

        Raises `VeriQuantError` where nothing would be left to train on.
        """
        count, least = len(calibration.samples), 2 if config.labelled else 3
        if count < least:
            trains = "one to set ranges" if config.labelled else "two to train on, which set ranges too"
            raise VeriQuantError(
                f"{calibration.source} gives {count} image{'s' * (count != 1)}{calibration.without}; at least {least} "
                f"are needed: {trains}, and one to check the result that training never sees; name a folder with "
                "thousands"
            )
        checks = max(1, min(images.check_images, count // 4))
        fit = min(images.images, count - checks)
        return cls([*range(fit), *range(count - checks, count)], fit, checks)

    def calibration(self, calibration: Calibration) -> Calibration:
        """Return the images that set ranges and check."""
        return _some(calibration, self.places)


@dataclass(frozen=True)
class TrainingSession:
    """What a calibrated model is trained with."""

    model: CalibratedModel
    batches: Batches
    training_set: TrainingSet
    config: QatConfig
    known: int
    """How many of the images that check the result it is trained on."""
    say: Callable[[str], None] | None = None

    @property
    def summary(self) -> str:
        """What it is trained with, in words."""
        people = f"{self.config.loss} on {self.training_set.classes} people"
        what = people if self.config.labelled else "the embeddings' distance"
        return f"{what}, {len(self.training_set)} images"

    @cached_property
    def centres(self) -> Tensor:
        """The mean full-precision embedding of each person, see `_centres`: the same for all iterations of a run."""
        return _centres(self)

    @property
    def checked(self) -> str:
        """What the result is checked on, in words."""
        images = f"{len(self.model.check)} images"
        return f"{images}, {self.known} of which it was trained on" if self.known else f"{images} that it never saw"


def open_session(
    model: CalibratedModel, config: QatConfig, calibration: Calibration, split: Split, context: QuantizationContext
) -> TrainingSession:
    """Return the batches that train a calibrated model.

    Without labels these are the images of `calibration`, but for those that check; with labels `calibration` only sets
    ranges and checks, and `TrainingSession.checked` says how many of the checked images are in the training set. Raises
    `VeriQuantError` where there are too few images or people.
    """
    count = len(calibration.samples)
    # A network of fixed batch size may leave some out: what checks is behind what it was really fitted on.
    checking = split.places[len(model.fit) : len(model.fit) + len(model.check)]
    if not config.labelled:
        trained = from_calibration(_some(calibration, sorted({*range(count)}.difference(checking))))
    elif context.training_set is None:
        raise VeriQuantError(f"loss {config.loss!r} needs to know whose images they are: name a training set")
    elif context.training_set.classes < 2:
        raise VeriQuantError(
            f"{context.training_set.source} gives {context.training_set.classes} person: loss {config.loss!r} tells "
            "people apart, so name a training set of several, or train without labels (loss=teacher)"
        )
    else:
        trained = context.training_set
    size = min(config.batch_size, len(trained))
    if size < config.batch_size:
        few = f"only {size} images to train on, a batch of them in place of {config.batch_size}"
        model.records.append(remark("recover", few))
    batches = Batches(
        trained,
        model.network.spec,
        size,
        seed=config.seed,
        workers=config.workers,
        augmentation=PRESETS.get(config.augmentation),
    )
    known = len(trained.places([calibration.samples[place] for place in checking]))
    return TrainingSession(model, batches, trained, config, known, context.say)


def train_qat(
    session: TrainingSession,
    student: Trainable,
    key: Mapping[str, Any],
    *,
    epochs: int,
    bits: float,
    part: str = "",
) -> str:
    """Train `student` in place, from where an earlier run of the same `key` was cut off; return how it went.

    An earlier run is one of the same code and the same PyTorch: what others trained lies in folders of its own.
    `bits`: the average width of its weights. `part`: as in `train`.
    """
    config, batches = session.config, session.batches
    loop = config.loop(epochs, bits)
    code = import_digest("veriquant.recovery")
    whole = {**key, "loop": loop.decisive(), "code": code, "torch": str(torch.__version__)}
    folder = cache_folder("training") / json_digest(whole)
    what = "loss" if config.labelled else "cosine"

    def trained() -> Mapping[str, float]:
        """Return the figures of the last epoch."""
        task = _task(session, student, begun=(folder / LAST).exists())
        task.freeze_at = round(config.observe * epochs * len(batches))
        figures = train(task, batches, loop, folder, recipe=whole, say=session.say, part=part).epochs[-1]
        if what not in figures:
            raise DamagedStateError(f"{folder / LAST}: its epochs have no {what}")
        return figures

    with _alone(folder):
        try:
            figures = trained()
        except DamagedStateError as error:
            tell(f"{error}; as it is kept by VeriQuant itself, it is removed, and trained again from the start")
            (folder / LAST).unlink(missing_ok=True)
            figures = trained()
    student.eval()
    return f"{epochs} epochs of {len(batches)} batches, {what} {figures[what]:.4f} in the last"


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Hold a training's folder, which all studies share; one that cannot be written can only be read from."""
    if folder.is_dir() and not os.access(folder, os.W_OK):
        return nullcontext()
    advice = "wait for it and take what it has trained, or give this one another cache ($VERIQUANT_CACHE)"
    return locked(folder, "another run of this very training", advice)


def _task(session: TrainingSession, student: Trainable, *, begun: bool) -> _Distil | _Recognise:
    """Return what is trained; a run that was `begun` takes its class vectors from its state, none are looked for."""
    config, model = session.config, session.model
    full = Trainable(model.simulation, {}, {})
    scales = student.parameter_scales(model.fit[:_PROBES])
    way = _on_the_way(student, config.feature_tensors) if config.feature_weight else ()
    rates = {"weight": config.feature_weight, "levels_rate": config.quantizer_lr}
    if not config.labelled:
        return _Distil(student, full, config.distance, on_the_way=way, scales=scales, **rates)
    dim, classes = model.network.dim, session.training_set.classes
    with seeded(config.seed, "head"):
        head = make_head(config.loss, dim, classes, scale=config.scale, margin=config.margin)
    if not begun:
        with torch.no_grad():
            # A class without images keeps its drawn vector: the gradient of a vector of zeros is beyond all bounds.
            seen = session.centres.any(dim=1)
            head.weight[seen] = session.centres[seen]
    scales[head.weight] = torch.tensor(_CENTRE_STD)
    return _Recognise(student, head, full, on_the_way=way, scales=scales, **rates)


def _on_the_way(student: Trainable, count: int) -> tuple[str, ...]:
    """Return at most `count` quantized tensors between input and embeddings, evenly spread, the last among them."""
    tensors = sorted(student.tensors, key=student.simulation.steps.names.__getitem__)
    count = min(count, len(tensors))
    return tuple(tensors[round((number + 1) * len(tensors) / count) - 1] for number in range(count))


class _Freezing(Task):
    """A task in which observed ranges are frozen at a step."""

    freeze_at = 0

    def before_step(self, step: int) -> None:
        """See `Task.before_step`."""
        if step == self.freeze_at:
            for module in self.modules():
                if isinstance(module, ObservedQuantizer):
                    module.stop_observing()


class _Distil(_Freezing, Distillation):
    """Learns from the teacher."""


class _Recognise(_Freezing, Recognition):
    """Learns to tell people apart, held on the way to what the full-precision network computes."""

    def __init__(
        self,
        network: Trainable,
        head: Head,
        full: Trainable,
        *,
        on_the_way: Sequence[str],
        weight: float,
        levels_rate: float,
        scales: ParameterScales,
    ) -> None:
        super().__init__(network, head)
        self.full = full.requires_grad_(False)
        self._networks = network, full
        self._on_the_way, self._weight = tuple(on_the_way), weight
        self._levels_rate, self._scales = levels_rate, scales

    def loss(self, images: Tensor, labels: Tensor) -> Tensor | Mapping[str, Tensor]:
        """See `Recognition.loss`; with tensors on the way also their ``difference`` to the full-precision ones."""
        if not self._on_the_way:
            return super().loss(images, labels)
        student, full = self._networks
        with torch.no_grad():
            wanted = full.forward_features(images, self._on_the_way)[1]
        embeddings, given = student.forward_features(images, self._on_the_way)
        apart = difference(given, wanted)
        return {"loss": self.head(embeddings, labels) + self._weight * apart, "difference": apart.detach()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See `Task.parameter_groups`."""
        return grouped(self, self._levels_rate, self._scales)


def _centres(session: TrainingSession) -> Tensor:
    """Return each person's mean full-precision embedding as a class vector, float32 (classes, dim).

    All are of the length of a drawn one, but for classes without images, which a pack may have: zeros.
    """
    full = Trainable(session.model.simulation, {}, {})
    labels = session.training_set.labels
    order = np.argsort(labels, kind="stable")
    place = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    chosen = np.sort(order[place < _IMAGES_A_CENTRE])
    dim = session.model.network.dim
    sums = torch.zeros(session.training_set.classes, dim)
    source = session.batches.plain(chosen)
    with torch.inference_mode():
        for images, people in track(source, "class centres", total=-(-len(chosen) // session.batches.batch_size)):
            # an embedding without a direction adds nothing to its person's
            sums.index_add_(0, people, F.normalize(full(images)).nan_to_num(0.0))
    centres: Tensor = F.normalize(sums) * (_CENTRE_STD * dim**0.5)
    return centres


def _some(calibration: Calibration, places: Iterable[int]) -> Calibration:
    samples = tuple(calibration.samples[place] for place in places)
    return replace(calibration, samples=samples, digest=samples_digest(samples), requested=len(samples))
