"""Aligning a folder of photographs: crops in folders of the same names, a list of what was found, resumable."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from veriquant.alignment.crop import crop_face
from veriquant.alignment.detector import Detector, Face
from veriquant.alignment.journal import JOURNAL, Found, Journal, Record, stamp, write_list
from veriquant.alignment.settings import AlignSettings
from veriquant.data.folder import list_images, require_folder
from veriquant.errors import VeriQuantError
from veriquant.files import atomic_path, require_writable
from veriquant.frontends.images import decode
from veriquant.frontends.sample import Sample
from veriquant.locks import locked
from veriquant.progress import bar, working

ENDING = ".jpg"


@dataclass(frozen=True)
class Alignment:
    """What became of a folder: records in the order of the images' names, and the list that was written."""

    records: tuple[Record, ...]
    list_file: Path
    kept: int
    """How many images had been done by an earlier run."""
    anew: bool
    """Whether an earlier run was of other settings, or with another detector."""
    left_over: int
    """How many crops of images that are gone still lie in the folder."""

    @property
    def outcomes(self) -> Counter[str]:
        """How many images came to which end."""
        return Counter(record.outcome for record in self.records)


def align_folder(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    detector: Detector,
    settings: AlignSettings | None = None,
    threads: int = 1,
) -> Alignment:
    """Align every image below `source` into `out`, which keeps the folders; names end in ``.jpg``.

    An image that is there from an earlier run of the same settings is not done again. Raises `VeriQuantError` where the
    folders are one or within each other, and before any work where a file stands where a crop would go that no run of
    this function wrote.
    """
    settings = settings or AlignSettings()
    folder, target = require_folder(Path(source), "photographs to align"), Path(out)
    _refuse_one_in_other(folder, target)
    with working(f"listing {folder}"):
        names = list_images(folder)
    if not names:
        raise VeriQuantError(f"no images in {folder}")
    require_writable(target)
    with locked(target, "another alignment", "wait for it, or name another folder (-o)"):
        crops = crop_names(names)
        if not (target / JOURNAL).exists():
            _refuse_foreign(target, crops.values())
        journal = Journal(target, {**settings.model_dump(mode="json"), "detector": detector.digest})
        try:
            waiting = [name for name in names if not _is_done(folder, target, name, crops[name], journal)]
            with bar("aligning", len(waiting)) as advance:
                for record in _worked(folder, target, waiting, crops, detector, settings, threads):
                    journal.add(record)
                    advance(1)
        finally:
            journal.close()
        records = tuple(journal.records[name] for name in names)
        left_over = sum((target / crop).exists() for crop in journal.own - set(crops.values()))
        return Alignment(records, write_list(target, records), len(names) - len(waiting), journal.anew, left_over)


def align_image(path: Path, crop: Path, detector: Detector, settings: AlignSettings) -> Record:
    """Align one image, write its crop, and return what became of it; names in the record are the paths' own."""
    seen = stamp(path)
    try:
        image = decode(Sample(str(path), path))
    except VeriQuantError as error:
        return Record(image=str(path), stamp=seen, outcome="unreadable", reason=str(error)[:200])
    faces = sorted(detector(image), key=lambda face: -face.score)
    found = tuple(_found(face) for face in faces)
    if not faces:
        return Record(image=str(path), stamp=seen, outcome="no face")
    chosen = settings.choose(faces, *image.shape[:2])
    pixels = crop_face(image, faces[chosen], settings)
    with atomic_path(crop) as temporary:
        Image.fromarray(pixels).save(temporary, "JPEG", quality=settings.quality, subsampling=0)
        size = temporary.stat().st_size
    return Record(
        image=str(path),
        stamp=seen,
        outcome="aligned" if len(faces) == 1 else "aligned, one of several faces",
        crop=str(crop),
        crop_bytes=size,
        faces=found,
        chosen=chosen,
    )


def crop_names(names: Sequence[str]) -> dict[str, str]:
    """Return the crop's name of each image: its own with ``.jpg``, or, where that is another's, ``.jpg`` added.

    Names that differ in nothing but case count as one: they are, on some systems.
    """
    plain = {name: str(PurePosixPath(name).with_suffix(ENDING)) for name in names}
    crops: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names, key=lambda each: (each != plain[each], each)):
        crop = plain[name]
        while crop.casefold() in taken:
            crop = (name if crop == plain[name] else crop) + ENDING
        taken.add(crop.casefold())
        crops[name] = crop
    return crops


def _worked(
    folder: Path,
    target: Path,
    names: Sequence[str],
    crops: dict[str, str],
    detector: Detector,
    settings: AlignSettings,
    threads: int,
) -> Iterator[Record]:
    """Yield the records of images, aligned on threads; the work ahead is bounded, and ends with the iterator."""

    def work(name: str) -> Record:
        crop = target / crops[name]
        record = align_image(folder / name, crop, detector, settings)
        if record.crop is None:
            crop.unlink(missing_ok=True)  # one that other settings had made
        return record.model_copy(update={"image": name, "crop": crops[name] if record.crop else None})

    Image.preinit()  # importing the decoders is not safe on several threads at once
    pool = ThreadPoolExecutor(threads, thread_name_prefix="veriquant-align")
    ahead: deque[Future[Record]] = deque()
    try:
        for name in names:
            ahead.append(pool.submit(work, name))
            if len(ahead) > 4 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _is_done(folder: Path, target: Path, name: str, crop: str, journal: Journal) -> bool:
    record = journal.records.get(name)
    if record is None or record.stamp != stamp(folder / name):
        return False
    if record.crop is None:
        return True
    try:
        return record.crop == crop and (target / crop).stat().st_size == record.crop_bytes
    except OSError:
        return False


def _found(face: Face) -> Found:
    points = tuple((float(x), float(y)) for x, y in np.round(face.points, 3))
    return Found(box=face.box, points=points, score=face.score)


def _refuse_one_in_other(folder: Path, target: Path) -> None:
    one, other = folder.resolve(), target.resolve()
    if one == other or one in other.parents or other in one.parents:
        how = "is the folder of photographs itself" if one == other else "lies in the other, or the other in it"
        raise VeriQuantError(f"output {target} {how} ({folder}); name a folder beside it with -o")


def _refuse_foreign(target: Path, crops: Iterable[str]) -> None:
    """Raise where no alignment has been, and yet files stand where crops would go."""
    foreign = [crop for crop in crops if os.path.lexists(target / crop)]
    if foreign:
        raise VeriQuantError(
            f"{target / foreign[0]} is there already and no alignment wrote it ({len(foreign)} such files); "
            "name an empty folder with -o"
        )
