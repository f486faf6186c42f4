"""What methods that train may be told: precision, levels, loss, images, and how long."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from veriquant.quantization.simulated import SimulatedSettings
from veriquant.simulation.precision import FLOAT_BITS, Precision
from veriquant.training.augment import PRESETS
from veriquant.training.distillation import Distance
from veriquant.training.schedule import Schedule
from veriquant.training.settings import LoopSettings

#: The loss that needs no labels.
TEACHER = "teacher"
#: The width of weights that learning rates are given for.
_BITS = 2.0
#: The widest weights that AdaRound rounds (`QuantizerCache.weight`): wider ones lose nothing that it could make up for.
_ADAROUND_BITS = 8


class TrainedSettings(SimulatedSettings):
    """Training of a quantized network; by default label-free: its embeddings are to be the full-precision network's.

    `train_images` of the images train it (those that set ranges among them), `check_images` others measure what comes
    out. `levels`: 'learned' trains the steps of weights and the steps and offsets of activations with the network
    (LSQ); 'observed' takes the extremes of what passes for `observe` of the run, then freezes them (Kolf et al., 3.4).
    `loss`: 'teacher', or a margin head's ('arcface', 'cosface', 'adaface') with its `scale` and `margin`, for which a
    training set with labels is named; `distance` is the teacher's.
    `feature_weight`: the weight of differences to the full-precision network on the way, at `feature_tensors` tensors.
    `lr`: with AdamW relative to the size of what learns (`RelativeAdamW`), and that of 2-bit weights: with every bit
    more, levels are half as far apart and it is half as large; with SGD it is the rate itself. `levels_rate`: that of
    learned levels relative to that of weights. `workers`: processes that decode.
    """

    images: int = Field(default=128, ge=1)
    train_images: int = Field(default=4000, ge=2)
    levels: Literal["learned", "observed"] = "learned"
    observe: float = Field(default=0.2, ge=0, le=1)
    loss: Literal["teacher", "arcface", "cosface", "adaface"] = "teacher"
    distance: Distance = "cosine"
    feature_weight: float = Field(default=1.0, ge=0)
    feature_tensors: int = Field(default=16, ge=1)
    scale: float | None = Field(default=None, gt=0)
    margin: float | None = Field(default=None, ge=0)
    levels_rate: float = Field(default=1.0, ge=0)
    batch_size: int = Field(default=8, ge=2)
    epochs: int = Field(default=10, ge=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: float = Field(default=5e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Schedule = Schedule(kind="cosine", warmup=0.2)
    augmentation: str = "flip"
    seed: int = Field(default=0, ge=0)
    workers: int = Field(default=0, ge=0)
    accelerator: str = "auto"

    #: Settings that change where or how far a training goes, but not what comes out of each part of it.
    free: ClassVar[frozenset[str]] = frozenset({"workers", "accelerator"})

    def decisive(self) -> dict[str, object]:
        """Return the settings that what is trained depends on, as plain data."""
        return self.model_dump(mode="json", exclude=set(self.free))

    @field_validator("augmentation")
    @classmethod
    def _augmentation(cls, value: str) -> str:
        PRESETS.get(value)
        return value

    @model_validator(mode="after")
    def _has_a_use(self) -> TrainedSettings:
        """Refuse what would be recorded and change nothing."""
        if self.loss == TEACHER and (self.scale is not None or self.margin is not None):
            raise ValueError(
                "scale and margin are those of a margin head, which loss 'teacher' has not: leave them out, or set "
                "them to null where a recipe brings them"
            )
        if self.loss != TEACHER and "distance" in self.model_fields_set:
            raise ValueError(f"distance is that of loss 'teacher': leave it out with loss {self.loss!r}")
        if self.levels == "learned" and "observe" in self.model_fields_set:
            raise ValueError("observe is for levels 'observed': learned levels are never frozen; leave it out")
        return self

    def loop(self, epochs: int, bits: float) -> LoopSettings:
        """Return how the loop goes, for a run of so many epochs with weights of so many bits on average."""
        return LoopSettings(
            optimizer=self.optimizer,
            lr=self.lr * 2 ** (_BITS - bits) if self.optimizer == "adamw" else self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            epochs=epochs,
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
        precision = Precision.parse(value)
        if precision.weight_bits == FLOAT_BITS:
            raise ValueError(
                f"{precision} leaves weights in floating point, so that there is nothing to train: give them 1 to 16 "
                "bits, such as W4A8 (activations alone are quantized by recipe fixed)"
            )
        return str(precision)

    @model_validator(mode="after")
    def _can_be_rounded(self) -> QatSettings:
        if self.rounding != "adaround":
            return self
        if self.weight_scheme == "midrise":
            raise ValueError(
                "AdaRound has a level at zero to round to, which weight_scheme 'midrise' has not: leave rounding at "
                "nearest, or take weight_scheme symmetric"
            )
        if (bits := Precision.parse(self.precision).weight_bits) > _ADAROUND_BITS:
            raise ValueError(
                f"AdaRound rounds weights of at most {_ADAROUND_BITS} bits, not of {bits}: leave rounding at nearest"
            )
        return self
