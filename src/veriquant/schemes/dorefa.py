"""DoReFa weights: uniform levels over [−1, 1] of the weights' hyperbolic tangents, with a bit width for every weight.

Zhou et al., 'DoReFa-Net' (2016), as Kolf et al., eq. 5 and 6, use it. The levels that a weight
goes to depend on the largest weight given with it, so that quantizing twice is not quantizing once; zero is no level;
the gradient inside the range is not 1; a width may differ from weight to weight.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from veriquant.errors import VeriQuantError
from veriquant.schemes.clipped import inner, total
from veriquant.schemes.codebook import CodebookQuantizer
from veriquant.schemes.codes import Codes
from veriquant.schemes.learned import LEAST
from veriquant.schemes.midrise import fit_midrise
from veriquant.schemes.quantizer import SCHEMES, LearnableWeight, Quantizer, Scheme, WidthPerWeightQuantizer
from veriquant.schemes.relative import relative_to_largest
from veriquant.schemes.straight_through import along

WIDTHS = range(2, 9)

Output = Literal["none", "layer", "channel"]
"""What the levels are multiplied by: nothing (the source), a number for the layer, a number per output channel."""
Normalised = Literal["layer", "channel"]
"""Whose largest |tanh w| is the end of the range: the layer's (the source) or each output channel's own."""

#: float32 holds every integer up to here: the common grid of all levels must not be finer.
_EXACT = 2**24


class DorefaQuantizer(WidthPerWeightQuantizer):
    """value = scale · (2·code/(2^b − 1) − 1) with code = round((2^b − 1)·(tanh(w)/(2·max|tanh w|) + ½)), 0 to 2^b − 1.

    b may differ from weight to weight. All levels lie on one grid of steps scale/L, L the least common multiple of the
    2^b − 1 in use, and are computed as whole numbers on it: L = 255 where widths are of 8, 4 and 2 bits, because 15 and
    3 divide 255, so that such a mixture is a tensor of 8-bit codes. 63 does not: 6 and 8 bits share the grid of 5355.
    A mixture of 5, 6, 7 and 8 bits has none in float32 and is refused.

    The output lies in [−scale, scale] whatever the size of the weights. Without an output scale (the source) that is
    harmless only before a batch-norm that is re-estimated; `output` says which there is. The scale is a parameter, its
    gradient multiplied by 1/√N for N weights a scale, as with learned steps, and never less in use than 1/256 of its
    first value.

    The gradient of the rounding is 1; that of tanh and of its maximum is computed.

    `bits`: the least width of a code that tells all levels of the mixture apart: b where there is one width b, 8 for 8,
    4 and 2 bits, 4 for 4 and 2.
    """

    widths: Tensor
    """uint8, () for one width or the weight's shape, each 2 to 8; changed by `set_widths` alone."""
    scale: Tensor
    """float32, () or (channels,): a parameter, or with output "none" a buffer of 1."""
    least: Tensor
    """float32, shaped as `scale`: its smallest value in use."""
    output: Output
    normalised: Normalised
    _top: Tensor
    _apart: Tensor
    _span: Tensor

    def __init__(self, widths: int | Tensor, scale: Tensor | None = None, *, normalised: Normalised = "layer") -> None:
        super().__init__()
        if scale is not None and scale.ndim > 1:
            raise ValueError(f"an output scale of shape {tuple(scale.shape)}: expected () or (channels,)")
        self.output = "none" if scale is None else "channel" if scale.ndim else "layer"
        self.normalised = normalised
        self.axis = 0 if self.output == "channel" else None
        if scale is None:
            self.register_buffer("scale", torch.tensor(1.0))
        else:
            self.scale = nn.Parameter(scale.detach().to(torch.float32).clone())
        self.register_buffer("least", self.scale.detach() * LEAST)
        given = torch.as_tensor(widths)
        self.register_buffer("widths", torch.empty(given.shape, dtype=torch.uint8, device=given.device))
        self.register_load_state_dict_post_hook(_measure_loaded)  # type: ignore[no-untyped-call]
        self.set_widths(given)

    @classmethod
    def of(
        cls,
        weight: Tensor,
        widths: int | Tensor,
        *,
        output: Output = "layer",
        normalised: Normalised = "layer",
    ) -> DorefaQuantizer:
        """Return a quantizer for `weight`, float, output channels first, whose output scale starts by least squares."""
        made = cls(widths, normalised=normalised)
        if output == "none":
            return made
        with torch.no_grad():
            weight = weight.detach().float()
            levels = made(weight)
            axis = 0 if output == "channel" else None
            scale = total(weight * levels, axis) / total(levels.square(), axis)
            scale = torch.where(scale > torch.finfo(torch.float32).tiny, scale, 1.0)
        return cls(widths, scale, normalised=normalised)

    def set_widths(self, widths: int | Tensor) -> None:
        """Give every weight its width: integers of 2 to 8, one or of the weight's shape, the same as before."""
        widths = torch.as_tensor(widths, device=self.widths.device)
        if widths.shape != self.widths.shape:
            raise ValueError(f"widths of shape {tuple(widths.shape)} where {tuple(self.widths.shape)} is expected")
        low, high = (int(each) for each in torch.aminmax(widths))
        if low not in WIDTHS or high not in WIDTHS:
            raise VeriQuantError(f"DoReFa widths from {low} to {high} bits: choose {WIDTHS[0]} to {WIDTHS[-1]}")
        self.widths.copy_(widths)
        self._measure()

    def assign_widths(self, latent: Tensor, widths: Tensor) -> None:
        """See `WidthPerWeightQuantizer.assign_widths`: the levels are the same for all weights."""
        self.set_widths(widths)

    def magnitudes(self, latent: Tensor) -> Tensor:
        """See `WidthPerWeightQuantizer.magnitudes`: latent weights are relative from the start."""
        return latent

    def forward(self, values: Tensor) -> Tensor:
        """See `Quantizer.forward`; `values` are the whole layer's weights."""
        return cast(Tensor, _Dorefa.apply(values, self.scale, self))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def codes(self, values: Tensor) -> Codes:
        """See `Quantizer.codes`; the table holds whole numbers, the levels on the grid."""
        table = self._table()
        codes = torch.searchsorted(table, self.integers(values)).to(torch.int32)
        return Codes(codes, self.bits, self.step(), levels=self._padded_table(), axis=self.axis)

    def parameter_scales(self) -> dict[str, Tensor]:
        """See `Quantizer.parameter_scales`: the output scale that it started from."""
        return {} if self.output == "none" else {"scale": self.least / LEAST}

    @torch.no_grad()
    def freeze(self) -> CodebookQuantizer:
        """See `Quantizer.freeze`: its levels are those of all widths in use, and each weight keeps its own."""
        differ = self.widths.numel() > 1 and int(self.widths.min()) < int(self.widths.max())
        widths = self.widths.clone() if differ else None
        return MixedWidths(self._padded_table(), self.step(), self.bits, self.axis, widths)

    @torch.no_grad()
    def own_codes(self, values: Tensor) -> Tensor:
        """Return each weight's code in its own width, uint8, shaped as `values`."""
        return self._codes(*self.squashed(values)).to(torch.uint8)

    @torch.no_grad()
    def of_own_codes(self, codes: Tensor) -> Tensor:
        """Return what codes of `own_codes` stand for, float32: what `forward` gave."""
        return self._grid(codes.float()).mul_(along(self.step(), self.axis, codes.ndim))

    @torch.no_grad()
    def integers(self, values: Tensor) -> Tensor:
        """Return the result in units of `step`, float32: whole numbers in [−L, L], whose sums are exact."""
        return self._grid(self._codes(*self.squashed(values)))

    def levels_by_width(self) -> dict[int, tuple[int, int]]:
        """Return for each width in use (apart, lowest): apart · own code + lowest is the level in units of `step`."""
        span = int(self._span)
        return {width: (2 * span // (2**width - 1), -span) for width in self._used}

    @torch.no_grad()
    def step(self) -> Tensor:
        """Return the grid's step, scale/L, shaped as `scale`."""
        return torch.maximum(self.scale, self.least) / self._span

    @torch.no_grad()
    def squashed(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return tanh of the values, float32, and the largest magnitude of it, () or (channels,); 1 where all are 0."""
        squashed = torch.tanh(values.float())
        largest = squashed.flatten(1).abs().amax(1) if self.normalised == "channel" else squashed.abs().amax()
        return squashed, torch.where(largest > 0, largest, 1.0)

    def extra_repr(self) -> str:
        """Return what the module prints of itself."""
        return f"widths={self._used}, output={self.output}, normalised={self.normalised}"

    def _measure(self) -> None:
        """Derive from the widths what every pass needs: per weight the highest code and the distance of two codes."""
        used = [width for width in WIDTHS if bool((self.widths == width).any())]
        span = math.lcm(*(2**width - 1 for width in used))
        if 2 * span > _EXACT:
            raise VeriQuantError(
                f"DoReFa weights of {', '.join(map(str, used))} bits together have no grid that float32 holds: "
                "leave one of these widths out"
            )
        self._used = used
        top = torch.exp2(self.widths.float()).round_() - 1
        self.register_buffer("_top", top, persistent=False)
        self.register_buffer("_apart", (2 * span / top).round_(), persistent=False)
        self.register_buffer("_span", torch.tensor(float(span), device=top.device), persistent=False)
        self.bits = (len(self._table()) - 1).bit_length()

    def _codes(self, squashed: Tensor, largest: Tensor) -> Tensor:
        half = torch.div(squashed, along(2 * largest, 0, squashed.ndim)).add_(0.5)
        return half.mul_(self._top).round_()

    def _grid(self, codes: Tensor) -> Tensor:
        return codes.mul(self._apart).sub_(self._span)

    def _padded_table(self) -> Tensor:
        """Return `_table` with its last level repeated, so that every code of `bits` bits has one."""
        table = self._table()
        return torch.cat([table, table[-1:].expand(2**self.bits - len(table))])

    def _table(self) -> Tensor:
        """Return all levels that the widths in use have, in units of the step, float32, ascending."""
        each = self.levels_by_width().items()
        levels = {apart * code + lowest for width, (apart, lowest) in each for code in range(2**width)}
        return torch.tensor(sorted(levels), dtype=torch.float32, device=self._span.device)


class MixedWidths(CodebookQuantizer):
    """The levels of a `DorefaQuantizer` after training, in units of its step, for the weights that it was trained on.

    To be given the weights on their levels, which it leaves as they are.
    """

    widths: Tensor | None
    """uint8, the weights' shape; None where all have `bits`."""

    def __init__(self, levels: Tensor, scale: Tensor, bits: int, axis: int | None, widths: Tensor | None) -> None:
        super().__init__(levels, scale, bits, axis)
        self.register_buffer("widths", widths)

    def codes(self, values: Tensor) -> Codes:
        """See `Quantizer.codes`; with the widths, where they differ."""
        return replace(super().codes(values), widths=self.widths)


def _measure_loaded(module: nn.Module, _: object) -> None:
    assert isinstance(module, DorefaQuantizer)
    module._measure()


class _Dorefa(torch.autograd.Function):
    """With y = tanh w, M = max|y| and scale s, the rounding aside: v̂ = s·y/M."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, quantizer: DorefaQuantizer) -> Tensor:
        squashed, largest = quantizer.squashed(values)
        step = quantizer.step()
        rounded = quantizer._grid(quantizer._codes(squashed, largest)).mul_(along(step, quantizer.axis, values.ndim))
        ctx.save_for_backward(squashed, largest, rounded, step * quantizer._span)
        ctx.axis = quantizer.axis
        return rounded.to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        squashed, largest, rounded, scale = ctx.saved_tensors
        given = gradient.float()
        per_weight = per_scale = None
        if ctx.needs_input_grad[1]:
            count = given.numel() / scale.numel()
            per_scale = inner(given, rounded, ctx.axis) / scale / math.sqrt(count)
        if ctx.needs_input_grad[0]:
            spread = given * (along(scale, ctx.axis, given.ndim) / along(largest, 0, given.ndim))
            spread = _through_maximum(spread, squashed, largest)
            per_weight = spread.addcmul_(spread * squashed, squashed, value=-1).to(gradient.dtype)
        return per_weight, per_scale, None


def _through_maximum(spread: Tensor, squashed: Tensor, largest: Tensor) -> Tensor:
    """Return `spread`, the gradient of y at constant M, and what reaches y through M, at the (first) largest y."""
    rows = squashed.reshape(max(largest.numel(), 1), -1)
    flat = spread.reshape(rows.shape)
    at = rows.abs().argmax(1, keepdim=True)
    pull = inner(flat, rows, 0)[:, None] / largest.reshape(-1, 1)
    return flat.scatter_add(1, at, -pull * rows.gather(1, at).sign()).reshape(spread.shape)


#: The latent weights of a channel begin in [−1, 1], where tanh is bent and not yet flat.
_REACH = 1.0


def _mix_widths(weight: Tensor, widths: Tensor) -> LearnableWeight:
    """Return DoReFa levels of which each channel is brought to the same range, multiplied by a scale that learns."""
    scale, share = relative_to_largest(weight)
    return LearnableWeight(DorefaQuantizer(widths, scale, normalised="channel"), torch.atanh(share * math.tanh(_REACH)))


def _fit_weight(weight: Tensor, bits: int, _ranges: str) -> Quantizer:
    """Return the levels, odd multiples of one number, by least squared error: training moves latent weights to them."""
    return fit_midrise(weight, bits)


def _learn_weight(fitted: Quantizer, weight: Tensor) -> LearnableWeight:
    return _mix_widths(weight, torch.full_like(weight, fitted.bits, dtype=torch.uint8))


SCHEMES.add(
    "dorefa",
    Scheme(
        "dorefa",
        "uniform levels of the weights' hyperbolic tangents, none at zero; a width for every weight; to be trained",
        "Zhou et al. 2016; Kolf et al., equations 5 and 6",
        WIDTHS,
        _fit_weight,
        learn_weight=_learn_weight,
        mix_widths=_mix_widths,
        uses_ranges=False,
    ),
)
