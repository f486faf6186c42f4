"""Label-free training: the full-precision network is the teacher, the distance to it the loss.

Boutros et al. 2022, 'QuantFace': any face images serve, for nobody needs to know whose they are. Beyond it the student
is held to what the teacher computes on the way to the embeddings (Romero et al. 2015, 'FitNets'): with 2-bit weights a
network starts from noise, and a distance at its far end alone says little of what each layer is to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from veriquant.schemes.quantizer import Quantizer
from veriquant.training.task import Task

Distance = Literal["cosine", "squared"]

ParameterScales = Mapping[nn.Parameter, Tensor]


class Tapped(Protocol):
    """A network that shows what it computes on the way."""

    def forward_features(self, images: Tensor, tensors: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Return the embeddings (n, dim) of images (n, 3, height, width), and the named tensors on the way."""
        ...


class Distillation(Task):
    """A quantized network, the student, learns to give the teacher's embeddings.

    `student`, `teacher`: modules that are `Tapped`; the teacher does not learn. `distance`: 1 − cosine, which
    recognition is decided by, or the mean squared difference of unit-length embeddings (twice the former over dim).
    `on_the_way`: tensors of both that are compared too: the mean of their squared differences relative to the
    teacher's mean square is added, `weight` times. `levels_rate` and `scales`: see `grouped`.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        distance: Distance = "cosine",
        *,
        on_the_way: Sequence[str] = (),
        weight: float = 1.0,
        levels_rate: float = 1.0,
        scales: ParameterScales | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher.requires_grad_(False)
        self._networks: tuple[Tapped, Tapped] = (student, teacher)  # type: ignore[assignment]
        self._distance = distance
        self._on_the_way = tuple(on_the_way)
        self._weight = weight
        self._levels_rate = levels_rate
        self._scales = scales

    def loss(self, images: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Return the ``loss`` and the embeddings' mean ``cosine``; labels play no part.

        With tensors on the way also their mean relative squared difference, ``difference``.
        """
        student, teacher = self._networks
        with torch.no_grad():
            embeddings, wanted = teacher.forward_features(images, self._on_the_way)
            right = F.normalize(embeddings.float())
        embeddings, given = student.forward_features(images, self._on_the_way)
        found = F.normalize(embeddings.float())
        cosine = (right * found).sum(dim=1).mean()
        loss = 1 - cosine if self._distance == "cosine" else F.mse_loss(found, right)
        if not given:
            return {"loss": loss, "cosine": cosine.detach()}
        apart = difference(given, wanted)
        return {"loss": loss + self._weight * apart, "cosine": cosine.detach(), "difference": apart.detach()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See `Task.parameter_groups`."""
        return grouped(self, self._levels_rate, self._scales)


def grouped(task: nn.Module, levels_rate: float, scales: ParameterScales | None = None) -> list[dict[str, Any]]:
    """Return a task's parameters as groups for an optimizer: what belongs to quantizers is a group of its own.

    `levels_rate`: learning rate of the quantizers' steps and offsets relative to that of weights; they have no weight
    decay, which would pull steps to zero. `scales`: how large parameters are, for an optimizer that moves each by a
    share of its size; those without one move as they do elsewhere.
    """
    quantizers = [module for module in task.modules() if isinstance(module, Quantizer)]
    levels = {id(p) for quantizer in quantizers for p in quantizer.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in task.parameters():
        if parameter.requires_grad:
            key = id(parameter) in levels, scales is not None and parameter in scales
            groups.setdefault(key, []).append(parameter)
    found: list[dict[str, Any]] = []
    for (of_levels, measured), parameters in sorted(groups.items()):
        group: dict[str, Any] = {"params": parameters}
        if of_levels:
            group |= {"lr_multiplier": levels_rate, "weight_decay": 0.0}
        if measured and scales is not None:
            group["scales"] = [scales[parameter] for parameter in parameters]
        found.append(group)
    return found


def difference(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the mean over tensors of the mean squared difference relative to the mean square wanted, a scalar."""
    return torch.stack([_relative(*pair) for pair in zip(given, wanted, strict=True)]).mean()


def _relative(given: Tensor, wanted: Tensor) -> Tensor:
    tiny = torch.finfo(torch.float32).tiny
    return F.mse_loss(given.float(), wanted.float()) / wanted.float().square().mean().clamp(min=tiny)
