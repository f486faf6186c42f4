"""What the caller hands over to be packed: the codes of each weight, the levels of each activation."""

from __future__ import annotations

from dataclasses import dataclass

from veriquant.schemes.codes import Codes


@dataclass(frozen=True)
class PackedWeight:
    """The codes of one operation's weight, output channels first (axis 0).

    `integer`: the operation should run in a kernel for integers. It does where its codes are uniform, of at most 8
    bits and with one zero point for all channels, and what it reads (a convolution also: writes) is quantized to at
    most 8 bits; otherwise it computes in float with the same levels. `exact`: it should sum codes in float, so that
    every runtime gives the same embeddings to the last code; it does where weight and input have at most 8 bits.
    """

    codes: Codes
    integer: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        if self.codes.axis not in (None, 0):
            raise ValueError(f"the channels of a weight's codes lie along axis 0, not {self.codes.axis}")


@dataclass(frozen=True)
class PackedActivation:
    """Uniform levels of an activation tensor: code = clamp(round(x / scale) + zero_point, 0, 2**bits − 1).

    The value is (code − zero_point) · scale; halves are rounded to even. 1 <= bits <= 16.
    """

    scale: float
    zero_point: int
    bits: int

    def __post_init__(self) -> None:
        if not (1 <= self.bits <= 16 and 0 <= self.zero_point < 1 << self.bits and self.scale > 0):
            raise ValueError(f"{self}: 1 to 16 bits, a zero point in [0, 2**bits) and a positive scale are needed")
