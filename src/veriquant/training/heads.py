"""Heads: embeddings and labels in, a loss out; what holds one weight vector a person and is thrown away afterwards.

θ is the angle between an embedding and the weight vector of its own class, s the scale; losses are the cross-entropy of
the logits below, averaged over the batch. Logits of other classes are s·cos θ_j throughout.

| name | logit of the own class | source |
|---|---|---|
| arcface | s·cos(θ + m), m = 0.5 (periocular: 1.0) | Deng et al. 2019; kolf 4.3 |
| cosface | s·(cos θ − m), m = 0.35 | Wang et al. 2018 |
| adaface | s·(cos(θ − m·ẑ) − m − m·ẑ), m = 0.4, ẑ from the embedding's norm | Kim et al. 2022 |
| softmax | w·x, no norms, no margin | |
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from veriquant.errors import VeriQuantError
from veriquant.registry import Registry
from veriquant.training.class_sampling import ClassSampler
from veriquant.training.processes import mean_and_deviation

#: Cosines are kept this far from ±1, where the slope of the arccosine is infinite.
_EDGE = 1e-6


class Head(nn.Module, ABC):
    """One weight vector a class, and the loss of embeddings against them.

    It computes in its weight's type, float32, whatever the precision around it: at s = 64 the logits of 16-bit floats
    are a quarter of a unit apart.
    """

    SCALE: float | None = None
    """The scale s unless told otherwise; None: the head has none."""
    MARGIN: float | None = None
    """The margin m unless told otherwise; None: the head has none."""
    LARGEST_MARGIN = math.inf

    def __init__(self, dim: int, classes: int, scale: float, margin: float, sample: float | None) -> None:
        super().__init__()
        self.classes = classes
        self.scale = scale
        self.margin = margin
        self.sampler = None if sample is None else ClassSampler(classes, sample)
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar: embeddings (n, dim), any float type, not normalised; labels int64 (n,)."""
        with torch.autocast(embeddings.device.type, enabled=False):
            weight: Tensor = self.weight
            if self.sampler is not None and self.training:
                index, labels = self.sampler(labels)
                weight = weight[index]
            return F.cross_entropy(self.logits(embeddings.to(weight.dtype), weight, labels), labels)

    @abstractmethod
    def logits(self, embeddings: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        """Return the logits, (n, classes): embeddings (n, dim), weight (classes, dim), labels int64 (n,)."""

    def check(self, labels: Tensor) -> None:
        """Raise `VeriQuantError` where a label is no class of this head; meant for labels that are still on the CPU."""
        low, high = (int(edge) for edge in labels.aminmax())
        if low < 0 or high >= self.classes:
            raise VeriQuantError(
                f"label {low if low < 0 else high} is out of range: the head has {self.classes} classes, so labels go "
                f"from 0 to {self.classes - 1}; give the head as many classes as the training set has people"
            )

    def extra_repr(self) -> str:
        """Return the settings, as PyTorch prints them."""
        return f"classes={self.classes}, dim={self.weight.shape[1]}, scale={self.scale}, margin={self.margin}"


class Softmax(Head):
    """Plain softmax, without a bias: what is thrown away should not learn anything of its own."""

    def logits(self, embeddings: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        """Return w·x, (n, classes)."""
        return F.linear(embeddings, weight)


class MarginHead(Head):
    """A head whose logits are s·cos θ_j, the own class's cosine made smaller by a margin."""

    SCALE = 64.0

    def logits(self, embeddings: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        """Return s·cos θ_j with the margin at each row's own class, (n, classes)."""
        cosine = F.linear(F.normalize(embeddings), F.normalize(weight))
        column = labels[:, None]
        own = cosine.gather(1, column).squeeze(1).clamp(-1 + _EDGE, 1 - _EDGE)
        own = self.with_margin(own, embeddings.detach().norm(dim=1))
        return self.scale * cosine.scatter(1, column, own[:, None])

    @abstractmethod
    def with_margin(self, cosine: Tensor, norms: Tensor) -> Tensor:
        """Return what stands for cos θ of the own class, (n,); `norms`: of the embeddings, (n,), without gradient."""


class ArcFace(MarginHead):
    """Additive angular margin.

    Beyond θ = π − m, where cos(θ + m) would rise again, the logit is s·(cos θ − m·sin m), as in the authors' code: it
    keeps falling with θ as long as m ≤ π/2. The margin acts at every θ ('easy margin', which leaves it out beyond 90°,
    is off).
    """

    MARGIN = 0.5
    LARGEST_MARGIN = math.pi / 2

    def with_margin(self, cosine: Tensor, norms: Tensor) -> Tensor:
        """Return cos(θ + m), (n,), continued downwards beyond π."""
        turned = torch.acos(cosine) + self.margin
        return torch.where(turned <= math.pi, torch.cos(turned), cosine - self.margin * math.sin(self.margin))


class CosFace(MarginHead):
    """Additive cosine margin."""

    MARGIN = 0.35

    def with_margin(self, cosine: Tensor, norms: Tensor) -> Tensor:
        """Return cos θ − m, (n,)."""
        return cosine - self.margin


class AdaFace(MarginHead):
    """Margin by image quality, read off the embedding's norm.

    ẑ = clip(h·(norm − μ)/σ, −1, 1) with h = 0.333; μ and σ, of the norms of all processes' embeddings, are running
    figures that move by a hundredth of the way each training step, and start at 20 and 100 as in the authors' code;
    norms are clipped to 0.001 … 100.
    θ − m·ẑ is kept within [0, π].
    """

    MARGIN = 0.4
    LARGEST_MARGIN = math.pi / 2
    CONCENTRATION = 0.333
    """h of the paper."""
    PACE = 0.01
    """The share of the newest batch in the running figures."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int, classes: int, scale: float, margin: float, sample: float | None) -> None:
        super().__init__(dim, classes, scale, margin, sample)
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def with_margin(self, cosine: Tensor, norms: Tensor) -> Tensor:
        """Return cos(θ − m·ẑ) − m − m·ẑ, (n,); takes the norms into the running figures first, when training."""
        norms = norms.clamp(0.001, 100)
        if self.training:
            self._follow(norms)
        z = (self.CONCENTRATION * (norms - self.mean) / (self.deviation + 0.001)).clamp(-1, 1)
        theta = (torch.acos(cosine) - self.margin * z).clamp(0, math.pi)
        return torch.cos(theta) - self.margin - self.margin * z

    @torch.no_grad()
    def _follow(self, norms: Tensor) -> None:
        mean, deviation = mean_and_deviation(norms)
        # One image has no deviation: it leaves the running one as it is.
        deviation = torch.where(deviation.isfinite(), deviation, self.deviation)
        self.mean.lerp_(mean.to(self.mean.dtype), self.PACE)
        self.deviation.lerp_(deviation.to(self.deviation.dtype), self.PACE)


HEADS: Registry[type[Head]] = Registry("head")
HEADS.add("arcface", ArcFace)
HEADS.add("cosface", CosFace)
HEADS.add("adaface", AdaFace)
HEADS.add("softmax", Softmax)


def make_head(
    name: str,
    dim: int,
    classes: int,
    *,
    scale: float | None = None,
    margin: float | None = None,
    sample: float | None = None,
) -> Head:
    """Return the head called `name` for embeddings of `dim` numbers and `classes` people, labels 0 … classes−1.

    `scale`, `margin`: instead of the head's own. `sample`: the share of classes, in (0, 1], that takes part in each
    training step (see `class_sampling`); None: all of them. Raises `VeriQuantError` for an unknown name or a setting
    out of its range.
    """
    kind = HEADS.get(name)
    _refuse(name, "classes", classes, "at least 1", classes >= 1)
    _refuse(name, "dim", dim, "at least 1", dim >= 1)
    if kind.SCALE is None:
        _refuse(name, "scale", scale, "none: it has no scale", scale is None)
    if kind.MARGIN is None:
        _refuse(name, "margin", margin, "none: it has no margin", margin is None)
    scale = kind.SCALE or 1.0 if scale is None else scale
    margin = kind.MARGIN or 0.0 if margin is None else margin
    _refuse(name, "scale", scale, "above 0", 0 < scale < math.inf)
    within = 0 <= margin <= kind.LARGEST_MARGIN and margin < math.inf
    _refuse(name, "margin", margin, f"0 to {kind.LARGEST_MARGIN:.4g}", within)
    _refuse(name, "sample", sample, "above 0, at most 1", sample is None or 0 < sample <= 1)
    return kind(dim, classes, scale, margin, sample)


def _refuse(head: str, setting: str, value: object, expected: str, good: bool) -> None:
    if not good:
        raise VeriQuantError(f"head {head!r}: {setting} is {value}, expected {expected}")
