"""PACT: activations whose clipping value α is trained with the network.

Kolf et al., eq. 7 and 8, after Choi et al., 'PACT' (2018). The source clips to [0, α] alone, which fits a ReLU; behind
a PReLU there are negative values, for which there are two kinds with two sides.

Until it is trained, its levels are those of scheme `asymmetric`, over the range that calibration found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from veriquant.errors import VeriQuantError
from veriquant.schemes.affine import AffineQuantizer
from veriquant.schemes.clipped import passed
from veriquant.schemes.learned import LEAST, LearnedLevels
from veriquant.schemes.quantizer import SCHEMES, Quantizer, Scheme
from veriquant.schemes.uniform_grid import WIDTHS, check_width, uniform_grid

Kind = Literal["one-sided", "symmetric", "two-sided"]
"""Which range: [0, α] (the source's), [−α, α] or [−α₁, α₂]."""


class PactQuantizer(LearnedLevels[AffineQuantizer]):
    """Clips to [0, α], [−α, α] or [−α₁, α₂] and rounds to 2**bits uniform levels over that range; one for the tensor.

    One-sided: round(clip(v, 0, α)·(2^b − 1)/α)·α/(2^b − 1), eq. 7 and 8. With two sides zero is a level, so that both
    ends of the levels may lie up to half a step from the range's (see `uniform_grid`). Gradients as in Choi et al.: a
    value inside passes its own on; one at or beyond an end passes it to that end's α, where a negative end turns its
    sign. There is no gradient scale. The α in use is at least 1/256 of its first value, so that it stays positive; the
    gradient passes all the same, so that it can come back.
    """

    alpha: Tensor
    """Parameter: float32, (); two-sided: (2,), α₁ of the negative side and α₂ of the positive."""
    least: Tensor
    """float32, shaped as `alpha`: its smallest value in use."""
    kind: Kind
    """Which of the three ranges."""

    def __init__(self, alpha: Tensor, bits: int = 8, kind: Kind = "one-sided") -> None:
        super().__init__()
        check_width(bits)
        if kind not in get_args(Kind):
            raise VeriQuantError(f"PACT has no kind {kind!r}: choose one of {', '.join(get_args(Kind))}")
        alpha = alpha.detach().to(torch.float32).clone()
        if alpha.shape != ((2,) if kind == "two-sided" else ()):
            raise ValueError(f"alpha of shape {tuple(alpha.shape)} for {kind} PACT")
        if not bool((alpha > 0).all()):
            raise VeriQuantError(f"PACT clips at {alpha.tolist()}: expected values above zero; give the range observed")
        self.bits = bits
        self.axis = None
        self.kind = kind
        self.alpha = nn.Parameter(alpha)
        self.register_buffer("least", alpha * LEAST)

    @classmethod
    def over(cls, low: float, high: float, bits: int = 8, kind: Kind | None = None) -> PactQuantizer:
        """Return the quantizer whose range starts as [low, high], as observed or fitted.

        `kind`: None takes one-sided where nothing is negative and two-sided otherwise. Symmetric spans the larger side;
        a side on which there is nothing starts at a hundredth of the other.
        """
        low, high = max(-low, 0.0), max(high, 0.0)
        if kind is None:
            kind = "two-sided" if low > 0 else "one-sided"
        if kind == "two-sided":
            least = max(low, high) / 100 or 1.0
            return cls(torch.tensor([max(low, least), max(high, least)]), bits, kind)
        widest = max(low, high) if kind == "symmetric" else high
        return cls(torch.tensor(widest or 1.0), bits, kind)

    def with_gradient(self, values: Tensor, rounded: Tensor, frozen: AffineQuantizer) -> Tensor:
        """See `LearnedLevels.with_gradient`: to α."""
        clipping = _Clipping(frozen.scale, frozen.zero_point, self.bits, self.kind)
        return cast(Tensor, _Pact.apply(values, rounded, self.alpha, clipping))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def freeze(self) -> AffineQuantizer:
        """Return the levels as they are now, as a quantizer that learns no more; it gives the same bit for bit."""
        alpha = torch.maximum(self.alpha, self.least)
        low, high = alpha.unbind() if self.kind == "two-sided" else (alpha, alpha)
        low = torch.zeros_like(low) if self.kind == "one-sided" else -low
        return AffineQuantizer(*uniform_grid(low, high, self.bits, symmetric=False), self.bits)

    def parameter_scales(self) -> dict[str, Tensor]:
        """See `Quantizer.parameter_scales`: the α that it started from."""
        return {"alpha": self.least / LEAST}

    def extra_repr(self) -> str:
        """Return what the module prints of itself."""
        return f"bits={self.bits}, kind={self.kind}"


@dataclass(frozen=True)
class _Clipping:
    """The levels of one forward pass. Codes here are real numbers: 0 and 2^bits − 1 are the ends, which clip."""

    scale: Tensor
    zero_point: Tensor
    bits: int
    kind: Kind

    def inside(self, gradient: Tensor, values: Tensor) -> Tensor:
        """Return `gradient` where a value is within the range, 0 where it is clipped."""
        return self._passed(gradient, values, self._first())

    def not_above(self, gradient: Tensor, values: Tensor) -> Tensor:
        """Return `gradient` below the upper end, 0 at it and beyond."""
        return self._passed(gradient, values, -torch.inf)

    def _first(self) -> float:
        # Eq. 7 counts 0 itself, which a ReLU gives often, as inside [0, α).
        return -(2.0**-100) if self.kind == "one-sided" else 0.0

    def _passed(self, gradient: Tensor, values: Tensor, low: float) -> Tensor:
        return passed(gradient, values, self.scale, self.zero_point, low, 2.0**self.bits - 1)


class _Pact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rounded: Tensor, alpha: Tensor, clipping: _Clipping) -> Tensor:
        ctx.save_for_backward(values)
        ctx.clipping = clipping
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (values,) = ctx.saved_tensors
        clipping: _Clipping = ctx.clipping
        given, values = gradient.float(), values.float()
        through = clipping.inside(given, values)
        above = given.sum() - clipping.not_above(given, values).sum()
        if clipping.kind == "one-sided":
            alpha = above
        else:
            below = given.sum() - through.sum() - above
            alpha = torch.stack([-below, above]) if clipping.kind == "two-sided" else above - below
        return through.to(gradient.dtype), None, alpha, None


def _learn_activation(fitted: Quantizer) -> Quantizer:
    """Return PACT over the range that calibration found."""
    assert isinstance(fitted, AffineQuantizer)
    low = float(-fitted.zero_point * fitted.scale)
    return PactQuantizer.over(low, low + float(fitted.scale) * (2**fitted.bits - 1), fitted.bits)


SCHEMES.add(
    "pact",
    Scheme(
        "pact",
        "activations clipped at values that training learns; without training the levels of asymmetric",
        "Choi et al. 2018; Kolf et al., equations 7 and 8",
        WIDTHS,
        fit_activation=SCHEMES.get("asymmetric").fit_activation,
        learn_activation=_learn_activation,
    ),
)
