"""Synthetic faces, drawn from two seeds: one sets who it is, the other how the picture was taken.

`draw(identity, image)` gives a 112×112 RGB picture in the layout of an ArcFace crop. The identity sets geometry
(outline, eyes, brows, nose, mouth, hair) and texture (skin, its low-frequency pattern, marks, beard); within it vary
pose (pseudo-3-D rotation of the features, roll, scale, shift), light (gain, gradient, colour cast, gamma), expression,
background, occlusion, blur, resolution and noise. Identities are points in a continuous space, not a list: any seed is
a person, and people are told apart only as far as they differ.

All random numbers come from the raw stream of PCG64, which NumPy guarantees not to change, and all shapes from Pillow's
polygons on rounded coordinates, so that equal seeds give equal pixels for equal versions of Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

#: Raised whenever the same seeds would give another picture.
VERSION = 1
#: Height and width of a drawn image.
SIDE = 112

Split = Literal["training", "calibration", "evaluation"]
Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Color = tuple[int, int, int]

#: People of one split; the splits' ranges of identity seeds lie one after the other and so never overlap.
SPLIT_PEOPLE = 1_000_000
_FIRST: dict[Split, int] = {"training": 0, "calibration": SPLIT_PEOPLE, "evaluation": 2 * SPLIT_PEOPLE}

_SUPER = 2  # shapes are drawn at this multiple of SIDE and averaged down
_UNIT = SIDE * _SUPER / 2  # pixels of the large canvas in one unit of face coordinates (origin amid the image, y down)
_TEXTURE = 128  # side of an identity's texture map, which spans face coordinates -1.1 .. 1.1
_TEXTURE_SPAN = 1.1
_GRAIN = 384  # side of the sheet of noise
_TURN = np.linspace(0.0, 2.0 * math.pi, 28, endpoint=False)
_COS, _SIN = np.cos(_TURN), np.sin(_TURN)
_ALONG = np.linspace(-1.0, 1.0, 11)
_ARCH = 1.0 - _ALONG**2
_GRID = (np.arange(SIDE, dtype=np.float32) + np.float32(0.5)) / np.float32(SIDE / 2) - np.float32(1.0)


def identity_seed(split: Split, index: int) -> int:
    """Return the identity seed of person number `index` of a split; people of different splits are never the same."""
    if not 0 <= index < SPLIT_PEOPLE:
        raise ValueError(f"index must lie in 0..{SPLIT_PEOPLE - 1}, not {index}")
    return _FIRST[split] + index


def uniform(count: int, *keys: int) -> Points:
    """Return `count` numbers in [0, 1) that depend on `keys` (whole numbers from 0) alone, on every platform."""
    raw = np.random.PCG64(np.random.SeedSequence([VERSION, *keys])).random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


class _Dice:
    """A supply of random numbers for one drawing."""

    def __init__(self, count: int, *keys: int):
        self._values: list[float] = uniform(count, *keys).tolist()
        self._next = 0

    def flat(self, low: float = 0.0, high: float = 1.0) -> float:
        value = self._values[self._next]
        self._next += 1
        return low + (high - low) * value

    def bell(self, mean: float = 0.0, std: float = 1.0) -> float:
        """Nearly normal, and never further than 2.45 standard deviations from the mean (two uniforms added)."""
        return mean + std * 2.449489742783178 * (self.flat() + self.flat() - 1.0)


@dataclass(frozen=True)
class _Identity:
    """What makes a person: numbers in face coordinates, colours, and the texture map of the skin."""

    outline: Points
    ears: tuple[Points, Points]
    hair_back: Points
    fringe: Points
    eye_x: float
    eye_y: float
    eye_length: float
    eye_open: float
    eye_tilt: float
    eye_peak: float
    iris: float
    lid: float
    brow_gap: float
    brow_length: float
    brow_thick: float
    brow_arch: float
    brow_tilt: float
    nose_y: float
    nose_width: float
    nose_round: float
    bridge: float
    mouth_y: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    mouth_curve: float
    cupid: float
    skin: tuple[float, float, float]
    hair_color: tuple[float, float, float]
    brow_color: tuple[float, float, float]
    iris_color: tuple[float, float, float]
    lip_color: tuple[float, float, float]
    texture: Image.Image


def _mix(a: Sequence[float], b: Sequence[float], t: float) -> tuple[float, float, float]:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def _ink(color: Sequence[float], factor: float = 1.0) -> Color:
    red, green, blue = (min(255, max(0, int(c * factor))) for c in color)
    return red, green, blue


def _clip(value: float, low: float, high: float) -> float:
    return min(high, max(low, value))


def _points(x: Points, y: Points | float) -> Points:
    """Return n corners from their coordinates: np.stack at a fraction of its time."""
    points = np.empty((len(x), 2))
    points[:, 0] = x
    points[:, 1] = y
    return points


def _moved(points: Points, x: float, y: float) -> Points:
    """Return corners shifted by (x, y)."""
    offset: Points = np.array((x, y))
    return points + offset


def _ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    return _points(x + rx * _COS, y + ry * _SIN)


_SKINS = ((246, 214, 188), (226, 178, 142), (190, 138, 102), (140, 94, 66), (92, 60, 44))
_HAIRS = ((28, 22, 20), (62, 42, 30), (104, 68, 40), (150, 104, 58), (196, 160, 104), (168, 168, 166), (126, 52, 32))
_IRISES = ((58, 36, 22), (96, 64, 34), (92, 106, 62), (82, 116, 140), (110, 120, 126))


@lru_cache(maxsize=4096)
def _identity(seed: int) -> _Identity:
    dice = _Dice(400, 1, seed)
    width, top, chin = dice.bell(0.66, 0.05), dice.bell(-0.86, 0.05), dice.bell(0.93, 0.055)
    jaw, jaw_power, skull = dice.bell(0.80, 0.07), dice.bell(3.6, 0.8), dice.bell(2.2, 0.22)
    # The outline: a superellipse above the line of the ears, a tapering jaw below it.
    ear_line = dice.bell(-0.05, 0.04)
    down = np.linspace(0.0, 1.0, 14)
    half = width * (1.0 - (1.0 - jaw) * down) * np.sqrt(np.clip(1.0 - down**jaw_power, 0.0, 1.0))
    below = ear_line + (chin - ear_line) * down
    angle = np.linspace(0.0, math.pi, 17)[1:-1]
    cap_x = width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2.0 / skull)
    cap_y = ear_line + (top - ear_line) * np.sin(angle) ** (2.0 / skull)
    outline = np.concatenate(
        (
            _points(-half, below)[::-1],
            _points(-cap_x, cap_y),
            _points(half, below),
        )
    )
    ear_size, ear_y, ear_out = dice.bell(0.14, 0.025), dice.bell(0.0, 0.04), dice.bell(0.0, 0.025)
    ears = (
        _ellipse(-width - ear_out, ear_y, 0.6 * ear_size, ear_size),
        _ellipse(width + ear_out, ear_y, 0.6 * ear_size, ear_size),
    )
    # Hair: a mass behind the head, and a fringe whose lower edge is a slanted, wavy line.
    volume, length = dice.bell(0.10, 0.05), dice.flat(-0.1, 1.2)
    side = np.linspace(0.0, math.pi, 15)
    mass_x, mass_y = (width + volume) * np.cos(side), (top - volume) * np.sin(side)
    flare = dice.bell(1.0, 0.12)
    hair_back = np.concatenate(
        (
            _points(mass_x, mass_y),
            np.array([(-(width + volume) * flare, length), ((width + volume) * flare, length)]),
        )
    )
    line, slant, wave, waves = dice.bell(-0.5, 0.09), dice.bell(0.0, 0.12), dice.flat(0.0, 0.06), dice.flat(4.0, 14.0)
    arch, phase, temple = dice.bell(0.12, 0.08), dice.flat(0.0, 6.28), dice.bell(-0.12, 0.12)
    across = np.linspace(-1.0, 1.0, 25)
    edge = line - arch * (1.0 - across**2) + slant * across + wave * np.sin(waves * across + phase)
    edge = np.where(np.abs(across) > 0.9, np.maximum(edge, temple), edge)
    fringe = np.concatenate(
        (
            _points((width + 0.5 * volume) * across, edge),
            _points((width + volume) * np.cos(side), -0.1 + (top - volume + 0.1) * np.sin(side)),
        )
    )
    tone = dice.flat(0.0, len(_SKINS) - 1.001)
    skin = _mix(_SKINS[int(tone)], _SKINS[int(tone) + 1], tone % 1.0)
    skin = (skin[0] + dice.bell(0, 5), skin[1] + dice.bell(0, 5), skin[2] + dice.bell(0, 6))
    hue = dice.flat(0.0, len(_HAIRS) - 1.001)
    hair_color = _mix(_HAIRS[int(hue)], _HAIRS[int(hue) + 1], hue % 1.0)
    gaze = dice.flat(0.0, len(_IRISES) - 1.001)
    iris_color = _mix(_IRISES[int(gaze)], _IRISES[int(gaze) + 1], gaze % 1.0)
    lip_color = _mix(_mix(skin, (176, 58, 66), dice.flat(0.25, 0.75)), (60, 30, 36), dice.flat(0.0, 0.25))
    return _Identity(
        outline=outline,
        ears=ears,
        hair_back=hair_back,
        fringe=fringe,
        eye_x=dice.bell(0.315, 0.028),
        eye_y=dice.bell(-0.10, 0.032),
        eye_length=dice.bell(0.130, 0.018),
        eye_open=dice.bell(0.064, 0.014),
        eye_tilt=dice.bell(0.0, 0.11),
        eye_peak=dice.bell(0.0, 0.35),
        iris=dice.bell(0.054, 0.007),
        lid=dice.bell(0.020, 0.007),
        brow_gap=dice.bell(0.155, 0.025),
        brow_length=dice.bell(0.172, 0.024),
        brow_thick=_clip(dice.bell(0.030, 0.011), 0.010, 0.06),
        brow_arch=dice.bell(0.035, 0.022),
        brow_tilt=dice.bell(0.0, 0.13),
        nose_y=dice.bell(0.26, 0.04),
        nose_width=dice.bell(0.115, 0.022),
        nose_round=dice.bell(0.060, 0.014),
        bridge=dice.bell(0.045, 0.012),
        mouth_y=dice.bell(0.58, 0.036),
        mouth_width=dice.bell(0.235, 0.032),
        lip_upper=_clip(dice.bell(0.042, 0.014), 0.012, 0.1),
        lip_lower=_clip(dice.bell(0.058, 0.016), 0.015, 0.12),
        mouth_curve=dice.bell(0.0, 0.022),
        cupid=dice.flat(0.0, 0.5),
        skin=skin,
        hair_color=hair_color,
        brow_color=_mix(hair_color, (30, 22, 18), dice.flat(0.2, 0.7)),
        iris_color=iris_color,
        lip_color=lip_color,
        texture=_texture(seed, dice, chin),
    )


def _texture(seed: int, dice: _Dice, chin: float) -> Image.Image:
    """Draw the skin's factor map, 128 being 1: a smooth pattern in colour, cheeks, beard, freckles, moles."""
    coarse = 128.0 + 26.0 * (uniform(7 * 7 * 3, 2, seed).reshape(7, 7, 3) - 0.5)
    fine = 128.0 + 28.0 * (uniform(18 * 18, 3, seed).reshape(18, 18) - 0.5)
    size = (_TEXTURE, _TEXTURE)
    smooth = Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pattern = Image.fromarray(fine.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    factor = np.asarray(pattern).astype(np.float32)
    factor *= np.float32(1 / 128)
    axis = (((np.arange(_TEXTURE) + 0.5) / (_TEXTURE / 2) - 1.0) * _TEXTURE_SPAN).astype(np.float32)
    aside = np.abs(axis)
    beard = _clip(dice.bell(-0.5, 0.7), 0.0, 1.0) * 0.4
    beard_line = dice.bell(0.36, 0.06)
    if beard > 0.0:
        grown = np.clip((axis[:, None] - beard_line) / 0.18, 0.0, 1.0) + np.clip((aside[None, :] - 0.5) / 0.2, 0.0, 1.0)
        edges = np.clip((axis - 0.1) / 0.1, 0.0, 1.0) * np.clip((chin + 0.1 - axis) / 0.1, 0.0, 1.0)
        factor *= 1.0 - np.minimum(grown, np.float32(1.0)) * (beard * edges[:, None]).astype(np.float32)
    flush, cheek_x, cheek_y = dice.flat(0.0, 0.14), dice.bell(0.40, 0.03), dice.bell(0.25, 0.05)
    cheek = np.exp(-(((axis - cheek_y) / 0.14) ** 2))[:, None] * np.exp(-(((aside - cheek_x) / 0.16) ** 2))[None, :]
    field = np.asarray(smooth) * factor[..., None]
    field[..., 1] *= 1.0 - flush * cheek
    field[..., 2] *= 1.0 - 0.8 * flush * cheek
    skin = Image.fromarray(_bytes(field))
    pen = ImageDraw.Draw(skin)
    freckles, moles = int(_clip(dice.bell(-6, 14), 0, 30)), int(dice.flat(0.0, 3.99))
    scale = _TEXTURE / 2 / _TEXTURE_SPAN
    for mark in range(30 + 3):
        px, py = dice.bell(0.0, 0.26), dice.bell(0.12, 0.22)
        radius, dark = dice.flat(0.7, 1.1), dice.flat(0.70, 0.85)
        if mark >= 30:
            px, py, radius, dark = px * 1.3, py * 1.6, radius * 1.9, dark * 0.62
        if mark < freckles or 30 <= mark < 30 + moles:
            cx, cy = (px + _TEXTURE_SPAN) * scale, (py + _TEXTURE_SPAN) * scale
            pen.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=_ink((128, 118, 112), dark))
    return skin.filter(ImageFilter.BoxBlur(0.6))


