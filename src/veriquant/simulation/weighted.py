"""The operations with weights, in the one form that simulation, phase 1 and training compute them in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from veriquant.schemes.quantizer import Quantizer


class Weighted(nn.Module, ABC):
    """An operation that multiplies by a weight. `weight` has its output channels first, whatever the file's layout.

    `quantizer` is None while the weight is in full precision. `compute` takes the weight as an argument, so that a
    search can try others without touching the module.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.quantizer: Quantizer | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Compute with the weight as it is quantized now."""
        return self.compute(x, self.quantized_weight(), self.bias)

    def quantized_weight(self) -> Tensor:
        """Return the weight on its levels, or as it is where no quantizer stands."""
        return self.weight if self.quantizer is None else self.quantizer(self.weight)

    @abstractmethod
    def compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute with another weight and bias of the same shape."""


class Convolution(Weighted):
    """A convolution over one or two axes. `padding`: (begin, end) for every axis, first axis first."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sequence[int],
        padding: Sequence[tuple[int, int]],
        dilation: Sequence[int],
        groups: int,
    ) -> None:
        super().__init__(weight, bias)
        self.stride = tuple(stride)
        self.dilation = tuple(dilation)
        self.groups = groups
        symmetric = all(begin == end for begin, end in padding)
        self.padding = tuple(begin if symmetric else 0 for begin, _ in padding)
        #: For F.pad, last axis first; empty where the convolution pads itself.
        self.padded = () if symmetric else tuple(n for pair in reversed(padding) for n in pair)

    def compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Weighted.compute`."""
        if self.padded:
            x = F.pad(x, self.padded)
        convolve = F.conv1d if weight.ndim == 3 else F.conv2d
        return convolve(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class Product(Weighted):
    """A product with a matrix: ONNX's Gemm, or MatMul with a constant. `weight` is (outputs, inputs)."""

    def compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Weighted.compute`."""
        return F.linear(x, weight, bias)
