"""A face in an image becomes a crop."""

from __future__ import annotations

import numpy as np

from veriquant.alignment.detector import Face
from veriquant.alignment.settings import AlignSettings
from veriquant.alignment.similarity import Matrix, similarity_transform
from veriquant.alignment.template import template
from veriquant.alignment.warp import Pixels, warped


def crop_face(image: Pixels, face: Face, settings: AlignSettings) -> Pixels:
    """Return the crop of `face` in an RGB image (h, w, 3): uint8 RGB of the settings' size, black beyond the image."""
    return warped(image, crop_transform(face, settings), settings.size)


def crop_transform(face: Face, settings: AlignSettings) -> Matrix:
    """Return the similarity transform that moves an image's coordinates into those of the crop."""
    height, width = settings.size
    if settings.margin is None:
        return similarity_transform(face.points, template(settings.size))
    scale = height / (max(face.box[2:]) * (1 + 2 * settings.margin))
    x, y = face.centre
    return np.array([[scale, 0, width / 2 - scale * x - 0.5 + scale / 2], [0, scale, height / 2 - scale * y - 0.5 + scale / 2]])  # fmt: skip  # noqa: E501
