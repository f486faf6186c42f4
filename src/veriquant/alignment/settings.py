"""What is asked of an alignment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from veriquant.alignment.detector import Face

Side = Annotated[int, Field(ge=16, le=4096)]


class AlignSettings(BaseModel):
    """How faces are chosen and cropped.

    `size`: (height, width) of the crops. `margin`: None aligns five points to the ArcFace template; a number crops the
    upright square around the face's box instead, wider by that share on each side, as FaceNet's data are. `face`: which
    of several faces is taken, the `largest` or the most `central`. `quality`: of the JPEG files written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[Side, Side] = (112, 112)
    margin: Annotated[float, Field(ge=0, le=4)] | None = None
    face: Literal["largest", "central"] = "largest"
    score: Annotated[float, Field(gt=0, lt=1)] = 0.7
    quality: Annotated[int, Field(ge=1, le=100)] = 95

    def choose(self, faces: list[Face], height: int, width: int) -> int:
        """Return which of the faces of an image is taken; of equals the first."""
        if self.face == "largest":
            return max(range(len(faces)), key=lambda i: faces[i].area)
        middle = (width / 2, height / 2)
        return min(
            range(len(faces)),
            key=lambda i: (faces[i].centre[0] - middle[0]) ** 2 + (faces[i].centre[1] - middle[1]) ** 2,
        )

    @property
    def rule(self) -> str:
        """What is done, in one line."""
        height, width = self.size
        how = (
            "five points by a similarity transform to the ArcFace template"
            if self.margin is None
            else f"the square around the face's box, wider by {self.margin:.0%} on each side"
        )
        return f"crops of {width}×{height}: {how}; of several faces the {self.face}"