class _Canvas:
    """Collects polygons in face coordinates, turns them all at once as a head turns, and paints them in order."""

    def __init__(self, background: Image.Image):
        self.image = background
        self._pen = ImageDraw.Draw(background)
        self._points: list[Points] = []
        self._heights: list[float] = []
        self._inks: list[Color | None] = []

    def add(self, points: Points, ink: Color | None, height: float = 0.0) -> None:
        """Add a polygon that stands `height` above the surface of the head (below 0: behind it)."""
        self._points.append(points)
        self._heights.append(height)
        self._inks.append(ink)

    def paint(self, pose: _Pose) -> list[list[tuple[float, float]]]:
        """Project and paint all polygons; return their corners on the canvas."""
        lengths = [len(points) for points in self._points]
        corners = pose.project(np.concatenate(self._points), np.repeat(self._heights, lengths))
        # Rounded, so that the last bit of a sine on another platform cannot move an edge.
        flat = (np.round((corners + 1.0) * (_UNIT * 8)) / 8).tolist()
        painted, start = [], 0
        for length, ink in zip(lengths, self._inks, strict=True):
            polygon = [(x, y) for x, y in flat[start : start + length]]
            if ink is not None:
                self._pen.polygon(polygon, fill=ink)
            painted.append(polygon)
            start += length
        return painted


