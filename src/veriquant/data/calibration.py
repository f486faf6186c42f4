"""Calibration sets: a reproducible choice of unlabelled images from any folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from veriquant.data.digest import samples_digest
from veriquant.data.folder import list_images
from veriquant.data.identity import file_identity
from veriquant.errors import VeriQuantError
from veriquant.frontends.sample import Sample


@dataclass(frozen=True)
class Calibration:
    """Unlabelled images that a recipe may look at."""

    source: str
    samples: tuple[Sample, ...]
    seed: int
    digest: str
    """SHA-256 over the names and contents of the images, in order."""
    requested: int
    """How many were asked for; `samples` holds fewer where the folder does."""
    available: int
    """How many images the folder holds, less those excluded."""
    excluded: int = 0
    """How many images of the folder were left out because a benchmark uses them."""
    unusable: int = 0
    """How many of those chosen were left out because the network gives no direction for them."""

    @property
    def without(self) -> str:
        """The images that were left out after the choice, as errors and notes tell of them; empty for none."""
        return f", without {self.unusable} that the network gives no direction for" if self.unusable else ""

    @property
    def note(self) -> str:
        """One sentence on how the images were chosen, for the record."""
        found = len(self.samples) + self.unusable
        short = f" ({self.requested} were asked for)" if found < self.requested else ""
        without = f", the {self.excluded} images of benchmarks left out" if self.excluded else ""
        without += self.without
        return f"{len(self.samples)} of {self.available} images of {self.source}{without}, seed {self.seed}{short}"


def load_calibration(
    directory: str | os.PathLike[str], images: int = 500, seed: int = 0, exclude: Collection[Path] = ()
) -> Calibration:
    """Choose `images` images at random from a folder, nested or flat; all of them where there are fewer.

    `exclude` names files that must not be chosen, such as those that a benchmark compares; they are recognised as
    files, however their path is spelt. The choice depends on the seed and on the images' paths below `directory`, on
    nothing else: it is the same on every machine, and one image more in the folder changes at most one of the choice.
    """
    if images < 1:
        raise VeriQuantError(f"a calibration set needs at least 1 image, {images} were asked for")
    folder = Path(directory)
    names = list_images(folder)
    if not names:
        raise VeriQuantError(f"no images in {folder}: a calibration set is a folder of images, nested or flat")
    return chosen(
        names,
        [folder / name for name in names],
        lambda place: Sample(names[place], folder / names[place]),
        source=str(directory),
        images=images,
        seed=seed,
        exclude=exclude,
    )


def chosen(
    names: Sequence[str],
    paths: Sequence[Path | None],
    sample: Callable[[int], Sample],
    *,
    source: str,
    images: int,
    seed: int,
    exclude: Collection[Path] = (),
) -> Calibration:
    """Choose `images` of the images called `names`, which lie in the files `paths`, None for one that is in no file.

    `sample` gives the image at a place of the two; it is asked for the chosen ones alone. Raises `VeriQuantError` where
    `exclude`, as in `load_calibration`, leaves nothing.
    """
    taken = {file_identity(path) for path in exclude}
    free = list(range(len(names)))
    if taken:
        free = [place for place, path in enumerate(paths) if path is None or file_identity(path) not in taken]
    if not free:
        raise VeriQuantError(
            f"all {len(names)} images in {source} are used by a benchmark; calibrate on a folder of other images"
        )
    order = sorted(free, key=lambda place: hashlib.sha256(os.fsencode(f"{seed}:{names[place]}")).digest())
    samples = tuple(sample(place) for place in order[:images])
    return Calibration(
        source=source,
        samples=samples,
        seed=seed,
        digest=samples_digest(samples),
        requested=images,
        available=len(free),
        excluded=len(names) - len(free),
    )
