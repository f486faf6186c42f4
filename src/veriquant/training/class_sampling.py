"""Partial sampling of classes: for very many people, each step compares with a share of them.

An et al., Partial FC: Training 10 Million Identities on a Single Machine (ICCV workshops 2021): the classes that occur
in the batch always take part, and others at random up to the share. What is saved is the time and memory of the logits,
(n, classes); the weights of all classes stay where they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from veriquant.training.processes import present_anywhere, processes

_SEED = 20211011


class ClassSampler(nn.Module):
    """Draws the classes that take part in a step.

    Each draw comes from its own number alone, which is part of the state dict: every process draws the same, and so
    does a resumed run.
    """

    def __init__(self, classes: int, share: float) -> None:
        super().__init__()
        self.classes = classes
        self.wanted = math.ceil(share * classes)
        self.draws = 0
        """How many draws there were: not a buffer, because reading one back would make the device wait."""

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classes that take part, ascending, and the labels counted among them; all int64.

        Labels are (n,), those of this process; the classes are those of all processes' labels and others at random:
        ``ceil(share × classes)``, or as many as there are labels where that is more. How many does not depend on which
        labels there are, so that a device need not be waited for.
        """
        size = min(max(self.wanted, len(labels) * processes()), self.classes)
        present = present_anywhere(labels, self.classes)
        chances = torch.rand(self.classes, generator=torch.Generator().manual_seed(_SEED + self.draws))
        self.draws += 1
        chances = chances.to(labels.device).masked_fill(present, 2.0)
        index = chances.topk(size).indices.sort().values
        return index, torch.searchsorted(index, labels.contiguous())

    def get_extra_state(self) -> Tensor:
        """Return the number of draws so far, for the state dict."""
        return torch.tensor(self.draws)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over the number of draws from a state dict."""
        self.draws = int(state)