class _Pose:
    """Rotation of the head about three axes, scale and shift."""

    def __init__(self, yaw: float, pitch: float, roll: float, scale: float, shift: tuple[float, float], stretch: float):
        self.sin_yaw, self.cos_yaw = math.sin(yaw), math.cos(yaw)
        self.sin_pitch, self.cos_pitch = math.sin(pitch), math.cos(pitch)
        cosine, sine = math.cos(roll) * scale, math.sin(roll) * scale
        self.plane = (cosine * stretch, -sine, sine * stretch, cosine)
        self.shift = shift

    def project(self, points: Points, height: npt.NDArray[np.float64]) -> Points:
        """Return where points of the frontal face, `height` above its surface, come to lie in the image plane."""
        x, y = points[:, 0], points[:, 1]
        z = 0.62 * np.sqrt(np.clip(1.0 - (x / 0.85) ** 2 - (y / 1.15) ** 2, 0.0, None)) + height
        turned = x * self.cos_yaw + z * self.sin_yaw
        depth = z * self.cos_yaw - x * self.sin_yaw
        nodded = y * self.cos_pitch - (depth - 0.45) * self.sin_pitch
        a, b, c, d = self.plane
        return _points(a * turned + b * nodded + self.shift[0], c * turned + d * nodded + self.shift[1])

    def texture_map(self) -> tuple[float, float, float, float, float, float]:
        """Return Pillow's affine coefficients from a pixel of the image to one of the texture map."""
        corners = self.project(np.array([(0.0, 0.1), (0.3, 0.1), (0.0, 0.4)]), np.zeros(3))
        (ox, oy), (xx, xy), (yx, yy) = ((corners + 1.0) * (SIDE / 2)).tolist()
        unit = _TEXTURE / 2 / _TEXTURE_SPAN
        # forward: image = origin + A (texture - texture origin), then inverted
        step = 0.3 * unit
        a, b, c, d = (xx - ox) / step, (yx - ox) / step, (xy - oy) / step, (yy - oy) / step
        det = a * d - b * c
        ia, ib, ic, id_ = d / det, -b / det, -c / det, a / det
        tx, ty = _TEXTURE_SPAN * unit, (0.1 + _TEXTURE_SPAN) * unit
        return ia, ib, tx - ia * ox - ib * oy, ic, id_, ty - ic * ox - id_ * oy


