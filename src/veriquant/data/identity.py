"""Whether two images are the same one, however their paths are spelt."""

from __future__ import annotations

import os
from pathlib import Path

from veriquant.frontends.sample import Sample

Identity = tuple[int, int] | str
"""Equal for the same image; good for sets."""


def file_identity(path: Path) -> Identity:
    """Return what a file has under all of its paths, device and number; where there is no file, the path itself."""
    try:
        state = os.stat(path)
    except OSError:
        return os.fspath(path)
    return state.st_dev, state.st_ino


def sample_identity(sample: Sample) -> Identity:
    """Return the identity of a sample's file; of one that came out of a container its name."""
    return sample.name if sample.path is None else file_identity(sample.path)
