"""Which embeddings have a direction, and how alike those of two networks point: the rule of every such figure.

An embedding of zeros, or one that holds NaN or infinity, has no direction and hence no cosine. Where the network that
is compared *with* gives such a one, nothing can be said of the image: it is left out and counted. Where only the other
network does, the image is lost to it: its cosine counts as 0. So no figure is ever NaN, and none is better for what is
missing in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veriquant.errors import VeriQuantError

Rows = npt.NDArray[np.floating]


def has_direction(embeddings: Rows) -> npt.NDArray[np.bool_]:
    """Return for each row of (n, d) whether it is finite and not all zero, bool (n,)."""
    return np.asarray(np.isfinite(embeddings).all(axis=1) & (embeddings != 0).any(axis=1))


@dataclass(frozen=True)
class Likeness:
    """How alike the embeddings of the same images are: the mean and the least cosine, None where no image has one.

    `images`: how many are compared; `lost`: how many of them are without a direction in the second network alone;
    `left_out`: how many others are without one in the first.
    """

    mean: float | None
    least: float | None
    images: int
    lost: int = 0
    left_out: int = 0

    @property
    def remark(self) -> str:
        """What a reader must know of images without a direction, beginning with '; '; empty where all have one."""
        parts = []
        if self.lost:
            parts.append(f"{self.lost} of them without a direction, counted as cosine 0")
        if self.left_out:
            parts.append(f"{self.left_out} others left out, without a direction in what they are compared with")
        return "".join(f"; {part}" for part in parts)


def likeness(reference: Rows, embeddings: Rows) -> Likeness:
    """Compare two networks' embeddings of the same images, (n, d) each, in float64."""
    known = has_direction(reference)
    if not known.any():
        return Likeness(None, None, 0, left_out=len(reference))
    one, other = unit_rows(reference[known]), unit_rows(embeddings[known])
    cosines = np.clip((one * other).sum(axis=1), -1, 1)
    lost = int((~has_direction(embeddings[known])).sum())
    return Likeness(float(cosines.mean()), float(cosines.min()), len(cosines), lost, int((~known).sum()))


def mean_cosine(reference: Rows, embeddings: Rows) -> float:
    """Return the mean cosine of `likeness`; raise `VeriQuantError` where no image has one."""
    mean = likeness(reference, embeddings).mean
    if mean is None:
        raise VeriQuantError(f"none of the {len(reference)} images has an embedding with a direction to compare with")
    return mean


def unit_rows(embeddings: Rows) -> npt.NDArray[np.float64]:
    """Return rows (n, d) scaled to length 1, float64; those without a direction as zeros."""
    wide = np.where(has_direction(embeddings)[:, None], embeddings, 0).astype(np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True)
    wide = wide / np.where(largest > 0, largest, 1)  # squares of very small or large numbers would leave float64
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return np.asarray(wide / np.where(lengths > 0, lengths, 1))