def _background(dice: _Dice) -> Image.Image:
    """Draw a plain wall with a few boxes before it."""
    size = SIDE * _SUPER
    image = Image.new("RGB", (size, size), _any_color(dice))
    pen = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, wide, high = dice.flat(0, size), dice.flat(0, size), dice.flat(10, size / 2), dice.flat(10, size / 2)
        ink = _any_color(dice)
        if dice.flat() < 0.6:
            pen.rectangle((int(x - wide / 2), int(y - high / 2), int(x + wide / 2), int(y + high / 2)), fill=ink)
    return image


def _any_color(dice: _Dice) -> Color:
    return int(dice.flat(20, 235)), int(dice.flat(20, 235)), int(dice.flat(20, 235))


def _eye(
    who: _Identity, side: float, openness: float, gaze: tuple[float, float], canvas: _Canvas, raised: float
) -> None:
    """Add one eye and its brow; `side` is -1 for the left of the image, 1 for the right."""
    along = _ALONG * who.eye_length
    lift = who.eye_open * openness
    # the highest point of the lid lies inwards or outwards of the middle, by identity
    skew = _ARCH * (1.0 + who.eye_peak * side * _ALONG)
    tilt = -side * who.eye_tilt * along
    upper = _points(along, tilt - lift * skew)
    lower = _points(along, tilt + 0.72 * lift * _ARCH)[::-1]
    centre = np.array((side * who.eye_x, who.eye_y))
    almond = np.concatenate((upper, lower)) + centre
    canvas.add(_moved(almond, 0.0, 0.012), _ink(who.skin, 0.74), 0.01)
    canvas.add(almond, (236, 232, 228), 0.01)
    radius = who.iris
    reach_y = min(radius, 0.95 * lift)
    iris = _ellipse(gaze[0], gaze[1] * 0.3, radius, reach_y) + centre
    canvas.add(iris, _ink(who.iris_color), 0.01)
    canvas.add(_ellipse(gaze[0], gaze[1] * 0.3, 0.45 * radius, 0.6 * reach_y) + centre, (14, 12, 12), 0.01)
    lid = np.concatenate((_moved(upper, 0.0, -who.lid), _moved(upper, 0.0, 0.006)[::-1])) + centre
    canvas.add(lid, _ink(_mix(who.skin, (20, 14, 12), 0.75)), 0.01)
    along = _ALONG * who.brow_length
    middle = -side * who.brow_tilt * along - who.brow_arch * _ARCH
    thick = who.brow_thick * (1.0 - 0.45 * side * _ALONG * np.where(side * _ALONG > 0, 1.0, 0.3))
    brow = np.concatenate((_points(along, middle - thick), _points(along, middle + thick)[::-1]))
    brow = _moved(brow, side * who.eye_x * 1.03, who.eye_y - who.brow_gap - raised)
    canvas.add(brow, _ink(who.brow_color), 0.03)


