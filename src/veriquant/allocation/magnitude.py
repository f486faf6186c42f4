"""The iterative magnitude mask: a bit width for every weight, halved step by step for those of least magnitude.

Kolf et al., sections 3.3 and 4.5, after Li et al. (2023). Weights are ranked over all layers together: the source takes
p per cent of the network's parameters, and its Fig. 2 shows layers whose averages differ, which a ranking within each
layer would make equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from veriquant.errors import VeriQuantError

#: Section 4.5: the width that weights start with, how many iterations there are, what part is halved after each.
START, ITERATIONS, SHARE, LEAST = 8, 12, 0.5, 2


@dataclass(frozen=True)
class MaskState:
    """The widths of one iteration, counted from 1, in which all weights have the width that they start with.

    `widths`: by layer, uint8, each shaped as the layer's weight. Kept as a plain mapping of tensors and a number, it
    can be saved after any iteration and gone on with.
    """

    iteration: int
    widths: Mapping[str, Tensor]

    @classmethod
    def first(cls, weights: Mapping[str, Tensor], bits: int = START) -> MaskState:
        """Return the state of the first iteration for `weights`, by layer: `bits` everywhere."""
        return cls(1, {name: torch.full_like(each, bits, dtype=torch.uint8) for name, each in weights.items()})

    def next(
        self,
        weights: Mapping[str, Tensor],
        *,
        share: float = SHARE,
        iterations: int = ITERATIONS,
        least: int = LEAST,
    ) -> MaskState:
        """Return the state of the next iteration, given the `weights` as this one has trained them.

        In the last iteration all have the `least` width, as in the source: halving half of the rest would not get
        there. Raises `VeriQuantError` where that was already the last, or as `halve_least` does.
        """
        if self.iteration >= iterations:
            raise VeriQuantError(
                f"iteration {self.iteration} of {iterations} was the last one: raise the number for more"
            )
        if self.iteration + 1 == iterations:
            return MaskState(iterations, {name: each.clamp(max=least) for name, each in self.widths.items()})
        return MaskState(self.iteration + 1, halve_least(self.widths, weights, share, least))

    @property
    def average(self) -> float:
        """Average bits of a weight over all layers."""
        return average_bits(self.widths)

    def by_layer(self) -> dict[str, float]:
        """Return the average bits of each layer (Fig. 2)."""
        return {name: average_bits({name: each}) for name, each in self.widths.items()}


def halve_least(
    widths: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    share: float = SHARE,
    least: int = LEAST,
) -> dict[str, Tensor]:
    """Return new widths: of all weights wider than `least`, the `share` of least magnitude have ⌊width/2⌋ bits.

    `widths`: by layer, uint8. `weights`: by the same names and of the same shapes, float; their sign does not count.
    The number of those that are halved is rounded up, so that something always is. Among equal magnitudes those of the
    layer that comes first, and in it the first, are halved. No width falls below `least`. Nothing that is given is
    changed. Raises `VeriQuantError` for a share outside 0 to 1, weights that do not fit the widths or are not finite.
    """
    if not 0 < share <= 1:
        raise VeriQuantError(f"a share of {share} of the weights cannot be halved: give a number above 0, at most 1")
    candidates = {name: _magnitudes(name, each, weights.get(name), least) for name, each in widths.items()}
    chosen = _least(candidates, share)
    result = {}
    for name, each in widths.items():
        result[name] = torch.where(chosen[name], (each // 2).clamp(min=least), each)
    return result


def average_bits(widths: Mapping[str, Tensor]) -> float:
    """Return the mean of all widths, in bits."""
    total = sum(int(each.sum(dtype=torch.int64)) for each in widths.values())
    return total / max(sum(each.numel() for each in widths.values()), 1)


def _magnitudes(name: str, widths: Tensor, weight: Tensor | None, least: int) -> Tensor:
    """Return |weight| where a weight is wider than `least` and infinity elsewhere, float32."""
    if weight is None or weight.shape != widths.shape:
        found = "none" if weight is None else f"one of shape {tuple(weight.shape)}"
        raise VeriQuantError(
            f"the mask is for another network: it has {name} of shape {tuple(widths.shape)}, the network has {found}"
        )
    magnitude = weight.detach().float().abs()
    if not bool(magnitude.isfinite().all()):
        raise VeriQuantError(f"weights of {name} are NaN or infinite: go back to the last good checkpoint")
    return torch.where(widths > least, magnitude, torch.inf)


def _least(candidates: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return, by layer, which of the finite candidates belong to the `share` of least size."""
    everything = torch.cat([each.flatten() for each in candidates.values()]) if candidates else torch.zeros(0)
    finite = everything.isfinite()
    count = int(finite.sum())
    if count == 0:
        return {name: torch.zeros_like(each, dtype=torch.bool) for name, each in candidates.items()}
    wanted = -int(-share * count // 1)
    threshold = everything[finite].kthvalue(wanted).values
    below = everything < threshold
    level = everything == threshold
    chosen = below | (level & (level.cumsum(0) <= wanted - below.sum()))
    parts = torch.split(chosen, [each.numel() for each in candidates.values()])
    return {name: part.view(each.shape) for (name, each), part in zip(candidates.items(), parts, strict=True)}
