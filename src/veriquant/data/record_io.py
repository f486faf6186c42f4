"""RecordIO packs of face sets: ``train.rec``, ``train.idx`` and ``property``, read image by image, never as a whole.

Record 0 holds no image but the labels ``[a, b]``: the records 1..a−1 are images, the records a..b−1 are people, each
with the labels ``[first, last + 1]`` of its images. A pack whose record 0 is an image holds images only.
``train.idx`` has lines ``record<TAB>offset``, ``property`` one line ``people,height,width``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from veriquant.checks import cut, whole_number
from veriquant.data.record_file import RecordFile, append, pack, unpack
from veriquant.data.text import read_lines, shown, wrong
from veriquant.errors import VeriQuantError
from veriquant.files import atomic_path, write_text
from veriquant.progress import bar

Integers = npt.NDArray[np.int64]

#: The bar is moved once for so many records.
_STRIDE = 1000


#: A part of a large set may keep the number of people of the whole, but memory is set aside for each of them.
_PEOPLE_AN_IMAGE, _MOST_WITHOUT_IMAGES = 10, 100_000


@dataclass(frozen=True, eq=False)
class RecordPack:
    """The n labelled images of a pack; picklable, 24 bytes of memory an image.

    `keys`: int64 (n,), record numbers as in ``train.idx``. `offsets`: int64 (n,), where the records begin, in bytes.
    `labels`: int64 (n,), 0..classes−1.
    """

    file: RecordFile
    keys: Integers
    offsets: Integers
    labels: Integers
    classes: int
    note: str
    """What was missing or assumed, one sentence each; empty where the pack is complete."""

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, index: int) -> bytes:
        """Return encoded image `index`; a record whose label is not the one of its person raises `VeriQuantError`."""
        labels, image = unpack(self.file.content(int(self.offsets[index])), self.where(index))
        if labels[0] != self.labels[index]:
            raise VeriQuantError(
                f"{self.where(index)}: expected label {self.labels[index]}, that of its person's other images, "
                f"found {labels[0]:g}"
            )
        return image

    def where(self, index: int) -> str:
        """Return the name of image `index` as errors give it."""
        return f"{self.file.path}, record {self.keys[index]} at byte {self.offsets[index]}"


def open_pack(folder: Path) -> RecordPack:
    """Open ``train.rec`` in `folder`, with ``train.idx`` and ``property`` where they are there.

    Without ``train.idx`` the file is walked through once; without ``property`` the number of people is that of the
    labels. Both are told in `RecordPack.note`. Labels come from the records of the people where these cover all images
    (two look-ups a person), else from every image; `RecordPack.read` checks each image's own.
    """
    file = RecordFile(folder / "train.rec")
    notes = []
    if (folder / "train.idx").exists():
        keys, offsets = _read_index(folder / "train.idx", file)
    else:
        offsets = file.scan()
        keys = np.arange(len(offsets))
        notes.append("train.idx is missing: records are numbered in the order in which train.rec holds them.")
    if not len(keys):
        raise VeriQuantError(f"{file.path} holds no records")
    contents = _Contents(file, keys, offsets)
    labels = contents.labels()
    classes = _read_property(folder / "property")
    if classes is not None and classes > _PEOPLE_AN_IMAGE * len(labels) + _MOST_WITHOUT_IMAGES:
        raise VeriQuantError(
            f"{folder / 'property'} says {classes} people, and {file.path} holds {len(labels)} images: one of the two "
            "is another set's"
        )
    if classes is None:
        notes.append("property is missing: the number of people is one more than the highest label.")
    return RecordPack(
        file=file,
        keys=keys[contents.images],
        offsets=offsets[contents.images],
        labels=_checked(labels, classes, file, keys[contents.images]),
        classes=classes or int(labels.max()) + 1,
        note=" ".join(notes),
    )


class _Contents:
    """Which records of a pack are images and which are people."""

    def __init__(self, file: RecordFile, keys: Integers, offsets: Integers) -> None:
        self.file, self.keys, self.offsets = file, keys, offsets
        self.images, self.people = slice(0, len(keys)), slice(0, 0)
        if keys[0] != 0:
            return
        labels, image = unpack(file.content(int(offsets[0])), f"{file.path}, record 0")
        if len(labels) < 2 or image:
            return
        first, end = labels[:2]
        if not (first.is_integer() and end.is_integer() and 1 < first <= end):
            raise VeriQuantError(
                f"{file.path}, record 0: expected labels [a, b] with 1 < a <= b, for images 1..a-1 and people a..b-1; "
                f"found [{first:g}, {end:g}]"
            )
        if len(keys) < end or keys[int(end) - 1] != end - 1:
            raise VeriQuantError(
                f"{file.path}, record 0 promises the records 1 to {end - 1:.0f}; {len(keys) - 1} are there"
                ": the file is cut off, or its .idx belongs to another one"
            )
        self.images, self.people = slice(1, int(first)), slice(int(first), int(end))

    def labels(self) -> npt.NDArray[np.float64]:
        """Return the label of each image, float64 as it stands in the file."""
        by_person = self._labels_by_person()
        if by_person is not None:
            return by_person
        offsets = self.offsets[self.images]
        found = np.empty(len(offsets))
        for number, offset in _followed(offsets, f"labels of {self.file.path.name}"):
            found[number] = self.file.labels(offset, most=1)[0]
        return found

    def _labels_by_person(self) -> npt.NDArray[np.float64] | None:
        """Return the labels by the ranges of the people; None where these leave images out or contradict them."""
        people, images = self.offsets[self.people], self.offsets[self.images]
        found = np.full(len(images), np.nan)
        for number, offset in _followed(people, f"people of {self.file.path.name}"):
            span = self.file.labels(offset, most=2)
            if len(span) < 2 or not (all(map(float.is_integer, span)) and 1 <= span[0] <= span[1] <= len(images) + 1):
                raise VeriQuantError(
                    f"{self.file.path}, record {self.keys[self.people][number]}: expected the range of a person's "
                    f"images within 1 to {len(images) + 1}, found {', '.join(f'{value:g}' for value in span)}"
                )
            first, end = int(span[0]) - 1, int(span[1]) - 1
            if first == end:
                continue
            ends = {self.file.labels(int(images[at]), most=1)[0] for at in (first, end - 1)}
            if len(ends) > 1 or not np.isnan(found[first:end]).all():
                return None
            found[first:end] = ends.pop()
        return None if np.isnan(found).any() else found


def _followed(offsets: Integers, description: str) -> Iterator[tuple[int, int]]:
    with bar(description, len(offsets)) as advance:
        for number in range(len(offsets)):
            yield number, int(offsets[number])
            if (number + 1) % _STRIDE == 0:
                advance(_STRIDE)


def _checked(labels: npt.NDArray[np.float64], classes: int | None, file: RecordFile, keys: Integers) -> Integers:
    """Return labels as int64; `VeriQuantError` names the first that is no whole number of 0..classes−1."""
    # where nobody says how many people there are, more people than images cannot be meant
    most = classes or len(labels)
    wrong_ones = np.flatnonzero(~((labels >= 0) & (labels < most) & (labels == np.floor(labels))))
    if len(wrong_ones):
        why = f"property says {classes} people" if classes else f"there are {len(labels)} images, and no property file"
        raise VeriQuantError(
            f"{file.path}, record {keys[wrong_ones[0]]}: expected a label from 0 to {most - 1} ({why}), "
            f"found {labels[wrong_ones[0]]:g}; {len(wrong_ones)} of {len(labels)} labels are out of range"
        )
    return labels.astype(np.int64)


def _read_index(path: Path, file: RecordFile) -> tuple[Integers, Integers]:
    """Return record numbers, ascending, and their offsets from lines ``number<TAB>offset``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which is told of below
            table = np.loadtxt(path, dtype=np.int64, comments=None, ndmin=2)
    except (OSError, ValueError) as error:
        raise VeriQuantError(
            f"{path}: expected lines 'number<TAB>offset': {cut(' '.join(str(error).split()))}"
        ) from error
    if not len(table):
        raise VeriQuantError(f"{path} is empty; without it the records are found by walking through {file.path.name}")
    if table.shape[1:] != (2,):
        raise VeriQuantError(f"{path}: expected lines 'number<TAB>offset', found {table.shape[1]} columns")
    keys, offsets = table.T
    order = np.argsort(keys, kind="stable")
    keys, offsets = keys[order], offsets[order]
    twice = np.flatnonzero(np.diff(keys) == 0)
    if len(twice):
        raise VeriQuantError(f"{path}: record {keys[twice[0]]} is listed twice")
    outside = np.flatnonzero((offsets < 0) | (offsets >= file.size))
    if len(outside):
        raise VeriQuantError(
            f"{file.path} is truncated: {path.name} puts record {keys[outside[0]]} at byte {offsets[outside[0]]}, "
            f"the file has {file.size} bytes ({len(outside)} of {len(keys)} records lie outside); copy the file again"
        )
    return keys, offsets


