"""UFPR-Periocular's layout: lists of eye images and lists of pairs, by protocol and fold.

Below the data set's folder lie the images in ``periocularCropped/`` and, for each protocol and fold,
``experimentalProtocol/{protocol}/{train,val,test}_fold{1,2,3}.txt`` with lines ``filename class age gender`` and
``experimentalProtocol/{protocol}/test_pairs/fold{1,2,3}/*.txt`` with lines ``probe reference 0|1``. A class is one eye
of one person.

A file name carries the person before its session (``0001`` of ``0001S1I01R.jpg``, whose ``S1I01`` is the first image of
the first session) and the eye at its end. Left eyes are shown mirrored and both eyes are one identity (Uzair et al.,
2013, as Kolf et al. evaluate); who reads a list for that purpose marks the images that `is_left` names.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from veriquant.checks import whole_number
from veriquant.data.folder import IMAGE_SUFFIXES, require_folder
from veriquant.data.listed_images import same_letters, without_ending
from veriquant.data.text import columns, read_lines, shown, wrong
from veriquant.errors import VeriQuantError

Ints = npt.NDArray[np.int64]
Part = Literal["train", "val", "test"]

PROTOCOLS = {
    "closed_world": "closed world",
    "open_world": "open world, closed validation",
    "open_world_valopen": "open world, open validation",
}
"""The folders' names and what the protocols are called. Closed world: everybody tested was trained on (identification).
Open world: nobody was; with open validation nobody is in two of the three lists."""
FOLDS = (1, 2, 3)
IMAGES = "periocularCropped"

_SESSION = re.compile(r"(.+?)S\d+I\d+[LR]$")
_EXPECTED = "a file name such as 0001S1I01L.jpg: the person in front, L or R at the end"


class Eye(NamedTuple):
    """One line of a list: an image of one eye. `age` and `gender` stand as the file has them."""

    name: str
    eye_class: int
    age: str
    gender: str


@dataclass(frozen=True)
class FoldPairs:
    """The test images of a fold in the order of their list, and m comparisons between them.

    `probe`, `reference`: int64 (m,), places in `eyes`. `genuine`: bool (m,). `dropped` counts the pairs that are listed
    as impostors although both eyes are one person's.
    """

    eyes: tuple[Eye, ...]
    probe: Ints
    reference: Ints
    genuine: npt.NDArray[np.bool_]
    dropped: int


def subject(name: str) -> str:
    """Return the person whose eye an image shows: ``0001`` of ``0001S1I01L.jpg``.

    What stands before the session is the person; in a name without a session, the first four characters. Raises
    `VeriQuantError` for a name that is not one of an eye's image.
    """
    stem = _stem(name)
    match = _SESSION.match(stem)
    return match[1] if match else stem[:4]


def is_left(name: str) -> bool:
    """Tell whether an image shows a left eye; raises `VeriQuantError` as `subject` does."""
    return _stem(name).endswith("L")


def list_file(folder: Path, protocol: str, fold: int, part: Part) -> Path:
    """Return the path of a list below the data set's folder; `VeriQuantError` for an unknown protocol or fold."""
    return _protocol_folder(folder, protocol, fold) / f"{part}_fold{fold}.txt"


def read_list(path: Path) -> list[Eye]:
    """Return the images of a list, in order.

    Raises `VeriQuantError` naming file and line where a line is no ``filename class age gender``, a name does not tell
    person and eye, an image is listed twice, or names and classes contradict each other: one eye of one person has one
    class, and a class is one person's.
    """
    eyes: list[Eye] = []
    lines_of: dict[str, int] = {}
    classes: dict[tuple[str, bool], tuple[int, int]] = {}
    people: dict[int, tuple[str, int]] = {}
    for number, line in enumerate(read_lines(path), 1):
        parts = columns(line)
        eye_class = whole_number(parts[1]) if len(parts) == 4 else None
        if eye_class is None:
            wrong(path, number, "'filename class age gender' with a number for class", shown(line))
        eye = Eye(parts[0], eye_class, parts[2], parts[3])
        _check_name(path, number, eye.name)
        first = lines_of.setdefault(eye.name, number)
        if first != number:
            wrong(path, number, f"each image once, and line {first} has it", eye.name)
        who, left = subject(eye.name), is_left(eye.name)
        known, at = classes.setdefault((who, left), (eye.eye_class, number))
        if known != eye.eye_class:
            side = "left" if left else "right"
            wrong(path, number, f"class {known}, as line {at} has for the {side} eye of {who}", str(eye.eye_class))
        owner, at = people.setdefault(eye.eye_class, (who, number))
        if owner != who:
            wrong(path, number, f"an eye of {owner}, whose class {eye.eye_class} is in line {at}", eye.name)
        eyes.append(eye)
    return eyes


