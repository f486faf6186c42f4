"""What methods that train may be told: precision, levels, images, and how long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from veriquant.quantization.simulated import SimulatedSettings
from veriquant.simulation.precision import Precision
from veriquant.training.augment import PRESETS
from veriquant.training.distillation import Distance
from veriquant.training.schedule import Schedule
from veriquant.training.settings import LoopSettings


class TrainedSettings(SimulatedSettings):
    """Label-free training of a quantized network: its embeddings are to be those of the full-precision network.

    `train_images` of the images train it (those that set ranges among them), `check_images` others measure what comes
    out. `levels`: 'learned' trains the steps of weights and the steps and offsets of activations with the network
    (LSQ); 'observed' takes the extremes of what passes for `observe` of the run, then freezes them (Kolf et al., 3.4).
    `levels_rate`: the learning rate of learned levels relative to that of weights. `workers`: processes that decode.
    """

    images: int = Field(default=128, ge=1)
    train_images: int = Field(default=4000, ge=2)
    levels: Literal["learned", "observed"] = "learned"
    observe: float = Field(default=0.2, ge=0, le=1)
    distance: Distance = "cosine"
    levels_rate: float = Field(default=0.05, ge=0)
    batch_size: int = Field(default=32, ge=2)
    epochs: int = Field(default=10, ge=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: float = Field(default=0.2, ge=0)
    augmentation: str = "flip"
    seed: int = Field(default=0, ge=0)
    workers: int = Field(default=0, ge=0)
    accelerator: str = "auto"

    @field_validator("augmentation")
    @classmethod
    def _augmentation(cls, value: str) -> str:
        PRESETS.get(value)
        return value

    def loop(self) -> LoopSettings:
        """Return how the loop goes."""
        return LoopSettings(
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=Schedule(kind="cosine", warmup=self.warmup),
            epochs=self.epochs,
            seed=self.seed,
            accelerator=self.accelerator,
        )


class QatSettings(TrainedSettings):
    """`precision` for every quantizer group, such as W4A8, trained as `TrainedSettings` says."""

    precision: str = "W4A8"
    target: str = "wide"

    @field_validator("precision")
    @classmethod
    def _precision(cls, value: str) -> str:
        return str(Precision.parse(value))
