"""The ArcFace template: where two eyes, the nose's tip and the corners of the mouth stand in an aligned crop.

Deng et al., ArcFace, CVPR 2019, after SphereFace; the numbers are those that InsightFace's code crops by.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""(5, 2): x and y in pixels of the eye, the other eye, the nose's tip, two corners of the mouth; left to right as the
image shows them."""

SIDE = 112
_ARCFACE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))


def template(size: tuple[int, int] = (SIDE, SIDE)) -> Points:
    """Return the template for crops of `size` (height, width): scaled by the height, centred in the width.

    112×112 is ArcFace's own, 112×96 gives SphereFace's; other sizes show the same part of the face.
    """
    height, width = size
    points = np.array(_ARCFACE, dtype=np.float64)
    scaled = (points + 0.5) * height / SIDE - 0.5  # coordinates are of the middles of pixels
    scaled[:, 0] += (width - height) / 2
    return scaled
