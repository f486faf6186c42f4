"""Random changes to training images: named operations on uint8 pixels, and how often and how strongly they are made.

An operation takes one RGB image, uint8 (height, width, 3), a strength of 0..1 and a generator, and returns an image of
the same shape. It draws from nothing but the generator, so equal seeds give equal images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from veriquant.registry import Registry

Pixels = npt.NDArray[np.uint8]
Generator = np.random.Generator
Operation = Callable[[Pixels, float, Generator], Pixels]

AUGMENTATIONS: Registry[Operation] = Registry("augmentation")

Share = Annotated[float, Field(ge=0, le=1, strict=True)]

#: What AdaFace's low-resolution augmentation draws its way down and its way up from.
_RESAMPLING = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.BOX,
    Image.Resampling.LANCZOS,
)
#: Blur of full strength: standard deviation as a share of the shorter side, 3.5 pixels of 112.
_BLUR = 1 / 32


def flip(pixels: Pixels, strength: float, draw: Generator) -> Pixels:
    """Mirror left-right; strength has no meaning here."""
    return pixels[:, ::-1]


def crop(pixels: Pixels, strength: float, draw: Generator) -> Pixels:
    """Cut out a part of at least ``1 - strength`` of the area, sides 3:4 to 4:3, and stretch it to the whole."""
    height, width = pixels.shape[:2]
    area = draw.uniform(1 - strength, 1)
    stretch = np.exp(draw.uniform(np.log(3 / 4), np.log(4 / 3)) / 2)
    # a wide part of a large area would stand out on both sides: then it is as large as it can be
    tall = int(np.clip(round(height * np.sqrt(area) / stretch), 1, height))
    wide = int(np.clip(round(width * np.sqrt(area) * stretch), 1, width))
    top, left = int(draw.integers(height - tall + 1)), int(draw.integers(width - wide + 1))
    image = Image.fromarray(pixels)
    box = (left, top, left + wide, top + tall)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))


def jitter(pixels: Pixels, strength: float, draw: Generator) -> Pixels:
    """Change brightness, contrast and saturation, in random order, each by a factor of ``1 ± strength``."""
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    image = Image.fromarray(pixels)
    for which in draw.permutation(len(enhancers)):
        image = enhancers[which](image).enhance(draw.uniform(1 - strength, 1 + strength))
    return np.asarray(image)


def low_resolution(pixels: Pixels, strength: float, draw: Generator) -> Pixels:
    """Shrink the sides to a share of ``1 - strength`` to 1, stretch back; both interpolations are drawn (AdaFace)."""
    height, width = pixels.shape[:2]
    share = draw.uniform(1 - strength, 1)
    down, up = (_RESAMPLING[which] for which in draw.integers(len(_RESAMPLING), size=2))
    small = Image.fromarray(pixels).resize((max(1, round(width * share)), max(1, round(height * share))), down)
    return np.asarray(small.resize((width, height), up))


def blur(pixels: Pixels, strength: float, draw: Generator) -> Pixels:
    """Blur by a Gaussian of a standard deviation of up to `strength` / 32 of the shorter side."""
    radius = draw.uniform(0, strength) * min(pixels.shape[:2]) * _BLUR
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def grey(pixels: Pixels, strength: float, draw: Generator) -> Pixels:
    """Remove the colours (luma of ITU-R BT.601), three equal channels; strength has no meaning here."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


for _operation in (crop, jitter, low_resolution, blur, grey, flip):
    AUGMENTATIONS.add(_operation.__name__, _operation)


class Chance(BaseModel):
    """How often an operation is made, and how strongly where it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: Share
    strength: Share


@dataclass(frozen=True)
class Pipeline:
    """Operations in order, each with its probability and strength; goes to worker processes by pickling."""

    steps: tuple[tuple[Operation, float, float], ...]

    def __call__(self, pixels: Pixels, draw: Generator) -> Pixels:
        """Return `pixels`, uint8 (height, width, 3), changed as `draw` has it."""
        for operation, probability, strength in self.steps:
            if draw.random() < probability:
                pixels = operation(pixels, strength, draw)
        return pixels


class Augmentation(BaseModel):
    """Which operations are made, in the order of the fields, each by its own chance; nothing is made by default.

    A user may write a probability alone (``crop: 0.2``), which keeps the operation's default strength.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: Chance = Chance(probability=0, strength=0.8)
    jitter: Chance = Chance(probability=0, strength=0.5)
    low_resolution: Chance = Chance(probability=0, strength=0.8)
    blur: Chance = Chance(probability=0, strength=0.5)
    grey: Share = 0.0
    flip: Share = 0.0

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Turn ``crop: 0.2`` and ``crop: {probability: 0.2}`` into a chance with the default strength."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        for name, field in cls.model_fields.items():
            given = values.get(name)
            if not isinstance(field.default, Chance):
                continue
            if isinstance(given, (int, float)):
                given = {"probability": given}
            if isinstance(given, dict):
                filled[name] = {"strength": field.default.strength, **given}
        return filled

    def pipeline(self) -> Pipeline:
        """Return the operations whose probability is above zero, as one callable."""
        steps = []
        for name in type(self).model_fields:
            chance = getattr(self, name)
            probability, strength = (
                (chance.probability, chance.strength) if isinstance(chance, Chance) else (chance, 0.0)
            )
            if probability > 0:
                steps.append((AUGMENTATIONS.get(name), probability, strength))
        return Pipeline(tuple(steps))


#: Settings with a name: nothing; mirror images; and the chances that AdaFace trains with.
PRESETS: Registry[Augmentation] = Registry("augmentation preset")
PRESETS.add("none", Augmentation())
PRESETS.add("flip", Augmentation(flip=0.5))
PRESETS.add("adaface", Augmentation.model_validate({"crop": 0.2, "jitter": 0.2, "low_resolution": 0.2, "flip": 0.5}))
