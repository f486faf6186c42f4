"""Normalisation with constant or computed statistics."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, fx, nn

from veriquant.simulation.operators.operator_table import importing
from veriquant.simulation.operators.site import Site, as_tensor


class BatchNorm(nn.Module):
    """Batch normalisation as it evaluates: `mean` and `variance` are fixed, `weight` and `bias` can be trained."""

    mean: Tensor
    variance: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return (x − mean) / √(variance + epsilon) · weight + bias for every channel (axis 1)."""
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.epsilon)


@importing("BatchNormalization", "computing")
def _batch_norm(site: Site) -> fx.Node:
    site.choice("training_mode", 0, 0)
    names = ("scale", "shift", "mean", "variance")
    weight, bias, mean, variance = (as_tensor(site.needed(i, name)) for i, name in enumerate(names, start=1))
    epsilon = float(site.attribute("epsilon", 1e-5))
    return site.module(BatchNorm(weight, bias, mean, variance, epsilon), site.value())


class InstanceNorm(nn.Module):
    """Every channel of every image scaled to mean 0 and variance 1, then `weight` and `bias`."""

    def __init__(self, weight: Tensor, bias: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised maps."""
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.epsilon)


@importing("InstanceNormalization", "computing")
def _instance_norm(site: Site) -> fx.Node:
    weight, bias = (as_tensor(site.needed(i, name)) for i, name in ((1, "scale"), (2, "shift")))
    return site.module(InstanceNorm(weight, bias, float(site.attribute("epsilon", 1e-5))), site.value())


class LayerNorm(nn.Module):
    """The axes from `axis` on scaled together to mean 0 and variance 1, then `weight` and `bias`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, axis: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.axis = axis
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised values."""
        shape = x.shape[self.axis :]
        bias = None if self.bias is None else self.bias.expand(shape)
        return F.layer_norm(x, shape, self.weight.expand(shape), bias, self.epsilon)


@importing("LayerNormalization", "computing")
def _layer_norm(site: Site) -> fx.Node:
    weight = as_tensor(site.needed(1, "scale"))
    bias = as_tensor(site.needed(2, "shift")) if site.has(2) else None
    axis, epsilon = int(site.attribute("axis", -1)), float(site.attribute("epsilon", 1e-5))
    return site.module(LayerNorm(weight, bias, axis, epsilon), site.value())


@importing("LpNormalization", "computing")
def _lp_norm(site: Site) -> fx.Node:
    power = int(site.choice("p", 2, 1, 2))
    return site.call(F.normalize, site.value(), power, int(site.attribute("axis", -1)))


class GroupNorm(InstanceNorm):
    """Groups of channels of every image scaled to mean 0 and variance 1, then `weight` and `bias` of each channel."""

    def __init__(self, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> None:
        super().__init__(weight, bias, epsilon)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised maps."""
        return F.group_norm(x, self.groups, self.weight, self.bias, self.epsilon)


@importing("GroupNormalization", "computing")
def _group_norm(site: Site) -> fx.Node:
    groups, shape = int(site.attribute("num_groups")), site.shape()
    weight, bias = (as_tensor(site.needed(i, name)) for i, name in ((1, "scale"), (2, "shift")))
    if shape is None or shape[1] != len(weight):
        raise site.error("its scale is not one number a channel, as it is from opset 21 on")
    return site.module(GroupNorm(groups, weight, bias, float(site.attribute("epsilon", 1e-5))), site.value())


@importing("LRN", "computing")
def _local_response(site: Site) -> fx.Node:
    size = int(site.attribute("size"))
    if size % 2 == 0:
        raise site.error(f"its attribute size is {size}, and only odd ones can be simulated")
    alpha, beta, bias = (float(site.attribute(n, d)) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return site.call(F.local_response_norm, site.value(), size, alpha, beta, bias)
