"""What a network expects at its input: size, colour order, value range, memory layout."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: Pixels. No biometric network takes more; a million of them would be a batch of terabytes.
LONGEST_SIDE = 4096
Side = Annotated[int, Field(gt=0, le=LONGEST_SIDE)]


class InputSpec(BaseModel):
    """The image front end of a network: pixels 0..255 become ``(pixel - mean) / std``, per channel in `color` order.

    `size` is (height, width) in pixels. `layout` is the order of the axes of a batch. `origin` says in plain words
    where the specification comes from (the file's metadata, its own first nodes, the user), for the record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[Side, Side] = (112, 112)
    color: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[Finite, Finite, Finite] = (127.5, 127.5, 127.5)
    std: tuple[Positive, Positive, Positive] = (127.5, 127.5, 127.5)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    origin: str = ""

    def batch_shape(self, count: int) -> tuple[int, int, int, int]:
        """Return the shape of a batch of `count` images in this layout."""
        height, width = self.size
        return (count, 3, height, width) if self.layout == "NCHW" else (count, height, width, 3)


ARCFACE = InputSpec(origin="ArcFace convention: RGB 112×112, (x−127.5)/127.5")
ARCFACE_128 = InputSpec(std=(128.0, 128.0, 128.0), origin="ArcFace convention: RGB 112×112, (x−127.5)/128")
FACENET = InputSpec(size=(160, 160), std=(128.0, 128.0, 128.0), origin="FaceNet convention: RGB 160×160, (x−127.5)/128")
IMAGENET = InputSpec(
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    origin="ImageNet convention: RGB 112×112, x/255 less the ImageNet mean, over its standard deviation",
)
RAW = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), origin="raw pixels: RGB 112×112, 0..255")

#: Conventions that a user can name instead of writing the numbers out.
CONVENTIONS: dict[str, InputSpec] = {
    "arcface": ARCFACE,
    "arcface-128": ARCFACE_128,
    "facenet": FACENET,
    "imagenet": IMAGENET,
    "raw": RAW,
}
