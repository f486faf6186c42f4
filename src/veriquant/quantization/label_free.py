"""Label-free training of a network on the bench: the full-precision network teaches, any images serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from veriquant.allocation.sensitivity import cache_folder
from veriquant.data.calibration import Calibration
from veriquant.data.digest import samples_digest
from veriquant.data.training_set import from_calibration
from veriquant.errors import VeriQuantError
from veriquant.files import json_digest
from veriquant.networks.network import Network
from veriquant.quantization.simulated import Bench, on_the_bench
from veriquant.quantization.trained_settings import TrainedSettings
from veriquant.schemes.observed import ObservedQuantizer
from veriquant.simulation.trainable import Trainable
from veriquant.training.augment import PRESETS
from veriquant.training.distillation import Distillation
from veriquant.training.loader import Batches
from veriquant.training.loop import train


def bench_and_batches(network: Network, settings: TrainedSettings, calibration: Calibration) -> tuple[Bench, Batches]:
    """Return the network on the bench, and the batches that train it: the check images are not among them."""
    count = len(calibration.samples)
    checks = min(settings.check_images, count // 4)
    if count - checks < settings.batch_size:
        raise VeriQuantError(
            f"{calibration.source} gives {count} images, of which {checks} check the result: fewer than one batch of "
            f"{settings.batch_size} is left to train on; name a folder with more, or set a smaller batch_size"
        )
    fit = min(settings.images, count - checks)
    bench = on_the_bench(network, settings, _some(calibration, [*range(fit), *range(count - checks, count)]))
    trained = from_calibration(_some(calibration, range(count - checks)))
    batches = Batches(
        trained,
        network.spec,
        settings.batch_size,
        seed=settings.seed,
        workers=settings.workers,
        augmentation=PRESETS.get(settings.augmentation),
    )
    return bench, batches


def learn_from_teacher(
    bench: Bench, student: Trainable, batches: Batches, settings: TrainedSettings, recipe: Mapping[str, Any]
) -> str:
    """Train `student` in place, from where an earlier run of the same `recipe` was cut off; return how it went."""
    freeze_at = round(settings.observe * settings.epochs * len(batches))
    task = _Lesson(student, Trainable(bench.simulation, {}, {}), settings, freeze_at)
    folder = cache_folder().parent / "training" / json_digest(recipe)
    history = train(task, batches, settings.loop(), folder, recipe=recipe)
    student.eval()
    cosine = history.epochs[-1]["cosine"]
    return f"{settings.epochs} epochs of {len(batches)} batches, cosine {cosine:.4f} in the last"


class _Lesson(Distillation):
    """A distillation in which observed ranges are frozen at a step."""

    def __init__(self, student: Trainable, teacher: Trainable, settings: TrainedSettings, freeze_at: int) -> None:
        super().__init__(student, teacher, settings.distance, settings.levels_rate)
        self._freeze_at = freeze_at

    def before_step(self, step: int) -> None:
        """See `Task.before_step`."""
        if step == self._freeze_at:
            for module in self.modules():
                if isinstance(module, ObservedQuantizer):
                    module.freeze()


def _some(calibration: Calibration, places: Iterable[int]) -> Calibration:
    samples = tuple(calibration.samples[place] for place in places)
    return replace(calibration, samples=samples, digest=samples_digest(samples))
