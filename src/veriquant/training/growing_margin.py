"""`GrowingMargin`: recognition whose margin grows from nothing, for margins too large to begin with.

With new weights all angles θ are about 90°. ArcFace's margin m takes cos θ − cos(θ + m) off the logit of the own class,
which is 0.84 there for m = 1 but 0.46 at θ = π − m: the loss then falls fastest where all embeddings turn away from all
classes alike, and nobody is told apart. A margin that comes after the telling apart does what it is for.
"""

from __future__ import annotations

from torch import nn

from veriquant.training.heads import Head
from veriquant.training.task import Recognition


class GrowingMargin(Recognition):
    """`Recognition`, the head's margin growing linearly from 0 to its full size over the first `steps` steps."""

    def __init__(self, network: nn.Module, head: Head, steps: int) -> None:
        super().__init__(network, head)
        self._full = head.margin
        self._steps = steps

    def before_step(self, step: int) -> None:
        """See `Task.before_step`."""
        self.head.margin = self._full * min(1.0, step / self._steps) if self._steps else self._full