def _nose(who: _Identity, light: float, canvas: _Canvas) -> None:
    """Add the nose: one shaded flank, the tip's shadow, two nostrils."""
    top, tip, wide = who.eye_y + 0.05, who.nose_y, who.nose_width
    side = -1.0 if light > 0 else 1.0
    flank = np.array(
        [
            (side * who.bridge, top),
            (side * who.bridge * 1.6, 0.5 * (top + tip)),
            (side * wide, tip - 0.02),
            (side * wide * 0.8, tip + who.nose_round),
            (side * 0.3 * wide, tip + 0.01),
            (side * 0.4 * who.bridge, top + 0.06),
        ]
    )
    shade = 0.80 + 0.10 * (1.0 - min(1.0, abs(light) * 3.0))
    canvas.add(flank, _ink(who.skin, shade), 0.10)
    along = _ALONG * wide
    under = np.concatenate(
        (
            _points(along, tip + who.nose_round * (0.5 + 0.5 * _ARCH)),
            _points(along, tip + who.nose_round * (0.35 - 0.1 * _ARCH))[::-1],
        )
    )
    canvas.add(under, _ink(who.skin, 0.72), 0.14)
    for nostril in (-1.0, 1.0):
        spot = _ellipse(nostril * 0.5 * wide, tip + 0.55 * who.nose_round, 0.26 * wide, 0.3 * who.nose_round)
        canvas.add(spot, _ink(who.skin, 0.38), 0.14)


