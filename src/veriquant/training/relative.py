"""`RelativeAdamW`: AdamW whose learning rate is a share of each parameter's size.

Adam moves every parameter by about the learning rate, whatever its size. In a network whose batch normalisation was
folded into the weights, sizes differ by orders of magnitude from channel to channel, and levels and biases are of other
sizes again: one rate would throw some about and leave others where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


class RelativeAdamW(torch.optim.AdamW):
    """AdamW on p/u for every parameter p with a unit u, of p's shape or broadcast to it.

    A group of parameters may have ``scales``, a list with a tensor for each of its ``params``; others learn as
    in AdamW. Gradients are those of p/u when a step is done.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; a closure has no place here, since it would compute with p/u."""
        if closure is not None:
            raise ValueError("RelativeAdamW takes no closure")
        with torch.no_grad():
            measured = [(parameter, unit.to(parameter)) for parameter, unit in self._measured()]
            for parameter, unit in measured:
                parameter.div_(unit)
                if parameter.grad is not None:
                    parameter.grad.mul_(unit)
            super().step()
            for parameter, unit in measured:
                parameter.mul_(unit)
        return None

    def _measured(self) -> Iterator[tuple[Tensor, Tensor]]:
        for group in self.param_groups:
            scales: list[Tensor] | Any = group.get("scales")
            if scales is not None:
                yield from zip(group["params"], scales, strict=True)
