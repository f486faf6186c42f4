"""Training sets: encoded images with the person of each, read from the layouts that people have on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from veriquant.checks import quoted, whole_number
from veriquant.data.calibration import Calibration, chosen
from veriquant.data.celeba import identity_list, images_folder, read_identities
from veriquant.data.digest import samples_digest
from veriquant.data.encoded_images import EncodedImages, FileImages, SampleImages
from veriquant.data.folder import list_images, require_folder
from veriquant.data.identity import Identity, sample_identity
from veriquant.data.listed_images import ListedImages, same_letters
from veriquant.data.record_io import RecordPack, open_pack
from veriquant.data.ufpr import IMAGES, is_left, list_file, read_list, subject
from veriquant.errors import VeriQuantError
from veriquant.files import given_path, json_digest
from veriquant.frontends.sample import Sample
from veriquant.progress import working
from veriquant.registry import Registry

Integers = npt.NDArray[np.int64]

#: Sets of more images are named by file names and sizes: to hash hundreds of gigabytes takes longer than is bearable.
HASHED_IMAGES = 100_000


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """n encoded images of `classes` people; goes to worker processes by pickling.

    `labels`: int64 (n,), 0..classes−1. `people`: the people's names by class, None where the format has none.
    `mirror`: bool (n,), the images that are mirrored left-right before anything else, None for none. `digest`: SHA-256
    over the labels and, up to `HASHED_IMAGES`, the images' contents; a larger set by its files' names and sizes, a
    RecordIO pack by its size, the offsets of its records and the contents of some. `note`: sentences on the set.
    """

    name: str
    source: str
    images: EncodedImages
    labels: Integers
    classes: int
    people: tuple[str, ...] | None
    digest: str
    note: str
    mirror: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> bytes:
        """Return encoded image `index`; `VeriQuantError` names one that cannot be read."""
        return self.images.read(index)

    def where(self, index: int) -> str:
        """Return the file, or the record of a file, that holds image `index`."""
        return self.images.where(index)

    def places(self, samples: Sequence[Sample]) -> list[int]:
        """Return which images of this set are among `samples`: the same file, or the same record of a pack."""
        asked = {sample_identity(sample) for sample in samples}
        return [index for index in range(len(self)) if self._identity(index) in asked]

    def _identity(self, index: int) -> Identity:
        if isinstance(self.images, FileImages):
            return sample_identity(self.images.sample(index))
        if isinstance(self.images, SampleImages):
            return sample_identity(self.images.samples[index])
        return self.image_name(index)

    def image_name(self, index: int) -> str:
        """Return what image `index` is called: of a file its name in the folder, of a record its place in the set."""
        if isinstance(self.images, FileImages):
            return self.images.sample(index).name
        return f"{self.name}, image {index}"

    def mirrored(self, index: int) -> bool:
        """Return whether image `index` is to be mirrored left-right: the left eyes of a periocular set are."""
        return self.mirror is not None and bool(self.mirror[index])


@dataclass(frozen=True)
class TrainingKind:
    """One layout on disk: how it is named, what must lie there, and the function that reads it.

    `load(argument)` gets what the user wrote after the colon.
    """

    name: str
    summary: str
    layout: str
    load: Callable[[str], TrainingSet]
    argument: str = "DIR"

    @property
    def usage(self) -> str:
        """How a user writes it."""
        return f"{self.name}:{self.argument}"


TRAINING_SETS: Registry[TrainingKind] = Registry("kind of training set")


def load_training_set(text: str) -> TrainingSet:
    """Read the training set that `text` names, such as ``folder:DIR``, ``rec:DIR`` or ``ufpr:DIR:closed_world:1``.

    No image is decoded. Labelled kinds need at least two people; people with one image are kept and counted in `note`.
    """
    name, colon, argument = text.partition(":")
    if not colon and name not in TRAINING_SETS:
        known = ", ".join(TRAINING_SETS.get(kind).usage for kind in TRAINING_SETS)
        hint = f" (for a folder of people folder:{text})" if os.path.isdir(given_path(text)) else ""
        raise VeriQuantError(f"training set {quoted(text)}: expected kind:path{hint}; there are: {known}")
    kind = TRAINING_SETS.get(name)
    if not argument:
        raise VeriQuantError(f"training set {quoted(text)}: expected {kind.usage}, {kind.layout}")
    return kind.load(argument)


def labelled(text: str) -> str:
    """Return the text of a training set as it is; `ValueError` where it is of no known kind, or of one without labels.

    The type of error is what pydantic turns into a line that names the key.
    """
    kind = text.partition(":")[0]
    try:
        TRAINING_SETS.get(kind)
    except VeriQuantError as error:
        raise ValueError(str(error)) from error
    if kind == "images":
        raise ValueError("images without labels tell nobody apart; name a kind with people, such as folder:DIR")
    return text


def calibration_from(training: TrainingSet, images: int, seed: int = 0, exclude: Collection[Path] = ()) -> Calibration:
    """Choose `images` images of a training set as calibration images, mirrored as they are there; no label is kept.

    `exclude` as in `load_calibration`; the choice depends on the seed and on the images' names, those of records being
    their places: wherever the data lie, the same are chosen.
    """
    files = training.images if isinstance(training.images, FileImages) else None
    names = [training.image_name(place) for place in range(len(training))]
    paths = [None if files is None else files.sample(place).path for place in range(len(training))]

    def sample(place: int) -> Sample:
        content = training.read(place) if files is None else None
        return Sample(names[place], paths[place], content, training.mirrored(place))

    return chosen(names, paths, sample, source=training.source, images=images, seed=seed, exclude=exclude)


def from_calibration(calibration: Calibration) -> TrainingSet:
    """Return the images of a calibration set as an unlabelled training set, for label-free training."""
    count = len(calibration.samples)
    mirror = np.fromiter((sample.mirrored for sample in calibration.samples), dtype=np.bool_, count=count)
    return TrainingSet(
        name=Path(calibration.source).resolve().name or "images",
        source=calibration.source,
        images=SampleImages(calibration.samples),
        labels=np.zeros(count, dtype=np.int64),
        classes=1,
        people=None,
        digest=calibration.digest,
        note=f"{calibration.note}, without labels.",
        mirror=mirror if mirror.any() else None,
    )


def _load_folder(argument: str) -> TrainingSet:
    """Read ``person/image.jpg``, images at any depth below the person's folder."""
    folder = _folder(argument, "folder")
    names = _images(folder)
    flat = [name for name in names if "/" not in name]
    if flat:
        raise VeriQuantError(
            f"training set folder: {folder} holds {len(flat)} images outside a person's folder, such as {flat[0]}; "
            "expected person/image.jpg (without labels: images:DIR)"
        )
    return _of_people(folder, f"folder:{argument}", folder, names, [name.partition("/")[0] for name in names])


