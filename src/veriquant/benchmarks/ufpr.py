"""UFPR-Periocular: eyes photographed with mobile devices, three protocols of three folds each.

A fold of a protocol has training, validation and test images of its own, so a network of its own: every fold is a
benchmark, and a table gives mean and standard deviation over three (`veriquant.metrics.fold_summary`).

As the source evaluates (Kolf et al., 'Mixed-precision quantization … face and periocular recognition', section 4):
left eyes are mirrored and both eyes are one identity; a listed pair of one person's two eyes, an impostor pair to
UFPR-Periocular, is left out. Rank-k is over the whole test list: each image is searched among all others, and counts at
rank k where one of its k nearest is of the same person, the other eye included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from veriquant.benchmarks.assemble import find_images, finish, folder_of, require_both_kinds, with_other_endings
from veriquant.benchmarks.base import Benchmark, Sample
from veriquant.benchmarks.kinds import BENCHMARKS, BenchmarkKind
from veriquant.data.folder import require_folder
from veriquant.data.ufpr import FOLDS, IMAGES, PROTOCOLS, Eye, Ints, is_left, list_file, read_list, read_pairs, subject
from veriquant.errors import VeriQuantError

FAR = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The operating points of the source's tables 4 and 5."""

_WHO = {
    "closed_world": "closed world: everybody tested was trained on, in other images",
    "open_world": "open world with closed validation: nobody tested was trained on",
    "open_world_valopen": "open world with open validation: nobody tested was trained or validated on",
}
_LAYOUT = (
    f"a folder with {IMAGES}/0001S1I01L.jpg and experimentalProtocol/PROTOCOL/, PROTOCOL one of "
    f"{', '.join(PROTOCOLS)}; FOLD {', '.join(map(str, FOLDS))}"
)


@dataclass(frozen=True)
class _Place:
    """What a user wrote after the colon: ``DIR:PROTOCOL:FOLD``, and ``:val`` where that is allowed."""

    folder: Path
    protocol: str
    fold: int
    part: Literal["test", "val"]

    @property
    def name(self) -> str:
        """What tables call the fold; the folder's name, since not all that has this layout is UFPR-Periocular."""
        return f"{self.folder.resolve().name or 'ufpr'} {self.protocol} fold {self.fold}"


def load_ufpr(argument: str, allow_missing: bool = False) -> Benchmark:
    """Read the listed test pairs of one fold, ``DIR:PROTOCOL:FOLD``; the test images are also searched among them."""
    place = _place("ufpr", argument)
    pairs = read_pairs(place.folder, place.protocol, place.fold)
    samples, kept, missing = _samples(place, pairs.eyes, allow_missing)
    new = np.full(len(pairs.eyes), -1, dtype=np.int64)
    new[kept] = np.arange(len(kept))
    left, right = new[pairs.reference], new[pairs.probe]
    usable = (left >= 0) & (right >= 0)
    genuine = pairs.genuine[usable]
    require_both_kinds(genuine, list_file(place.folder, place.protocol, place.fold, "test"))
    dropped = f"; {pairs.dropped} listed impostor pairs of one person are left out" if pairs.dropped else ""
    return finish(
        name=place.name,
        source=f"ufpr:{argument}",
        protocol=with_other_endings(
            f"Eyes are compared one with one as test_pairs/fold{place.fold} lists them ({_WHO[place.protocol]}); every "
            "test image is searched among all others, the other eye of its person counting; left eyes are mirrored.",
            {sample.name: sample.path for sample in samples if sample.path is not None},
        ),
        samples=samples,
        left=left[usable],
        right=right[usable],
        genuine=genuine,
        folds=None,
        persons=_persons(samples),
        skipped=missing,
        persons_note=f"persons are the numbers in the files' names, both eyes one person{dropped}",
        search=True,
        far=FAR,
    )