def _mouth(who: _Identity, smile: float, gape: float, canvas: _Canvas) -> None:
    """Add the mouth: upper lip, opening, lower lip."""
    along = _ALONG * who.mouth_width * (1.0 + 0.16 * smile)
    curve = (who.mouth_curve + 0.055 * smile) * (_ARCH - 0.6) + who.mouth_y
    notch = 1.0 - who.cupid * np.exp(-((_ALONG / 0.22) ** 2))
    high = _points(along, curve - who.lip_upper * np.sqrt(_ARCH) * notch - 0.5 * gape * _ARCH)
    low = _points(along, curve + who.lip_lower * np.sqrt(_ARCH) + gape * _ARCH)[::-1]
    canvas.add(np.concatenate((high, low)), _ink(who.lip_color), 0.04)
    upper = _points(along * 0.96, curve - 0.006 - 0.5 * gape * _ARCH)
    lower = _points(along * 0.96, curve + 0.006 + 0.9 * gape * _ARCH)[::-1]
    canvas.add(np.concatenate((upper, lower)), _ink(who.lip_color, 0.35), 0.04)
    if gape > 0.02:
        teeth = _points(along * 0.8, curve - 0.1 * gape * _ARCH)[::-1]
        canvas.add(np.concatenate((upper * (0.8 / 0.96, 1.0), teeth)), (226, 222, 214), 0.04)


