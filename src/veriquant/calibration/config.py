"""What a recipe says of the quantizers themselves: images, schemes, widths, range rules."""

from __future__ import annotations

from pydantic import Field, field_validator

from veriquant.config import Config
from veriquant.schemes import RULES, SCHEMES
from veriquant.simulation.precision import FLOAT_BITS


class CalibrationConfig(Config):
    """Unlabelled images."""

    images: int = Field(default=128, ge=1)
    """How many set ranges, measure sensitivities and round weights."""
    check_images: int = Field(default=64, ge=1)
    """How many others measure what comes out."""


class _TensorConfig(Config):
    """What weights and activations have in common."""

    @field_validator("bits", mode="before", check_fields=False)
    @classmethod
    def _bits(cls, value: int | str | None) -> int | str | None:
        return FLOAT_BITS if value == "float" else value

    @field_validator("scheme", check_fields=False)
    @classmethod
    def _scheme(cls, value: str) -> str:
        return SCHEMES.get(value).name

    @field_validator("ranges", check_fields=False)
    @classmethod
    def _ranges(cls, value: str | None) -> str | None:
        return None if value is None else RULES.get(value).name


class WeightsConfig(_TensorConfig):
    """How weights are quantized."""

    scheme: str = "symmetric"
    """A scheme for weights."""
    bits: int | None = Field(default=None, ge=1, le=FLOAT_BITS)
    """The width of all weights, or 'float'; empty: the allocation's to choose."""
    ranges: str | None = None
    """The range rule, where the scheme takes one; empty: that of the activations."""


class ActivationsConfig(_TensorConfig):
    """How activations are quantized."""

    scheme: str = "asymmetric"
    """A scheme for activations."""
    bits: int | None = Field(default=None, ge=1, le=FLOAT_BITS)
    """The width of all activations, or 'float'; empty: the allocation's to choose."""
    ranges: str = "mse"
    """The range rule: minmax, percentile, mse or entropy."""
