"""AgeDB-30: faces of one person 30 years apart, ten folds of 600 comparisons."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from veriquant.benchmarks.assemble import assemble, best_root, folder_of, listed
from veriquant.benchmarks.base import Benchmark
from veriquant.benchmarks.kinds import BENCHMARKS, BenchmarkKind
from veriquant.data.agedb import read_agedb
from veriquant.errors import VeriQuantError


def load_agedb30(argument: str, allow_missing: bool = False) -> Benchmark:
    """Read an AgeDB folder: the protocol's ``.mat`` at the top and the images in the folder that holds most of them."""
    folder = folder_of(argument, "agedb30")
    list_file = _list_file(folder)
    pairs = read_agedb(list_file)
    others = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return assemble(
        pairs,
        name="AgeDB-30",
        source=f"agedb30:{argument}",
        protocol=(
            "Faces 30 years apart are compared one with one; the threshold for each split of the protocol is chosen on "
            "the others."
        ),
        list_file=list_file,
        root=best_root([*others, folder], listed(pairs)),
        allow_missing=allow_missing,
        person_of=person_of,
        persons_note="persons are the names inside the files' names (number_name_age_sex)",
    )


def person_of(key: str) -> str:
    """Return the person that a file's name carries: ``GarryShandling`` of ``10066_GarryShandling_40_m.jpg``."""
    name = PurePosixPath(key).name
    match = re.match(r"\d+_(.+?)_\d+(?:_|\.|$)", name)
    return match[1] if match else PurePosixPath(key).stem


def _list_file(folder: Path) -> Path:
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.suffix.lower() == ".mat")
    thirty = [entry for entry in files if "30" in entry.name]
    for chosen in (thirty, files):
        if len(chosen) == 1:
            return chosen[0]
    found = ", ".join(entry.name for entry in files) or "no .mat file"
    raise VeriQuantError(f"{folder}: expected one protocol file such as 04_FINAL_protocol_30_years.mat, found {found}")


BENCHMARKS.add(
    "agedb30",
    BenchmarkKind(
        name="agedb30",
        summary="AgeDB-30: 6,000 comparisons across 30 years in ten folds",
        layout="a folder with 04_FINAL_protocol_30_years.mat and the images in 03_Protocol_Images/ or any folder",
        load=load_agedb30,
    ),
)