def load_ufpr_all(argument: str, allow_missing: bool = False) -> Benchmark:
    """Read the test images of one fold, ``DIR:PROTOCOL:FOLD``, every one against every other; ``:val``: validation."""
    place = _place("ufpr-all", argument)
    eyes = read_list(list_file(place.folder, place.protocol, place.fold, place.part))
    samples, _, missing = _samples(place, eyes, allow_missing)
    persons = _persons(samples)
    people = len(np.unique(persons))
    if people < 2 or people == len(samples):
        raise VeriQuantError(
            f"benchmark ufpr-all:{argument}: {len(samples)} images of {people} persons; expected at least two persons, "
            "one of them with two images"
        )
    nothing = np.empty(0, dtype=np.int64)
    what, who = ("test", _WHO[place.protocol]) if place.part == "test" else ("validation", "to choose by, never tested")
    return finish(
        name=f"{place.name}, {what}, all pairs",
        source=f"ufpr-all:{argument}",
        protocol=with_other_endings(
            f"Every {what} image of the fold is compared with every other ({who}), two eyes of one person being a "
            "genuine comparison; left eyes are mirrored; there are no folds within it.",
            {sample.name: sample.path for sample in samples if sample.path is not None},
        ),
        samples=samples,
        left=nothing,
        right=nothing,
        genuine=nothing.astype(np.bool_),
        folds=None,
        persons=persons,
        skipped=missing,
        persons_note="persons are the numbers in the files' names, both eyes one person",
        all_pairs=True,
        far=FAR,
    )


def _place(kind: str, argument: str) -> _Place:
    part: Literal["test", "val"] = "test"
    text = argument
    if kind == "ufpr-all" and text.rpartition(":")[2] in ("test", "val"):
        text, _, last = text.rpartition(":")
        part = "val" if last == "val" else "test"
    pieces = text.rsplit(":", 2)
    if pieces[-1] in PROTOCOLS:
        raise VeriQuantError(
            f"benchmark {kind}:{argument}: each fold has its own trained network, so it is a benchmark of its own; "
            f"name one of {', '.join(map(str, FOLDS))}, such as {kind}:{text}:1"
        )
    if len(pieces) < 3 or pieces[1] not in PROTOCOLS or pieces[2] not in map(str, FOLDS):
        raise VeriQuantError(
            f"benchmark {kind}:{argument}: expected {kind}:DIR:PROTOCOL:FOLD, such as {kind}:{pieces[0]}:open_world:1; "
            f"protocols: {', '.join(PROTOCOLS)}; folds: {', '.join(map(str, FOLDS))}"
        )
    return _Place(folder_of(pieces[0], kind), pieces[1], int(pieces[2]), part)


def _samples(
    place: _Place, eyes: Sequence[Eye], allow_missing: bool
) -> tuple[tuple[Sample, ...], list[int], tuple[str, ...]]:
    """Return the images that are there, their places in the list, and the names of those that are missing."""
    names = [eye.name for eye in eyes]
    root = require_folder(place.folder / IMAGES, f"images of {place.folder}")
    listed = list_file(place.folder, place.protocol, place.fold, place.part)
    found, missing = find_images(names, root, listed, allow_missing)
    kept = [number for number, name in enumerate(names) if name in found]
    samples = tuple(Sample(names[n], found[names[n]], mirrored=is_left(names[n])) for n in kept)
    return samples, kept, missing


def _persons(samples: Sequence[Sample]) -> Ints:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(subject(sample.name), len(numbers)) for sample in samples], dtype=np.int64)


BENCHMARKS.add(
    "ufpr",
    BenchmarkKind(
        name="ufpr",
        summary="UFPR-Periocular: the listed pairs of eyes of one protocol's fold, and rank-k over its test images",
        layout=f"{_LAYOUT}, with test_pairs/",
        load=load_ufpr,
        argument="DIR:PROTOCOL:FOLD",
    ),
)
BENCHMARKS.add(
    "ufpr-all",
    BenchmarkKind(
        name="ufpr-all",
        summary="the same test images, every one against every other; with :val the validation images",
        layout="as for ufpr, without test_pairs/",
        load=load_ufpr_all,
        argument="DIR:PROTOCOL:FOLD[:val]",
    ),
)
