"""Face detectors: an image becomes boxes with five points."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from veriquant.alignment.opencv import opencv
from veriquant.alignment.similarity import inverse, similarity_transform, transformed
from veriquant.alignment.template import SIDE, Points, template
from veriquant.alignment.warp import Pixels, warped
from veriquant.errors import VeriQuantError
from veriquant.files import file_digest
from veriquant.networks.file_faults import file_fault


@dataclass(frozen=True)
class Face:
    """One face in an image: `box` (x, y, width, height) in pixels, `points` (5, 2) as in `template`, `score` 0..1."""

    box: tuple[float, float, float, float]
    points: Points
    score: float

    @property
    def area(self) -> float:
        """Area of the box in pixels."""
        return self.box[2] * self.box[3]

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box."""
        return self.box[0] + self.box[2] / 2, self.box[1] + self.box[3] / 2


class Detector(Protocol):
    """What finds faces; called from several threads at once."""

    digest: str
    """What the detector is, so that its results are not mixed with another's."""

    def __call__(self, image: Pixels) -> list[Face]:
        """Return the faces in an RGB image (height, width, 3), in no particular order."""


#: Longest sides, in pixels, at which an image is searched until a face is found: first as most photographs are, then
#: for small faces in large ones, at last, with a border around the image, for a face that fills it.
_SIDES = (640, 1600)
_FILLED, _BORDER = 160, 48
#: The views in which a face is looked at again, upright: how large the template stands in them, and whether mirrored.
#: Points of one view are some two pixels of 112 off; of the mean of four, twice over, about one.
_VIEWS = ((1.0, False), (1.0, True), (1.5, False), (1.5, True))
_ROUNDS = 2
#: What the mirror image shows on the left, the image shows on the right.
_MIRRORED = [1, 0, 2, 4, 3]


class YuNet:
    """YuNet through OpenCV's ``FaceDetectorYN``: small, fast, MIT-licensed weights; the file is the user's.

    Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023. A face that
    was found is turned upright and looked at again in several views, whose points are averaged: a single look is a few
    pixels off, and more so where a face is tilted or large.
    """

    def __init__(self, file: str | Path, score: float = 0.7) -> None:
        self.file = Path(file)
        self.score = score
        if not self.file.is_file():
            raise VeriQuantError(f"{self.file}: no such detector file; {WHERE}")
        if fault := file_fault(self.file):
            raise VeriQuantError(f"{self.file}: {fault}; get it again")
        self.digest = file_digest(self.file)
        self._own = threading.local()
        self._search(np.zeros((64, 64, 3), np.uint8))

    def __call__(self, image: Pixels) -> list[Face]:
        """Return the faces in an RGB image (height, width, 3)."""
        faces: list[Face] = []
        for longest in _SIDES:
            faces = self._at(image, longest)
            if faces or max(image.shape[:2]) <= longest:
                break
        faces = faces or self._at(image, _FILLED, border=_BORDER)
        return [self._closer(image, face) for face in faces]

    def _at(self, image: Pixels, longest: int, border: int = 0) -> list[Face]:
        cv2 = opencv()
        height, width = image.shape[:2]
        scale = min(1.0, longest / max(height, width))
        if scale < 1:
            shape = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
        if border:
            image = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_CONSTANT)
        back = np.array([width / (image.shape[1] - 2 * border), height / (image.shape[0] - 2 * border)])
        faces = []
        for row in self._search(image):
            corner, side = (row[0:2] - border) * back, row[2:4] * back
            points = (row[4:14].reshape(5, 2) - border + 0.5) * back - 0.5
            faces.append(Face((*map(float, corner), *map(float, side)), points, float(row[14])))  # type: ignore[arg-type]
        return faces

    def _closer(self, image: Pixels, face: Face) -> Face:
        """Return the face with the mean of its points in upright views of it; as it was where none shows a face."""
        points = face.points
        for _ in range(_ROUNDS):
            seen = [found for view in _VIEWS if (found := self._in_view(image, points, *view)) is not None]
            if not seen:
                break
            points = np.mean(seen, axis=0)
        return Face(face.box, points, face.score)

    def _in_view(self, image: Pixels, points: Points, enlarged: float, mirrored: bool) -> Points | None:
        """Return the points of the face at `points` as one view of it shows them, None where it shows none there."""
        side = SIDE * enlarged
        canvas = 32 * -(-int(1.9 * side) // 32)
        aim = (template() - (SIDE - 1) / 2) * enlarged + (canvas - 1) / 2
        try:
            there = similarity_transform(points, aim)
        except ValueError:
            return None
        view = warped(image, there, (canvas, canvas))
        rows = self._search(view[:, ::-1] if mirrored else view)
        if not len(rows):
            return None
        found = rows[:, 4:14].reshape(-1, 5, 2)
        if mirrored:
            found[..., 0] = canvas - 1 - found[..., 0]
            found = found[:, _MIRRORED]
        apart = np.abs(found - aim).mean(axis=(1, 2))
        nearest = int(apart.argmin())
        return transformed(found[nearest], inverse(there)) if apart[nearest] <= side / 4 else None

    def _search(self, image: Pixels) -> Any:
        """Return what the detector says of an RGB image: float64 (faces, 15)."""
        cv2 = opencv()
        try:
            if not hasattr(self._own, "detector"):
                self._own.detector = cv2.FaceDetectorYN.create(str(self.file), "", (64, 64), self.score, 0.3, 500)
            self._own.detector.setInputSize((image.shape[1], image.shape[0]))
            found = self._own.detector.detect(np.ascontiguousarray(image[..., ::-1]))[1]
        except cv2.error as error:
            reason = str(error).strip().splitlines()[0][:120]
            raise VeriQuantError(f"{self.file}: OpenCV does not run it as YuNet ({reason}); {WHERE}") from error
        rows = np.empty((0, 15)) if found is None else found.astype(np.float64)
        return rows[np.isfinite(rows).all(axis=1)]


WHERE = (
    "give the file of YuNet as OpenCV's model zoo publishes it (face_detection_yunet_….onnx, 0.2 MB, MIT licence) with "
    "--detector"
)