def pair_files(folder: Path, protocol: str, fold: int) -> list[Path]:
    """Return the pair files of a fold, sorted; raises `VeriQuantError` where there are none."""
    place = _protocol_folder(folder, protocol, fold) / "test_pairs" / f"fold{fold}"
    files = sorted(place.glob("*.txt")) if place.is_dir() else []
    if not files:
        raise VeriQuantError(f"{place}: expected pair files, *.txt with lines 'probe reference 0|1', found none")
    return files


def read_pairs(folder: Path, protocol: str, fold: int) -> FoldPairs:
    """Return the test comparisons of a fold with both eyes as one identity, from all its pair files.

    Impostor pairs of one person are dropped and counted: to UFPR-Periocular the two eyes are two classes. Raises
    `VeriQuantError` naming file and line where a line is no ``probe reference 0|1``, an image is not in the fold's test
    list (it might be one that was trained on), is compared with itself, or two people are labelled 1. Names become
    numbers line by line, so that millions of lines take seconds and little memory.
    """
    listed = list_file(folder, protocol, fold, "test")
    eyes = tuple(read_list(listed))
    index = _Numbers(eyes)
    people: dict[str, int] = {}
    person = np.array([people.setdefault(subject(eye.name), len(people)) for eye in eyes], dtype=np.int64)
    parts = [_read_pair_file(path, index, person, listed.name) for path in pair_files(folder, protocol, fold)]
    probe, reference, genuine = (np.concatenate([part[side] for part in parts]) for side in range(3))
    kept = (genuine != 0) | (person[probe] != person[reference])
    return FoldPairs(eyes, probe[kept], reference[kept], genuine[kept] != 0, int((~kept).sum()))


class _Numbers(dict[bytes, int]):
    """The number of each listed image by the bytes of its name, also of one spelt differently (`same_letters`)."""

    def __init__(self, eyes: Sequence[Eye]) -> None:
        super().__init__((eye.name.encode(), number) for number, eye in enumerate(eyes))
        self._alike = {_alike(eye.name): number for number, eye in enumerate(eyes)}

    def knows(self, name: str) -> bool:
        """Return whether an image of this name is listed."""
        return name.encode() in self or _alike(name) in self._alike

    def __missing__(self, name: bytes) -> int:
        return self._alike[_alike(name.decode("utf-8", "replace"))]


def _alike(name: str) -> str:
    """Return what is equal for two spellings of one image's name: letters in one form, the ending in lower case."""
    stem = without_ending(name)
    return same_letters(stem) + name[len(stem) :].lower()


def _read_pair_file(path: Path, index: _Numbers, person: Ints, listed: str) -> tuple[Ints, Ints, Ints]:
    """Return probe, reference and label of each line, int64 (m,); the images as `index` numbers them."""
    probes, references, labels = array("q"), array("q"), array("q")
    known = {b"0": 0, b"1": 1}
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    one, other, told = line.split()
                    probe, reference, label = index[one], index[other], known[told]
                except (ValueError, KeyError):
                    if not line.strip() and not any(rest.strip() for rest in lines):
                        break  # blank lines at the end
                    _complain(path, number, line.decode("utf-8", "replace"), index, listed)
                probes.append(probe)
                references.append(reference)
                labels.append(label)
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    if not probes:
        raise VeriQuantError(f"{path} is empty")
    probe_of, reference_of, label_of = (np.asarray(part, dtype=np.int64) for part in (probes, references, labels))
    for bad, expected in (
        (probe_of == reference_of, "two different images"),
        ((label_of == 1) & (person[probe_of] != person[reference_of]), "label 0 for two people"),
    ):
        if bad.any():
            number = int(bad.argmax()) + 1
            wrong(path, number, expected, shown(_line(path, number)))
    return probe_of, reference_of, label_of


def _complain(path: Path, number: int, line: str, index: _Numbers, listed: str) -> NoReturn:
    parts = line.split()
    if len(parts) != 3 or parts[2] not in ("0", "1"):
        wrong(path, number, "'probe reference 0|1'", shown(line.rstrip("\r\n")))
    stranger = next((name for name in parts[:2] if not index.knows(name)), line)
    wrong(path, number, f"an image that {listed} lists", shown(stranger))


def _line(path: Path, number: int) -> str:
    with open(path, "rb") as lines:
        return next(islice(lines, number - 1, None)).decode("utf-8", "replace").rstrip("\r\n")


def _protocol_folder(folder: Path, protocol: str, fold: int) -> Path:
    if protocol not in PROTOCOLS:
        raise VeriQuantError(f"unknown UFPR protocol {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    if fold not in FOLDS:
        raise VeriQuantError(f"unknown UFPR fold {fold}; there are: {', '.join(map(str, FOLDS))}")
    return require_folder(folder / "experimentalProtocol" / protocol, f"UFPR protocol {protocol}")


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    stem = path.stem
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.name != name or len(stem) < 5 or stem[-1] not in "LR":
        raise VeriQuantError(f"image {name!r}: expected {_EXPECTED}")
    return stem


def _check_name(path: Path, number: int, name: str) -> None:
    try:
        _stem(name)
    except VeriQuantError:
        wrong(path, number, _EXPECTED, repr(name))
