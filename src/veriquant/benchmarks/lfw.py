"""LFW: faces of named people, ten folds of 300 genuine and 300 impostor comparisons."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np

from veriquant.benchmarks.assemble import assemble, best_root, contiguous_folds, folder_of, listed
from veriquant.benchmarks.base import Benchmark
from veriquant.benchmarks.kinds import BENCHMARKS, BenchmarkKind
from veriquant.data.lfw_pairs import read_pairs


def load_lfw(argument: str, allow_missing: bool = False) -> Benchmark:
    """Read an LFW folder with its ``pairs.txt``."""
    folder = folder_of(argument, "lfw")
    list_file = folder / "pairs.txt"
    pairs = read_pairs(list_file)
    how = "the threshold for each fold of pairs.txt is chosen on the others"
    if all(pair.fold is None for pair in pairs):
        folds = contiguous_folds(np.array([pair.genuine for pair in pairs], dtype=np.bool_))
        how = "pairs.txt has no folds"
        if folds is not None:
            pairs = [pair._replace(fold=int(fold)) for pair, fold in zip(pairs, folds, strict=True)]
            how = "pairs.txt is cut in order into ten folds, and the threshold for each is chosen on the others"
    inner = sorted(entry for entry in folder.glob("lfw*") if entry.is_dir())
    return assemble(
        pairs,
        name="LFW",
        source=f"lfw:{argument}",
        protocol=f"Faces of named people are compared one with one; {how}.",
        list_file=list_file,
        root=best_root([folder, *inner], listed(pairs)),
        allow_missing=allow_missing,
        person_of=lambda key: PurePosixPath(key).parent.name,
        persons_note="persons are the folders' names",
    )


BENCHMARKS.add(
    "lfw",
    BenchmarkKind(
        name="lfw",
        summary="Labeled Faces in the Wild: 6,000 comparisons in ten folds",
        layout="a folder with pairs.txt and Name/Name_0001.jpg (or .png), also one folder deeper in lfw*/",
        load=load_lfw,
    ),
)
