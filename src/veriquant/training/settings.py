"""`LoopSettings`: how a task is trained, whatever it learns."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from veriquant.training.relative import RelativeAdamW
from veriquant.training.schedule import Schedule
from veriquant.training.task import Task

#: Settings that change where and how a run goes, but not what comes out of it: a resumed run may have others.
_FREE = {"checkpoint_minutes", "checkpoint_steps", "keep", "devices", "accelerator"}


class LoopSettings(BaseModel):
    """Optimizer, length, precision, and where it runs. The defaults are the source's (kolf 4.3), but for the length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of `sgd`; `adamw` has its own betas (0.9, 0.999)."""
    weight_decay: float = Field(default=5e-4, ge=0, allow_inf_nan=False)
    schedule: Schedule = Schedule()
    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    """The length: one of `epochs` and `steps`."""
    clip: float | None = Field(default=None, gt=0)
    """The largest norm of all gradients together; longer ones are shortened to it."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    seed: int = Field(default=0, ge=0)
    checkpoint_minutes: float | None = Field(default=5.0, gt=0)
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """How often the state is written; where both are given, at whichever comes first; always at the end."""
    keep: Literal["last", "epochs"] = "last"
    """`epochs`: also a file for the state after every epoch."""
    devices: int | Literal["auto"] = 1
    accelerator: str = "auto"
    """`auto`, `cpu`, `cuda` or what else Lightning Fabric knows."""

    @field_validator("precision", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return "32" if value == 32 else value

    @field_validator("devices")
    @classmethod
    def _some(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("at least one device, or 'auto'")
        return value

    @model_validator(mode="after")
    def _one_length(self) -> LoopSettings:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give the length of training: either 'epochs' or 'steps'")
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the number of steps of the whole run."""
        return self.steps if self.steps is not None else (self.epochs or 0) * steps_per_epoch

    def decisive(self) -> dict[str, Any]:
        """Return the settings that the outcome depends on, as plain data."""
        return self.model_dump(mode="json", exclude=_FREE)


def make_optimizer(task: Task, settings: LoopSettings) -> torch.optim.Optimizer:
    """Return the optimizer of a task's parameter groups; each keeps its ``lr_multiplier``.

    Where a group has ``scales``, AdamW's rate is a share of them (`RelativeAdamW`); SGD has its sizes from gradients.
    """
    groups = [{"lr_multiplier": 1.0, **group} for group in task.parameter_groups()]
    if settings.optimizer == "adamw":
        kind = RelativeAdamW if any("scales" in group for group in groups) else torch.optim.AdamW
        return kind(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
