"""InsightFace ``.bin`` files: pairs of encoded images without names."""

from __future__ import annotations

import os

import numpy as np

from veriquant.benchmarks.assemble import contiguous_folds, finish, interleaved_folds, joined
from veriquant.benchmarks.base import Benchmark
from veriquant.benchmarks.kinds import BENCHMARKS, BenchmarkKind
from veriquant.data.insightface_bin import read_bin
from veriquant.errors import VeriQuantError
from veriquant.files import given_path
from veriquant.frontends.sample import Sample


def load_bin(argument: str, allow_missing: bool = False) -> Benchmark:
    """Read a ``.bin``; images with the same bytes are one sample. Nothing can be missing, so the flag has no effect."""
    path = given_path(argument)
    if not os.path.isfile(path):
        state = "is a folder, not a file" if os.path.isdir(path) else "does not exist"
        raise VeriQuantError(f"benchmark bin: {path} {state}")
    content = read_bin(path)
    if content.genuine.all() or not content.genuine.any():
        kind = "genuine" if content.genuine.all() else "impostor"
        raise VeriQuantError(
            f"{path}: all {len(content.genuine)} comparisons are {kind}, and a benchmark needs both kinds"
        )
    numbers: dict[bytes, int] = {}
    samples: list[Sample] = []
    sides = np.empty(len(content.images), dtype=np.int64)
    for item, image in enumerate(content.images):
        sides[item] = numbers.setdefault(image, len(samples))
        if sides[item] == len(samples):
            samples.append(Sample(f"{path.name}[{item}]", content=image))
    left, right = sides[0::2].copy(), sides[1::2].copy()
    folds, how = contiguous_folds(content.genuine), "the file is cut in order into ten folds"
    if folds is None:
        folds, how = interleaved_folds(content.genuine), "each of ten folds is a tenth of both kinds of comparison"
    how += ", and the threshold for each is chosen on the others"
    if folds is None:
        how = "there are too few comparisons for folds"
    persons = joined(len(samples), left[content.genuine], right[content.genuine])
    note = (
        "the file carries no names: images joined by genuine comparisons count as one person, so a person whose images "
        "are never compared with each other counts as several"
    )
    if contrary := int((~content.genuine & (persons[left] == persons[right])).sum()):
        note += f"; {contrary} impostor comparisons are of one person so inferred, and are kept as the file has them"
    return finish(
        name=path.stem,
        source=f"bin:{argument}",
        protocol=f"Images are compared one with one, as the file pairs them; {how}.",
        samples=tuple(samples),
        left=left,
        right=right,
        genuine=content.genuine,
        folds=folds,
        persons=persons,
        persons_known=False,
        persons_note=note,
    )


BENCHMARKS.add(
    "bin",
    BenchmarkKind(
        name="bin",
        summary="InsightFace validation file: lfw.bin, cfp_fp.bin, agedb_30.bin, calfw.bin, cplfw.bin",
        layout="a file that holds a pickled (bins, issame); it is read without running what is pickled in it",
        load=load_bin,
        argument="FILE",
    ),
)