def _load_cfp(argument: str) -> TrainingSet:
    """Read CFP's ``Data/Images/001/{frontal,profile}/01.jpg``."""
    folder = _folder(argument, "cfp")
    images = require_folder(folder / "Data" / "Images", "training set cfp")
    names = _images(images)
    return _of_people(folder, f"cfp:{argument}", images, names, [name.partition("/")[0] for name in names])


def _load_celeba(argument: str) -> TrainingSet:
    """Read CelebA's images of those people whom its list names."""
    folder = _folder(argument, "celeba")
    listed = identity_list(folder)
    identities = read_identities(listed)
    images = images_folder(folder)
    names = _listed_names(listed, list(identities), images)
    return _of_people(folder, f"celeba:{argument}", images, names, list(identities.values()))


def _load_images(argument: str) -> TrainingSet:
    """Read every image below a folder, all of one class."""
    folder = _folder(argument, "images")
    images = FileImages.of(folder, _images(folder))
    labels = np.zeros(len(images), dtype=np.int64)
    return TrainingSet(
        name=_name(folder),
        source=f"images:{argument}",
        images=images,
        labels=labels,
        classes=1,
        people=None,
        digest=_files_digest(images, labels),
        note=f"{len(images)} images without labels.",
    )


def _load_records(argument: str) -> TrainingSet:
    """Read a RecordIO pack."""
    folder = _folder(argument, "rec")
    pack = open_pack(folder)
    _require_people(f"training set rec: {folder}", pack.labels)
    return TrainingSet(
        name=_name(folder),
        source=f"rec:{argument}",
        images=pack,
        labels=pack.labels,
        classes=pack.classes,
        people=None,
        digest=_pack_digest(pack),
        note=" ".join(filter(None, (_census(pack.labels, pack.classes), pack.note))),
    )


def _load_ufpr(argument: str) -> TrainingSet:
    """Read one fold of a protocol of UFPR-Periocular: a person is a subject, both eyes; left eyes are mirrored."""
    place, protocol, fold, part = _ufpr_argument(argument)
    folder = _folder(place, "ufpr")
    listed = list_file(folder, protocol, fold, part)
    names = [eye.name for eye in read_list(listed)]
    crops = require_folder(folder / IMAGES, "training set ufpr")
    return _of_people(
        folder,
        f"ufpr:{argument}",
        crops,
        _listed_names(listed, names, crops),
        [subject(name) for name in names],
        name=f"{_name(folder)} {protocol} fold {fold} {part}",
        mirror=np.array([is_left(name) for name in names]),
    )


def _ufpr_argument(argument: str) -> tuple[str, str, int, Literal["train", "val"]]:
    """Split ``DIR:PROTOCOL:FOLD[:train|val]``; a path may hold colons."""
    parts = argument.split(":")
    part: Literal["train", "val"] = "train"
    if parts[-1] in ("train", "val"):
        part = "val" if parts.pop() == "val" else "train"
    fold = whole_number(parts[-1])
    if len(parts) < 3 or fold is None:
        raise VeriQuantError(f"training set {quoted(f'ufpr:{argument}')}: expected ufpr:{_UFPR_ARGUMENT}")
    return ":".join(parts[:-2]), parts[-2], fold, part


