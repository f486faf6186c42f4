"""Content hashes of many small images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from veriquant.frontends.sample import Sample

_PART = 256


def image_digests(samples: Sequence[Sample]) -> list[bytes]:
    """Return the SHA-256 of every encoded image, read on a few threads; `VeriQuantError` names one it cannot read."""

    def part(start: int) -> list[bytes]:
        return [hashlib.sha256(sample.read()).digest() for sample in samples[start : start + _PART]]

    if len(samples) <= _PART:
        return part(0)
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        return [digest for digests in pool.map(part, range(0, len(samples), _PART)) for digest in digests]


def samples_digest(samples: Sequence[Sample], *more: bytes) -> str:
    """Return one SHA-256 over the names and contents of images, in order, and over whatever else is given.

    An image that is shown mirrored counts as another one.
    """
    total = hashlib.sha256()
    for sample, content in zip(samples, image_digests(samples), strict=True):
        total.update(os.fsencode(sample.name) + (b"\0mirrored" if sample.mirrored else b"") + b"\0" + content)
    for item in more:
        total.update(len(item).to_bytes(8, "big") + item)
    return total.hexdigest()
