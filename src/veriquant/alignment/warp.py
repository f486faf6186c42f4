"""Cropping: an image moved by a similarity transform into a crop of a given size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veriquant.alignment.opencv import opencv
from veriquant.alignment.similarity import Matrix, scale_of

Pixels = npt.NDArray[np.uint8]


def warped(image: Pixels, matrix: Matrix, size: tuple[int, int]) -> Pixels:
    """Return the crop of `size` (height, width) that `matrix` moves `image` (h, w, 3) into; black where nothing is.

    Bilinear, as InsightFace crops. What shrinks to less than half is averaged down first: bilinear interpolation alone
    would skip pixels and leave patterns that no face has.
    """
    cv2 = opencv()
    scale = scale_of(matrix)
    if scale < 0.5:
        factor = int(1 / scale)
        height, width = (max(1, -(-side // factor)) for side in image.shape[:2])
        along = np.array([image.shape[1] / width, image.shape[0] / height])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        # the middle of a small pixel is the middle of the pixels that it stands for
        matrix = np.column_stack([matrix[:, :2] * along, matrix[:, :2] @ ((along - 1) / 2) + matrix[:, 2]])
    return np.asarray(
        cv2.warpAffine(image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0)), dtype=np.uint8
    )