def _occlude(dice: _Dice, canvas: _Canvas, who: _Identity) -> None:
    """Now and then: glasses, a scarf or hand before the lower face, a cap or hand before the upper, a bar."""
    kind, size, place = dice.flat(), dice.flat(), dice.flat()
    ink = _any_color(dice)
    if kind < 0.10:  # glasses: frames as rings
        radius, thick = 0.17 + 0.05 * size, 0.016 + 0.02 * place
        dark = _ink(ink, 0.45)
        for side in (-1.0, 1.0):
            tall, within = radius * (0.7 + 0.3 * place), 1.0 - 1.6 * thick / radius
            outer = _ellipse(side * who.eye_x, who.eye_y + 0.01, radius, tall)
            inner = _ellipse(side * who.eye_x, who.eye_y + 0.01, radius * within, tall * within)
            canvas.add(np.concatenate((outer, outer[:1], inner[:1], inner[::-1])), dark, 0.08)
        half = who.eye_x - radius
        low, high = who.eye_y + 0.015, who.eye_y - 0.02
        canvas.add(np.array([(-half, high), (half, high), (half, low), (-half, low)]), dark, 0.1)
    elif kind < 0.13:  # scarf
        edge = 0.50 + 0.25 * size
        canvas.add(np.array([(-1.5, edge + 0.1), (0.0, edge), (1.5, edge + 0.1), (1.5, 1.8), (-1.5, 1.8)]), ink, 0.1)
    elif kind < 0.16:  # cap
        edge = -0.42 + 0.14 * size
        canvas.add(np.array([(-1.0, edge), (0.0, edge - 0.06), (1.0, edge), (0.9, -1.4), (-0.9, -1.4)]), ink, 0.05)
    elif kind < 0.19:  # something between the face and the camera
        x, y, wide = 1.4 * place - 0.7, 1.6 * dice.flat() - 0.8, 0.12 + 0.16 * size
        left, right = x - wide, x + wide
        canvas.add(np.array([(left, y - 0.3), (right, y - 0.2), (right, y + 0.25), (left, y + 0.3)]), ink, 0.1)


def draw(identity: int, image: int) -> Pixels:
    """Draw picture number `image` of the person `identity` (whole numbers from 0): uint8 (112, 112, 3), RGB."""
    who = _identity(identity)
    dice = _Dice(192, 4, identity, image)
    pose = _Pose(
        yaw=dice.bell(0.0, 0.20),
        pitch=dice.bell(0.0, 0.13),
        roll=dice.bell(0.0, 0.06),
        scale=dice.bell(0.97, 0.035),
        shift=(dice.bell(0.0, 0.030), dice.bell(0.0, 0.030)),
        stretch=dice.bell(1.0, 0.02),
    )
    light_x, light_y, gain = dice.bell(0.0, 0.17), dice.bell(-0.06, 0.12), dice.bell(0.98, 0.16)
    canvas = _Canvas(_background(dice))
    dye = 1.0 + dice.bell(0.0, 0.08)
    canvas.add(who.hair_back, _ink(who.hair_color, 0.8 * dye), -0.5)
    neck = 0.62 * float(who.outline[:, 0].max())
    cloth = _any_color(dice)
    canvas.add(np.array([(-neck, 0.5), (neck, 0.5), (neck, 1.5), (-neck, 1.5)]), _ink(who.skin, 0.74), -0.3)
    canvas.add(np.array([(-neck, 1.02), (neck, 1.02), (1.5, 1.25), (1.5, 2.0), (-1.5, 2.0), (-1.5, 1.25)]), cloth, -0.3)
    for ear in who.ears:
        canvas.add(ear, _ink(who.skin, 0.86), -0.1)
    canvas.add(who.outline, _ink(who.skin))
    opened = _clip(dice.bell(1.0, 0.20), 0.45, 1.4)
    gaze, raised = (dice.bell(0.0, 0.022), dice.bell(0.0, 0.022)), dice.bell(0.0, 0.022)
    for side in (-1.0, 1.0):
        _eye(who, side, opened, gaze, canvas, raised)
    _nose(who, light_x, canvas)
    _mouth(who, _clip(dice.bell(0.2, 0.55), -1.0, 1.4), max(0.0, dice.bell(-0.02, 0.05)), canvas)
    canvas.add(who.fringe, _ink(who.hair_color, dye), 0.04)
    features = len(canvas._points)
    _occlude(dice, canvas, who)
    polygons = canvas.paint(pose)
    # The skin's texture lies only where the face's outline is and nothing was put before it.
    mask = Image.new("L", canvas.image.size, 0)
    pen = ImageDraw.Draw(mask)
    pen.polygon(polygons[5], fill=255)
    for polygon in polygons[features - 1 :]:
        pen.polygon(polygon, fill=0)
    inside = np.asarray(mask.reduce(_SUPER), dtype=np.float32)[..., None] * np.float32(1 / 255)
    texture = who.texture.transform(
        (SIDE, SIDE), Image.Transform.AFFINE, pose.texture_map(), Image.Resampling.NEAREST, fillcolor=(128, 128, 128)
    )
    factor = np.asarray(texture).astype(np.float32)
    factor -= np.float32(128)
    factor *= inside * np.float32(1 / 128)
    factor += np.float32(1)
    pixels = np.asarray(canvas.image.reduce(_SUPER)) * factor
    return _photograph(pixels, inside, pose, (light_x, light_y, gain), dice)


