"""`Task`: what the loop trains. The loop knows batches, steps and devices; a task knows what is learned from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from veriquant.training.heads import Head


class Task(nn.Module, ABC):
    """Something with parameters, and a loss on a batch of images and labels.

    All that training changes lies in the task's state dict: a run that was cut off goes on from there. Chance is drawn
    from PyTorch's generators, which the loop seeds anew for every step.
    """

    skips_parameters = False
    """Whether some step leaves a parameter without a gradient; several processes must then look for those."""

    @abstractmethod
    def loss(self, images: Tensor, labels: Tensor) -> Tensor | Mapping[str, Tensor]:
        """Return the mean loss of a batch, a scalar, or a mapping with it as ``loss`` and other scalars to show.

        Images are float32 (n, 3, height, width), standardised; labels int64 (n,). With several processes it is given
        this process's slice. The names of the figures must be the same at every step.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what is learned, as groups for an optimizer: all parameters that want a gradient, in one group.

        Beside ``params``, a group may have ``lr_multiplier`` (of the learning rate; 1) and ``weight_decay`` (instead of
        the settings').
        """
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def before_step(self, step: int) -> None:
        """Get ready for a step, its number counted from 0 over the whole run.

        A resumed run calls it from its first own step on: ask for ``step >= n``, not ``step == n``.
        """

    def check(self, images: Tensor, labels: Tensor) -> None:
        """Raise `VeriQuantError` for a batch that cannot be right; called while it is still on the CPU."""

    def forward(self, images: Tensor, labels: Tensor) -> Tensor | Mapping[str, Tensor]:
        """Return `loss`: so that whatever wraps the task for a device or for several processes calls it."""
        return self.loss(images, labels)


class Recognition(Task):
    """A network learns to tell people apart: the loss of a head on its embeddings.

    `network`: images float32 (n, 3, height, width) -> embeddings (n, dim).
    """

    def __init__(self, network: nn.Module, head: Head) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def loss(self, images: Tensor, labels: Tensor) -> Tensor | Mapping[str, Tensor]:
        """Return the head's loss, a scalar."""
        loss: Tensor = self.head(self.network(images), labels)
        return loss

    def check(self, images: Tensor, labels: Tensor) -> None:
        """Raise `VeriQuantError` where a label is no class of the head."""
        self.head.check(labels)
