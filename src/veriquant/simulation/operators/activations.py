"""Functions of each value, which kernels often carry along."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from veriquant.onnxgraph.graph import Array
from veriquant.simulation.operators.operator_table import OPERATORS, Build, Operator, importing
from veriquant.simulation.operators.site import Site, as_tensor


def _plain(function: object) -> Build:
    def build(site: Site) -> fx.Node:
        assert callable(function)
        return site.call(function, site.value())

    return build


for _name, _function in {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": F.hardswish,
    "Erf": torch.erf,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Mish": F.mish,
}.items():
    OPERATORS.add(_name, Operator("activation", _plain(_function)))


@importing("LeakyRelu", "activation")
def _leaky_relu(site: Site) -> fx.Node:
    return site.call(F.leaky_relu, site.value(), float(site.attribute("alpha", 0.01)))


@importing("Elu", "activation")
def _elu(site: Site) -> fx.Node:
    return site.call(F.elu, site.value(), float(site.attribute("alpha", 1.0)))


@importing("Celu", "activation")
def _celu(site: Site) -> fx.Node:
    return site.call(F.celu, site.value(), float(site.attribute("alpha", 1.0)))


@importing("Selu", "activation")
def _selu(site: Site) -> fx.Node:
    alpha = float(site.attribute("alpha", 1.67326319217681884765625))
    gamma = float(site.attribute("gamma", 1.05070102214813232421875))
    return site.call(selu, site.value(), alpha, gamma)


def selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    """Return gamma·(x where positive, else alpha·(eˣ − 1))."""
    return gamma * F.elu(x, alpha)


@importing("Gelu", "activation")
def _gelu(site: Site) -> fx.Node:
    return site.call(F.gelu, site.value(), approximate=site.choice("approximate", "none", "none", "tanh"))


@importing("HardSigmoid", "activation")
def _hard_sigmoid(site: Site) -> fx.Node:
    alpha, beta = float(site.attribute("alpha", 0.2)), float(site.attribute("beta", 0.5))
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return site.call(F.hardsigmoid, site.value())
    return site.call(hard_sigmoid, site.value(), alpha, beta)


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Return alpha·x + beta, clipped to [0, 1]."""
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@importing("Clip", "activation")
def _clip(site: Site) -> fx.Node:
    low, high = (site.operand(position) if site.has(position) else None for position in (1, 2))
    if low == 0.0 and high is None:
        return site.call(F.relu, site.value())
    if low is None and high is None:
        return site.call(torch.clone, site.value())
    return site.call(clip, site.value(), low, high)


def clip(x: Tensor, low: Tensor | float | None, high: Tensor | float | None) -> Tensor:
    """Return x within [low, high]; high wins where the two cross."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        x = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
        return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    return torch.clamp(x, low, high)


@importing("PRelu", "activation")
def _prelu(site: Site) -> fx.Node:
    slope = site.constant(1)
    if slope is None:
        return site.call(prelu, site.value(0), site.value(1))
    shape = site.shape()
    channels = _channel_slopes(slope, len(slope.shape) + 1 if shape is None else len(shape))
    if channels is None:
        return site.module(Prelu(as_tensor(slope)), site.value())
    return site.module(ChannelPrelu(as_tensor(channels)), site.value())


def _channel_slopes(slope: Array, rank: int) -> Array | None:
    """Return slopes that differ along axis 1 of `rank` axes alone as (channels,); None where they differ elsewhere."""
    padded = (1,) * (rank - slope.ndim) + slope.shape
    alike = all(length == 1 for axis, length in enumerate(padded) if axis != 1)
    return slope.reshape(-1) if alike else None


class ChannelPrelu(nn.Module):
    """PReLU with `weight` of (channels,) along axis 1, or of (1,)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return x where positive, else x times its channel's slope."""
        return F.prelu(x, self.weight)


class Prelu(nn.Module):
    """PReLU with `weight` of any shape that can be stretched to the input's."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return x where positive, else x times its slope."""
        return prelu(x, self.weight)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Return x where positive, else x·slope."""
    return torch.where(x < 0, x * slope, x)