def _photograph(
    pixels: npt.NDArray[np.float32],
    inside: npt.NDArray[np.float32],
    pose: _Pose,
    light: tuple[float, float, float],
    dice: _Dice,
) -> Pixels:
    """Light the scene, take its picture: blur, resolution, noise."""
    x = (_GRID - np.float32(pose.shift[0] + 0.3 * pose.sin_yaw))[None, :]
    y = (_GRID - np.float32(pose.shift[1]))[:, None]
    slope = np.float32(light[0]) * x + np.float32(light[1]) * y
    round_off = (x * x + y * y) * np.float32(dice.flat(0.10, 0.30))
    shade = np.float32(1) + slope + (slope - round_off + np.float32(0.06)) * inside[..., 0]
    cast = np.array([light[2] * (1.0 + dice.bell(0.0, 0.06)) for _ in range(3)], dtype=np.float32)
    pixels *= np.maximum(shade, np.float32(0.15))[..., None] * cast
    # A gamma between about 0.8 and 1.25 as a parabola, p + bend·p·(255 − p): the same everywhere, unlike a power.
    bend = dice.bell(0.0, 0.30) / 255
    bent = pixels * np.float32(-bend)
    bent += np.float32(1.0 + 255 * bend)
    pixels *= bent
    blur, coarse, grain = dice.flat(-0.35, 1.15), dice.flat(), dice.flat(2.0, 13.0)
    picture = Image.fromarray(_bytes(pixels))
    if coarse < 0.2:
        small = int(48 + 240 * coarse)
        picture = picture.resize((small, small), Image.Resampling.BILINEAR)
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    if blur > 0.2:
        picture = picture.filter(ImageFilter.BoxBlur(round(1.5 * blur, 2)))
    bank, top, left = _grain(), int(dice.flat(0, _GRAIN - SIDE)), int(dice.flat(0, _GRAIN - SIDE))
    noise = bank[top : top + SIDE, left : left + SIDE] * np.float32(grain)
    noise += np.asarray(picture)
    noise += np.float32(0.5)
    return _bytes(noise)


@lru_cache(maxsize=1)
def _grain() -> npt.NDArray[np.float32]:
    """Return a large sheet of noise of standard deviation 1 that pictures take their noise from."""
    total = uniform(3 * _GRAIN * _GRAIN * 3, 5).reshape(3, _GRAIN, _GRAIN, 3).sum(axis=0)
    grains: npt.NDArray[np.float32] = ((total - 1.5) * 2.0).astype(np.float32)
    return grains


def _bytes(values: npt.NDArray[np.float32]) -> Pixels:
    """Clip in place and cut the fractions off."""
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)
