"""Label-free training: the full-precision network is the teacher, the distance of the embeddings the loss.

Boutros et al. 2022, 'QuantFace': any face images serve, for nobody needs to know whose they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from veriquant.schemes.quantizer import Quantizer
from veriquant.training.task import Task

Distance = Literal["cosine", "squared"]


class Distillation(Task):
    """A quantized network, the student, learns to give the teacher's embeddings.

    `teacher`: standardised images (n, 3, height, width) -> embeddings (n, dim); it does not learn. `distance`:
    1 − cosine, which recognition is decided by, or the mean squared difference of unit-length embeddings (twice the
    former over dim).
    `levels_rate`: learning rate of the quantizers' steps and offsets relative to that of weights; they have no weight
    decay, which would pull steps to zero.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        distance: Distance = "cosine",
        levels_rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher.requires_grad_(False)
        self._distance = distance
        self._levels_rate = levels_rate

    def loss(self, images: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Return the mean distance of the embeddings as ``loss``, and their mean ``cosine``; labels play no part."""
        with torch.no_grad():
            wanted = F.normalize(self.teacher(images).float())
        given = F.normalize(self.student(images).float())
        cosine = (wanted * given).sum(dim=1).mean()
        loss = 1 - cosine if self._distance == "cosine" else F.mse_loss(given, wanted)
        return {"loss": loss, "cosine": cosine.detach()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See `Task.parameter_groups`."""
        return grouped(self, self._levels_rate)


def grouped(task: nn.Module, levels_rate: float) -> list[dict[str, Any]]:
    """Return a task's parameters as groups for an optimizer: what belongs to quantizers is a group of its own."""
    quantizers = [module for module in task.modules() if isinstance(module, Quantizer)]
    levels = [p for quantizer in quantizers for p in quantizer.parameters() if p.requires_grad]
    taken = {id(parameter) for parameter in levels}
    others = [p for p in task.parameters() if p.requires_grad and id(p) not in taken]
    groups: list[dict[str, Any]] = [{"params": others}]
    if levels:
        groups.append({"params": levels, "lr_multiplier": levels_rate, "weight_decay": 0.0})
    return groups