def _read_property(path: Path) -> int | None:
    """Return the number of people from ``property`` (``people,height,width``), None where there is no such file."""
    if not path.exists():
        return None
    line = read_lines(path)[0]
    first = line.split(",")[0].strip()
    people = whole_number(first)
    if not people:
        wrong(path, 1, "'people,height,width'", shown(line))
    return people


def write_records(
    folder: Path,
    read: Callable[[int], bytes],
    labels: Sequence[int] | Integers,
    *,
    classes: int | None = None,
    size: tuple[int, int] = (112, 112),
) -> None:
    """Write ``train.rec``, ``train.idx`` and ``property`` of a face set to `folder`.

    `read(i)` gives encoded image i, `labels` its person, 0..classes−1 (`classes`: None for one more than the highest).
    Images are written by person, in their order within each; `size` (height, width) is only noted in ``property``. Each
    file appears when it is complete.
    """
    wanted = np.asarray(labels, dtype=np.int64)
    classes = int(wanted.max(initial=-1)) + 1 if classes is None else classes
    if not len(wanted) or wanted.min() < 0 or wanted.max() >= classes:
        raise VeriQuantError(f"{folder}: expected at least one image, with labels from 0 to {classes - 1}")
    order = np.argsort(wanted, kind="stable")
    ends = np.searchsorted(wanted[order], np.arange(classes + 1)) + 1
    people = len(wanted) + 1

    def contents() -> Iterator[bytes]:
        yield pack(0, (people, people + classes), b"")
        for key, index in enumerate(order.tolist(), 1):
            yield pack(key, (int(wanted[index]),), read(index))
        for person in range(classes):
            yield pack(people + person, (int(ends[person]), int(ends[person + 1])), b"")

    with atomic_path(folder / "train.rec") as records, open(records, "wb") as file:
        offsets = [append(file, content) for content in contents()]
    write_text(folder / "train.idx", "".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)))
    write_text(folder / "property", f"{classes},{size[0]},{size[1]}\n")
