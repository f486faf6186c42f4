"""What recoveries that train may be told: loss, images, and how long."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from veriquant.config import Config
from veriquant.training.augment import PRESETS
from veriquant.training.distillation import Distance
from veriquant.training.schedule import Schedule
from veriquant.training.settings import LoopSettings

#: The loss that needs no labels.
TEACHER = "teacher"
#: The width of weights that learning rates are given for.
_BITS = 2.0


class QatConfig(Config):
    """Training of the quantized network; by default label-free: it learns the full-precision network's embeddings."""

    train_images: int = Field(default=4000, ge=2)
    """How many of the images train it, those that set ranges among them."""
    range_learning: Literal["learned", "observed"] = "learned"
    """Steps and offsets of the levels are trained with the network (LSQ); or they follow the extremes of what passes
    for `observe` of the run and are frozen then (Kolf et al., section 3.4)."""
    observe: float = Field(default=0.2, ge=0, le=1)
    """The share of the run in which ranges are observed."""
    loss: Literal["teacher", "arcface", "cosface", "adaface"] = "teacher"
    """The distance of the embeddings to full precision, or a margin head's, for which a training set is named."""
    distance: Distance = "cosine"
    """The teacher's: cosine or squared."""
    feature_weight: float = Field(default=1.0, ge=0)
    """The weight of differences to the full-precision network on the way to the embeddings (feature distillation)."""
    feature_tensors: int = Field(default=16, ge=1)
    """At how many tensors these are taken."""
    scale: float | None = Field(default=None, gt=0)
    """s of the margin head."""
    margin: float | None = Field(default=None, ge=0)
    """m of the margin head."""
    quantizer_lr: float = Field(default=1.0, ge=0)
    """The learning rate of the levels relative to that of the weights."""
    batch_size: int = Field(default=8, ge=2)
    """Images a step."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the images."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """AdamW moves everything by a share of its size."""
    lr: float = Field(default=5e-3, gt=0)
    """The learning rate; with AdamW relative to the size of what learns, for 2-bit weights, and half with every bit
    more, whose levels are half as far apart; with SGD the rate itself."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of the weights."""
    schedule: Schedule = Schedule(kind="cosine", warmup=0.2)
    """Of the learning rate."""
    augmentation: str = "flip"
    """Of the images: a preset of `veriquant.training.augment`."""
    seed: int = Field(default=0, ge=0)
    """Of all that is drawn."""
    workers: int = Field(default=0, ge=0)
    """Processes that decode images."""
    accelerator: str = "auto"
    """Lightning Fabric's: cpu, gpu, auto."""

    #: Settings that change where or how far a training goes, but not what comes out of each part of it.
    free: ClassVar[frozenset[str]] = frozenset({"workers", "accelerator"})

    def decisive(self) -> dict[str, object]:
        """Return the settings that what is trained depends on, as plain data."""
        return self.model_dump(mode="json", exclude=set(self.free))

    @property
    def labelled(self) -> bool:
        """Whether it learns who is who."""
        return self.loss != TEACHER

    def _changed(self, name: str) -> bool:
        """Tell whether a setting was given, and is not what it would be anyway."""
        return name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default

    @field_validator("augmentation")
    @classmethod
    def _augmentation(cls, value: str) -> str:
        PRESETS.get(value)
        return value

    @model_validator(mode="after")
    def _has_a_use(self) -> QatConfig:
        """Refuse what would be recorded and change nothing."""
        if self.loss == TEACHER and (self.scale is not None or self.margin is not None):
            raise ValueError(
                "scale and margin are those of a margin head, which loss 'teacher' has not: leave them out, or set "
                "them to null where a recipe brings them"
            )
        if self.loss != TEACHER and self._changed("distance"):
            raise ValueError(f"distance is that of loss 'teacher': leave it out with loss {self.loss!r}")
        if self.range_learning == "learned" and self._changed("observe"):
            raise ValueError("observe is for range_learning 'observed': learned levels are never frozen; leave it out")
        if self.feature_weight == 0 and self._changed("feature_tensors"):
            raise ValueError("feature_tensors are compared with a feature_weight above 0: leave them out, or raise it")
        if self.range_learning == "observed" and self._changed("quantizer_lr"):
            raise ValueError(
                "quantizer_lr is that of learned levels, and observed ranges follow no gradient: leave it out"
            )
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
