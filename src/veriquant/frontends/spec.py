"""What a network expects at its input: size, colour order, value range, memory layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: Pixels. No biometric network takes more; a million of them would be a batch of terabytes.
LONGEST_SIDE = 4096
Side = Annotated[int, Field(gt=0, le=LONGEST_SIDE)]


class InputSpec(BaseModel):
    """The image front end of a network: pixels 0..255 become ``(pixel - mean) / std``, per channel in `color` order.

    `color` GREY is one channel, the luma of ITU-R BT.601. `mean` and `std` have a number for each channel; where one is
    given, it is that of all. `size` is (height, width) in pixels. `layout` is the order of the axes of a batch.
    `origin` says in plain words where the specification comes from (the file's metadata, its own first nodes, the
    user), for the record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[Side, Side] = (112, 112)
    color: Literal["RGB", "BGR", "GREY"] = "RGB"
    mean: tuple[Finite, ...] = (127.5, 127.5, 127.5)
    std: tuple[Positive, ...] = (127.5, 127.5, 127.5)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    origin: str = ""

    @model_validator(mode="before")
    @classmethod
    def _for_each_channel(cls, given: Any) -> Any:
        """Repeat a single number for every channel; a grey network's three equal numbers are one."""
        if not isinstance(given, Mapping):
            return given
        channels = 1 if given.get("color") == "GREY" else 3
        values = dict(given)
        for name in ("mean", "std"):
            value = values.get(name, 127.5)
            several = list(value) if isinstance(value, list | tuple) else [value]
            if len(several) == 1 or len(set(map(str, several))) == 1:
                values[name] = tuple(several[:1] * channels)
        return values

    @model_validator(mode="after")
    def _one_for_each_channel(self) -> InputSpec:
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} numbers, and color {self.color} {self.channels} channel(s)"
                )
        return self

    @property
    def channels(self) -> int:
        """The number of colours of a pixel."""
        return 1 if self.color == "GREY" else 3

    def batch_shape(self, count: int) -> tuple[int, int, int, int]:
        """Return the shape of a batch of `count` images in this layout."""
        (height, width), channels = self.size, self.channels
        return (count, channels, height, width) if self.layout == "NCHW" else (count, height, width, channels)


ARCFACE = InputSpec(origin="ArcFace convention: RGB 112×112, (x−127.5)/127.5")
ARCFACE_128 = InputSpec(std=(128.0, 128.0, 128.0), origin="ArcFace convention: RGB 112×112, (x−127.5)/128")
FACENET = InputSpec(size=(160, 160), std=(128.0, 128.0, 128.0), origin="FaceNet convention: RGB 160×160, (x−127.5)/128")
IMAGENET = InputSpec(
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    origin="ImageNet convention: RGB 112×112, x/255 less the ImageNet mean, over its standard deviation",
)
LIGHTCNN = InputSpec(
    size=(128, 128), color="GREY", mean=(0.0,), std=(255.0,), origin="LightCNN convention: grey 128×128, x/255"
)
RAW = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), origin="raw pixels: RGB 112×112, 0..255")

#: Conventions that a user can name instead of writing the numbers out.
CONVENTIONS: dict[str, InputSpec] = {
    "arcface": ARCFACE,
    "arcface-128": ARCFACE_128,
    "facenet": FACENET,
    "imagenet": IMAGENET,
    "lightcnn": LIGHTCNN,
    "raw": RAW,
}
