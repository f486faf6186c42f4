"""Where the encoded images of a training set lie: an object that pickles small and reads one image at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from veriquant.frontends.sample import Sample


class EncodedImages(Protocol):
    """n encoded images, each to be had by its number; safe to send to worker processes."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Return encoded image `index`; `VeriQuantError` names one that cannot be read."""

    def where(self, index: int) -> str:
        """Return the name of image `index` as errors give it."""


@dataclass(frozen=True, eq=False)
class FileImages:
    """Files below one folder, their names kept as one string: no Python object an image, whatever their number."""

    folder: Path
    names: bytes
    """The files' paths relative to `folder`, one after another."""
    ends: npt.NDArray[np.int64]
    """Where each name ends in `names`, (n,)."""

    @classmethod
    def of(cls, folder: Path, names: Sequence[str]) -> FileImages:
        """Keep the files `names` (paths relative to `folder`)."""
        encoded = [os.fsencode(name) for name in names]
        return cls(folder, b"".join(encoded), np.cumsum([len(name) for name in encoded], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def sample(self, index: int) -> Sample:
        """Return image `index` under its path relative to the folder."""
        start = int(self.ends[index - 1]) if index else 0
        name = os.fsdecode(self.names[start : int(self.ends[index])])
        return Sample(name, self.folder / name)

    def read(self, index: int) -> bytes:
        """Return the content of file `index`."""
        return self.sample(index).read()

    def where(self, index: int) -> str:
        """Return the path of file `index`."""
        return self.sample(index).where


@dataclass(frozen=True)
class SampleImages:
    """Images that were chosen already, such as those of a calibration set."""

    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> bytes:
        """Return encoded image `index`."""
        return self.samples[index].read()

    def where(self, index: int) -> str:
        """Return the path of image `index`, or its name where it has none."""
        return self.samples[index].where
