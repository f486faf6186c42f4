"""CALFW and CPLFW: LFW's people across age and across pose, 3,000 genuine and 3,000 impostor comparisons."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path, PurePosixPath

from veriquant.benchmarks.assemble import assemble, best_root, folder_of, listed
from veriquant.benchmarks.base import Benchmark
from veriquant.benchmarks.kinds import BENCHMARKS, BenchmarkKind
from veriquant.data.two_line_pairs import read_two_line_pairs
from veriquant.errors import VeriQuantError

#: Folders of images as the publishers and common copies name them, the aligned ones first.
_FOLDERS = ("aligned images", "aligned_images", "aligned", "images", "images&landmarks/images")

_WHAT = {"calfw": "at different ages", "cplfw": "in different poses"}


def load_calfw(kind: str, argument: str, allow_missing: bool = False) -> Benchmark:
    """Read a CALFW or CPLFW folder: its pair file at the top and its images in the folder that holds most of them."""
    folder = folder_of(argument, kind)
    list_file = _list_file(folder, f"pairs_{kind.upper()}.txt")
    pairs = read_two_line_pairs(list_file)
    others = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    roots = [path for name in _FOLDERS if (path := folder / name).is_dir()]
    root = best_root([*roots, folder, *others], listed(pairs))
    inside = root.relative_to(folder).as_posix()
    return assemble(
        pairs,
        name=kind.upper(),
        source=f"{kind}:{argument}",
        protocol=(
            f"Faces of LFW's people {_WHAT[kind]} are compared one with one (images from '{inside}'); each of ten "
            "folds is a tenth of the genuine and a tenth of the impostor pairs in the order of the list, and its "
            "threshold is chosen on the others."
        ),
        list_file=list_file,
        root=root,
        allow_missing=allow_missing,
        person_of=person_of,
        persons_note="persons are the files' names without their number",
    )


def person_of(key: str) -> str:
    """Return the person that a file's name carries: ``Aaron_Eckhart`` of ``Aaron_Eckhart_0001.jpg``."""
    return re.sub(r"[_-]\d+$", "", PurePosixPath(key).stem)


def _list_file(folder: Path, name: str) -> Path:
    files = sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_file() and entry.suffix.lower() == ".txt" and entry.name.lower().startswith("pairs")
    )
    for entry in files:
        if entry.name.lower() == name.lower():
            return entry
    if len(files) == 1:
        return files[0]
    found = ", ".join(entry.name for entry in files) or "no pairs*.txt"
    raise VeriQuantError(f"{folder}: expected {name}, found {found}")


for _kind, _summary in (
    ("calfw", "Cross-Age LFW: 6,000 comparisons in ten folds"),
    ("cplfw", "Cross-Pose LFW: 6,000 comparisons in ten folds"),
):
    BENCHMARKS.add(
        _kind,
        BenchmarkKind(
            name=_kind,
            summary=_summary,
            layout=f"a folder with pairs_{_kind.upper()}.txt and the images in 'aligned images', images or beside it",
            load=partial(load_calfw, _kind),
        ),
    )
