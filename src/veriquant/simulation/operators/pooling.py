"""Pooling over windows and over whole maps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from veriquant.simulation.operators.operator_table import importing
from veriquant.simulation.operators.site import Site
from veriquant.simulation.operators.windows import Windows, windows


def _fits(where: Windows) -> bool:
    """Tell whether PyTorch's pools pad so themselves: both ends alike, by half a window at most."""
    return where.symmetric and all(2 * n <= k for n, k in zip(where.begin, where.kernel, strict=True))


@importing("MaxPool", "passing")
def _max_pool(site: Site) -> fx.Node:
    where = windows(site, tuple(site.attribute("kernel_shape")))
    site.choice("storage_order", 0, 0)
    ceil = bool(site.attribute("ceil_mode", 0))
    x = site.value()
    padding = where.begin
    if not _fits(where):
        x = site.call(F.pad, x, where.flat_padding, value=-math.inf)
        padding = (0,) * len(padding)
    pool = F.max_pool1d if len(where.kernel) == 1 else F.max_pool2d
    return site.call(pool, x, where.kernel, where.stride, padding, where.dilation, ceil)


@importing("AveragePool", "computing")
def _average_pool(site: Site) -> fx.Node:
    where = windows(site, tuple(site.attribute("kernel_shape")))
    site.choice("dilations", [1] * len(where.kernel), [1] * len(where.kernel))
    ceil, padded = bool(site.attribute("ceil_mode", 0)), bool(site.attribute("count_include_pad", 0))
    if not _fits(where):
        if ceil:
            raise site.error("its attribute ceil_mode is 1 where the padding of an axis differs between its ends")
        return site.call(average_padded, site.value(), where.kernel, where.stride, where.flat_padding, padded)
    if len(where.kernel) == 1:
        return site.call(F.avg_pool1d, site.value(), where.kernel, where.stride, where.begin, ceil, padded)
    return site.call(F.avg_pool2d, site.value(), where.kernel, where.stride, where.begin, ceil, padded)


def average_padded(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], padded: bool
) -> Tensor:
    """Return the means over windows of `x` in zeros; the zeros count only where `padded`."""
    pool = F.avg_pool1d if len(kernel) == 1 else F.avg_pool2d
    means = pool(F.pad(x, padding), kernel, stride)
    return means if padded else means / pool(F.pad(torch.ones_like(x[:1, :1]), padding), kernel, stride)


@importing("GlobalAveragePool", "computing")
def _global_average(site: Site) -> fx.Node:
    return site.call(global_average, site.value())


def global_average(x: Tensor) -> Tensor:
    """Return the mean over all axes after the channels, which keep the length 1."""
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


@importing("GlobalMaxPool", "passing")
def _global_max(site: Site) -> fx.Node:
    return site.call(global_max, site.value())


def global_max(x: Tensor) -> Tensor:
    """Return the greatest value over all axes after the channels, which keep the length 1."""
    return x.amax(tuple(range(2, x.ndim)), keepdim=True)
