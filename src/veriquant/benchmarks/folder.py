"""Any folder of people: the pairs of its ``pairs.txt``, or every image against every other."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from veriquant.benchmarks.assemble import assemble, finish, folder_of, listed
from veriquant.benchmarks.base import Benchmark
from veriquant.benchmarks.kinds import BENCHMARKS, BenchmarkKind
from veriquant.data.folder import list_images
from veriquant.data.lfw_pairs import read_pairs
from veriquant.data.listed_images import same_letters
from veriquant.errors import VeriQuantError
from veriquant.frontends.sample import Sample


def load_folder(argument: str, allow_missing: bool = False) -> Benchmark:
    """Read ``person/image.jpg`` folders, with ``pairs.txt`` where there is one."""
    folder = folder_of(argument, "folder")
    list_file = folder / "pairs.txt"
    if not list_file.exists():
        return _all_pairs(folder, f"folder:{argument}")
    pairs = read_pairs(list_file)
    named = all(len(PurePosixPath(key.replace("\\", "/")).parts) > 1 for key in listed(pairs))
    folds = any(pair.fold is not None for pair in pairs)
    return assemble(
        pairs,
        name=_name(folder),
        source=f"folder:{argument}",
        protocol="Images are compared one with one, as pairs.txt lists them; "
        + ("the threshold for each of its folds is chosen on the others." if folds else "it has no folds."),
        list_file=list_file,
        root=folder,
        allow_missing=allow_missing,
        person_of=_person if named else None,
        persons_note=(
            "persons are the folders' names"
            if named
            else "pairs.txt names images without folders: images joined by genuine comparisons count as one person"
        ),
    )


def _all_pairs(folder: Path, source: str) -> Benchmark:
    names = list_images(folder)
    flat = [name for name in names if "/" not in name]
    if flat:
        raise VeriQuantError(
            f"benchmark folder: {folder} holds {len(flat)} images outside a person's folder, such as {flat[0]}; "
            "expected person/image.jpg, or a pairs.txt"
        )
    numbers: dict[str, int] = {}
    persons = np.array([numbers.setdefault(_person(name), len(numbers)) for name in names], dtype=np.int64)
    if len(numbers) < 2 or len(names) == len(numbers):
        raise VeriQuantError(
            f"benchmark folder: {folder} holds {len(names)} images of {len(numbers)} persons; expected at least two "
            "persons, one of them with two images, as person/image.jpg"
        )
    nothing = np.empty(0, dtype=np.int64)
    return finish(
        name=_name(folder),
        source=source,
        protocol="Every image is compared with every other; there are no folds.",
        samples=tuple(Sample(name, folder / name) for name in names),
        left=nothing,
        right=nothing,
        genuine=nothing.astype(np.bool_),
        folds=None,
        persons=persons,
        persons_note="persons are the folders' names",
        all_pairs=True,
    )


def _person(key: str) -> str:
    return same_letters(PurePosixPath(key.replace("\\", "/")).parent.as_posix())


def _name(folder: Path) -> str:
    return folder.resolve().name or "folder"


BENCHMARKS.add(
    "folder",
    BenchmarkKind(
        name="folder",
        summary="any folder of people: the comparisons of its pairs.txt, or every image against every other",
        layout="a folder with person/image.jpg, and optionally pairs.txt (LFW's layout, or 'path1 path2 label')",
        load=load_folder,
    ),
)
