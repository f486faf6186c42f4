"""Batch normalisation over the whole batch where several processes hold a slice of it each.

PyTorch has this for GPUs alone (`torch.nn.SyncBatchNorm`); here it is the same on every device, so that processes on a
CPU show what several GPUs would compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from veriquant.training.processes import processes


@contextmanager
def whole_batch_norms(module: nn.Module) -> Iterator[None]:
    """Let the batch normalisations in `module` that train take mean and variance over all processes, while this holds.

    Parameters, buffers and the state dict stay as they are. With one process nothing changes.
    """
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)] if processes() > 1 else []
    for norm in norms:
        norm.forward = partial(_normalised, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward  # the class has its own


def _normalised(norm: _BatchNorm, values: Tensor) -> Tensor:
    """Return what `norm` makes of this process's values, (n, channels, ...), by the moments of all processes'."""
    if not norm.training:
        return type(norm).forward(norm, values)
    norm._check_input_dim(values)  # type: ignore[no-untyped-call]
    wide = values.float()  # as PyTorch's own, whose moments are float32 for narrower inputs too
    axes = [0, *range(2, wide.ndim)]
    shape = [1, -1, *[1] * (wide.ndim - 2)]
    count = float(_summed(wide.new_tensor(wide.numel() / wide.shape[1])))
    mean = _sum(wide.sum(axes)) / count
    centred = wide - mean.view(shape)
    variance = _sum(centred.square().sum(axes)) / count
    _keep(norm, mean.detach(), variance.detach() * (count / (count - 1)))
    found: Tensor = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        found = found * norm.weight.view(shape) + norm.bias.view(shape)
    return found.to(values.dtype)


def _keep(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running mean and variance, (channels,), towards these."""
    if not norm.track_running_stats:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    for running, new in ((norm.running_mean, mean), (norm.running_var, variance)):
        assert running is not None
        running.lerp_(new.to(running.dtype), share)


class _Sum(Function):
    """The sum over the processes, whose gradient is the sum of theirs: a moment is in the loss of all of them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _sum(values: Tensor) -> Tensor:
    found: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return found


def _summed(values: Tensor) -> Tensor:
    found = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(found, dist.ReduceOp.SUM)
    return found
