"""Weights of 8, 4 and 2 bits side by side, those of each width on a grid of their own in every channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from veriquant.errors import VeriQuantError
from veriquant.schemes.codes import Codes
from veriquant.schemes.power_of_two_grids import COLUMNS, LOWEST, lowest, spacings
from veriquant.schemes.quantizer import Quantizer
from veriquant.schemes.straight_through import along, straight_through, wants_gradient

_ZERO_POINT = 128


class MixedLevels(Quantizer):
    """value = step · 2^k · (lowest + code), code = clamp(round(value/(step · 2^k) − lowest), 0, 2^b − 1).

    b is the weight's width, k the exponent of its channel for that width; `lowest` is −128, −8 and −3/2 for 8, 4 and 2
    bits. 8 bits have k = 0, 4 bits k from 0 to 4, 2 bits k from 1 to 6. So every value is its channel's step times a
    whole number from −128 to 127, and products with codes of activations are sums of integers. For a tensor of weights,
    output channels first. The gradient is the straight-through estimator's.
    """

    bits = 8
    axis = 0
    scale: Tensor
    """float32, (channels,), above zero: the step."""
    widths: Tensor
    """uint8, the weight's shape: 2, 4 or 8."""
    exponents: Tensor
    """uint8, (channels, 2): k of the weights of 2 and of 4 bits."""
    _spacing: Tensor
    _lowest: Tensor
    _top: Tensor

    def __init__(self, scale: Tensor, widths: Tensor, exponents: Tensor) -> None:
        super().__init__()
        if widths.dtype != torch.uint8 or scale.shape != widths.shape[:1]:
            raise ValueError(f"widths {widths.dtype} {tuple(widths.shape)} for {tuple(scale.shape)} steps")
        if exponents.shape != (len(scale), len(COLUMNS)):
            raise ValueError(f"exponents of shape {tuple(exponents.shape)}: expected ({len(scale)}, {len(COLUMNS)})")
        check_widths(widths)
        self._hold(scale)
        self.register_buffer("widths", widths.detach().clone())
        self.register_buffer("exponents", exponents.detach().to(torch.uint8).clone())
        self.register_load_state_dict_post_hook(_measure_loaded)  # type: ignore[no-untyped-call]
        self._measure()

    def forward(self, values: Tensor) -> Tensor:
        """See `Quantizer.forward`."""
        with torch.no_grad():
            step = self.step()
            codes, inside = self._placed(values, step)
            rounded = self._whole(codes).mul_(along(step, 0, values.ndim)).to(values.dtype)
        return straight_through(values, rounded, inside) if wants_gradient(values) else rounded

    @torch.no_grad()
    def codes(self, values: Tensor) -> Codes:
        """See `Quantizer.codes`: codes of 8 bits, with the widths and exponents that say how few do."""
        step = self.step()
        integers = self._whole(self._placed(values, step)[0]).to(torch.int32)
        zero_point = torch.full(step.shape, _ZERO_POINT, dtype=torch.int32, device=step.device)
        return Codes(
            integers + _ZERO_POINT, self.bits, step, zero_point, axis=0, widths=self.widths, exponents=self.exponents
        )

    def step(self) -> Tensor:
        """Return the step of each channel, float32, (channels,)."""
        return self.scale

    def extra_repr(self) -> str:
        """Return what the module prints of itself."""
        return f"widths={_used(self.widths)}, channels={len(self.exponents)}"

    def _hold(self, scale: Tensor) -> None:
        self.register_buffer("scale", scale.detach().to(torch.float32).clone())

    def _measure(self) -> None:
        """Derive from widths and exponents what every pass needs of each weight."""
        self.register_buffer("_spacing", spacings(self.widths, self.exponents), persistent=False)
        self.register_buffer("_lowest", lowest(self.widths), persistent=False)
        self.register_buffer("_top", torch.exp2(self.widths.float()).round_() - 1, persistent=False)

    def _placed(self, values: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return each weight's own code, float32, and whether it is the nearest of all rather than an end."""
        codes = values.float().div(along(step, 0, values.ndim)).div_(self._spacing).sub_(self._lowest).round_()
        inside = (codes >= 0) & (codes <= self._top)
        return torch.minimum(codes.clamp_(min=0), self._top), inside

    def _whole(self, codes: Tensor) -> Tensor:
        """Return what own codes stand for in units of the step, in place."""
        return codes.add_(self._lowest).mul_(self._spacing)


def check_widths(widths: Tensor) -> None:
    """Raise `VeriQuantError` for widths other than 2, 4 and 8 bits."""
    others = [str(each) for each in _used(widths) if each not in LOWEST]
    if others:
        raise VeriQuantError(f"weights of {', '.join(others)} bits in a mixture: choose among 2, 4 and 8")


def _used(widths: Tensor) -> list[int]:
    return [width for width, count in enumerate(torch.bincount(widths.flatten()).tolist()) if count]


def _measure_loaded(module: nn.Module, _: object) -> None:
    assert isinstance(module, MixedLevels)
    module._measure()