def _of_people(
    folder: Path,
    source: str,
    root: Path,
    names: Sequence[str],
    persons: Sequence[str],
    *,
    name: str = "",
    mirror: npt.NDArray[np.bool_] | None = None,
) -> TrainingSet:
    """Return the set of the files `names` below `root`, with the person of each; classes are in the order of names."""
    persons = [same_letters(person) for person in persons]  # two folders of one person, copied from two systems
    people = tuple(sorted(set(persons)))
    numbers = {person: number for number, person in enumerate(people)}
    labels = np.fromiter((numbers[person] for person in persons), dtype=np.int64, count=len(persons))
    _require_people(f"training set {source.partition(':')[0]}: {folder}", labels)
    images = FileImages.of(root, names)
    left = "" if mirror is None else f" {int(mirror.sum())} images are mirrored."
    return TrainingSet(
        name=name or _name(folder),
        source=source,
        images=images,
        labels=labels,
        classes=len(people),
        people=people,
        digest=_files_digest(images, labels),
        note=_census(labels, len(people)) + left,
        mirror=mirror,
    )


def _listed_names(listed: Path, names: Sequence[str], folder: Path) -> list[str]:
    """Return the paths of listed images relative to `folder`, as they are spelt there; none may be missing."""
    with working(f"listing {folder}"):
        found = ListedImages(folder).find_all(names)
    missing = sorted(set(names) - set(found))
    if missing:
        raise VeriQuantError(
            f"{listed} lists {len(missing)} images that are not in {folder}, such as {missing[0]}; unpack it whole"
        )
    return [found[name].relative_to(folder).as_posix() for name in names]


def _folder(argument: str, kind: str) -> Path:
    return require_folder(given_path(argument), f"training set {kind}")


def _images(folder: Path) -> list[str]:
    with working(f"listing {folder}"):
        names = list_images(folder)
    if not names:
        raise VeriQuantError(f"no images in {folder}")
    return names


def _name(folder: Path) -> str:
    return folder.resolve().name or "images"


def _require_people(what: str, labels: Integers) -> None:
    people = len(np.unique(labels))
    if people < 2:
        raise VeriQuantError(
            f"{what} holds {len(labels)} images of {people} person{'s' * (people != 1)}; to learn who is who takes at "
            "least two (without labels: images:DIR)"
        )


def _census(labels: Integers, classes: int) -> str:
    counts = np.bincount(labels)
    people, single = int((counts > 0).sum()), int((counts == 1).sum())
    text = f"{len(labels)} images of {people} people"
    if classes > people:
        text += f" ({classes - people} more classes have none)"
    if single == people:
        return f"{text}, each with a single image: what a person's images have in common cannot be learned from them."
    if single:
        text += f", {single} of them with a single image"
    return text + "."


def _files_digest(images: FileImages, labels: Integers) -> str:
    if len(images) <= HASHED_IMAGES:
        return samples_digest([images.sample(index) for index in range(len(images))], labels.tobytes())
    total = hashlib.sha256(images.names + images.ends.tobytes() + labels.tobytes())
    try:
        for index in range(len(images)):
            total.update((images.folder / images.sample(index).name).stat().st_size.to_bytes(8, "big"))
    except OSError as error:
        raise VeriQuantError(f"cannot read image {error.filename}: {error.strerror or error}") from error
    return total.hexdigest()


def _pack_digest(pack: RecordPack) -> str:
    some = np.unique(np.linspace(0, len(pack) - 1, 256).astype(np.int64)).tolist()
    total = hashlib.sha256(pack.offsets.tobytes() + pack.labels.tobytes())
    for index in some:
        total.update(pack.read(index))
    return json_digest({"size": pack.file.size, "classes": pack.classes, "records": total.hexdigest()})


_UFPR_ARGUMENT = "DIR:PROTOCOL:FOLD[:train|val]"

for _kind in (
    TrainingKind(
        name="folder",
        summary="a folder for each person (ImageFolder): VGGFace2, CASIA-WebFace, LFW",
        layout="a folder with person/image.jpg, images at any depth below the person's folder",
        load=_load_folder,
    ),
    TrainingKind(
        name="cfp",
        summary="all images of CFP, from the front and in profile",
        layout="a folder with Data/Images/001/frontal/01.jpg",
        load=_load_cfp,
    ),
    TrainingKind(
        name="celeba",
        summary="CelebA, the people whom identity_CelebA.txt names",
        layout="a folder with identity_CelebA.txt and img_align_celeba/000001.jpg",
        load=_load_celeba,
    ),
    TrainingKind(
        name="rec",
        summary="an MXNet RecordIO pack: MS1MV2, MS1MV3, Glint360K",
        layout="a folder with train.rec, train.idx and property",
        load=_load_records,
    ),
    TrainingKind(
        name="ufpr",
        summary="one fold of a protocol of UFPR-Periocular; both eyes are one identity, left eyes are mirrored",
        layout="a folder with experimentalProtocol/closed_world/train_fold1.txt and periocularCropped/0001S1I01R.jpg",
        load=_load_ufpr,
        argument=_UFPR_ARGUMENT,
    ),
    TrainingKind(
        name="images",
        summary="any images, without labels, for label-free training",
        layout="a folder of images, nested or flat",
        load=_load_images,
    ),
):
    TRAINING_SETS.add(_kind.name, _kind)
