"""Images that are tested, kept apart from those that teach or set ranges; and what could not be checked, in words.

Files are recognised as files, however their path is spelt. An image in a container (a RecordIO pack, a .bin file) is no
file: whether it is also elsewhere cannot be told, since it may have been encoded anew, and that is then said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from veriquant.benchmarks import Benchmark
from veriquant.data.encoded_images import FileImages
from veriquant.data.training_set import TrainingSet
from veriquant.errors import VeriQuantError
from veriquant.frontends.sample import Sample


def files_tested(benchmarks: Sequence[Benchmark]) -> set[Path]:
    """Return the files that the benchmarks compare."""
    return {sample.path for benchmark in benchmarks for sample in benchmark.samples if sample.path is not None}


def refuse_tested(key: str, training_set: TrainingSet, benchmark: Benchmark) -> None:
    """Raise `VeriQuantError` where files of a training set, named under `key`, are compared by a benchmark."""
    if not isinstance(training_set.images, FileImages):
        return
    if common := training_set.places([sample for sample in benchmark.samples if sample.path is not None]):
        raise VeriQuantError(
            f"key '{key}': {len(common)} images of {training_set.source} are compared by {benchmark.source}, such as "
            f"{training_set.where(common[0])}; train on other images, or leave that benchmark to networks that are not "
            "trained on them"
        )


def unrecognised(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Return the benchmarks whose images are no files, so that the same image elsewhere is not recognised."""
    return [each.name for each in benchmarks if any(sample.path is None for sample in each.samples)]


def left_out(samples: Sequence[Sample], benchmarks: Sequence[Benchmark]) -> str:
    """Say whether images of the benchmarks may be among `samples`, from which those that were recognised are gone."""
    if any(sample.path is None for sample in samples):
        return "may be among them: images in a container are not recognised"
    if names := unrecognised(benchmarks):
        return (
            f"left out; those of {', '.join(names)} are in a container and may be among them: they are not recognised"
        )
    return "left out"


def none_trained_on(training_set: TrainingSet, benchmarks: Sequence[Benchmark]) -> str:
    """Say whether images of the benchmarks may be in a training set that was not refused."""
    if not isinstance(training_set.images, FileImages):
        return "may be among them: images in a container are not recognised"
    names = unrecognised(benchmarks)
    return f"none but perhaps those of {', '.join(names)}, which are in a container" if names else "none"
