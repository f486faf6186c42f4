"""`Schedule`: what the learning rate is multiplied with at each step of a run.

What the source trained with (kolf, sections 4.3 to 4.5): SGD, momentum 0.9, weight decay 5e-4, ArcFace with s = 64 and
m = 0.5 for faces, m = 1.0 for eyes.

| training | learning rate | length | divided by 10 after | batch |
|---|---|---|---|---|
| face, FP32 (4.3) | 0.1 | 180k steps | 100k and 160k steps | 512 |
| face, fixed 8 and 6 bit (4.4) | 1e-4 | 11k steps | never | not told |
| face, each iteration of the mixed path (4.5) | 0.005 | 8 epochs | never | not told |
| eyes, FP32 (4.3) | 0.1 | 20 epochs | 8 and 15 epochs | 32 |
| eyes, FP32, the additional training (4.3) | 0.01 | 20 epochs | 4 epochs | 32 |
| eyes, fixed 8 and 6 bit (4.4) | 0.1 | 20 epochs | 8 and 15 epochs | 8; MobileFaceNet 16 |
| eyes, fixed 4 bit (4.4) | 0.01 | 20 epochs | 8 and 15 epochs | 8; MobileFaceNet 16 |
| eyes, each iteration of the mixed path (4.5) | 0.01 | 20 epochs | 4 epochs | not told |
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Moment = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Schedule(BaseModel):
    """How the learning rate goes over a run; the rate itself stands elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["constant", "step", "cosine"] = "constant"
    """`constant`; `step`: falls at the moments `at`; `cosine`: half a wave from 1 to `floor` over the whole run."""
    at: tuple[Moment, ...] = ()
    """When `step` falls: after so many epochs or steps, ascending."""
    unit: Literal["epochs", "steps"] = "epochs"
    """What `at` and `warmup` count."""
    factor: float = Field(default=0.1, gt=0, le=1)
    """What the rate is multiplied with at each moment of `at`."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Where `cosine` ends."""
    warmup: Moment = 0.0
    """How long the rate rises linearly at the start; it multiplies what the schedule says."""

    @field_validator("at")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(late <= early for early, late in pairwise(value)):
            raise ValueError("moments must ascend")
        return value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Schedule:
        if bool(self.at) != (self.kind == "step"):
            raise ValueError(f"'at' belongs to kind 'step' and only to it; kind is {self.kind!r}")
        return self

    def multiplier(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return the multiplier for a step, counted from 0, of a run of `steps` steps."""
        unit = steps_per_epoch if self.unit == "epochs" else 1
        return self._course(step, steps, unit) * self._rise(step, unit)

    def _course(self, step: int, steps: int, unit: int) -> float:
        if self.kind == "step":
            # The first step at or after the moment; 0.1 epochs of 30 steps are 3 steps, not 3.0000000000000004.
            return self.factor ** sum(step >= math.ceil(moment * unit - 1e-6) for moment in self.at)
        if self.kind == "cosine":
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        return 1.0

    def _rise(self, step: int, unit: int) -> float:
        length = round(self.warmup * unit)
        return min(1.0, (step + 1) / length) if length else 1.0
