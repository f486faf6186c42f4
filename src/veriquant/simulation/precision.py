"""`Precision`: the widths that a kernel computes in: bits of its weights and of its activations."""

from __future__ import annotations

import re
from typing import NamedTuple

from veriquant.errors import VeriQuantError

FLOAT_BITS = 32


class Precision(NamedTuple):
    """Bits of weights and of activations; 32 is floating point. Written as ``W4A8``, or ``FP32`` for (32, 32)."""

    weight_bits: int
    activation_bits: int

    def __str__(self) -> str:
        return "FP32" if self == FP32 else f"W{self.weight_bits}A{self.activation_bits}"

    @classmethod
    def parse(cls, text: str) -> Precision:
        """Read ``W4A8`` or ``FP32``; raise `VeriQuantError` for anything else."""
        if text.upper() == "FP32":
            return FP32
        found = re.fullmatch(r"W(\d{1,2})A(\d{1,2})", text.strip().upper())
        if not found:
            raise VeriQuantError(f"{text!r} is no precision: write the bits of weights and activations, such as W4A8")
        weight, activation = (int(each) for each in found.groups())
        for bits in (weight, activation):
            if not (1 <= bits <= 16 or bits == FLOAT_BITS):
                raise VeriQuantError(f"{text!r}: {bits} bits; there are 1 to 16, or 32 for floating point")
        return cls(weight, activation)


FP32 = Precision(FLOAT_BITS, FLOAT_BITS)
