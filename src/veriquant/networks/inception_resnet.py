"""InceptionResnetV1, the network of most FaceNet checkpoints.

Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017; Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015. Layout and parameter names are those of
the facenet-pytorch package (``conv2d_1a.conv``, ``repeat_1.0.branch0``, ``last_linear``), so that its public
checkpoints load.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pair = int | tuple[int, int]


class ConvNorm(nn.Module):
    """Convolution, batch-norm (with TensorFlow's epsilon) and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Pair, stride: int = 1, padding: Pair = 0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated feature maps."""
        return F.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """Branches side by side, a 1×1 convolution of all of them, scaled and added to the input."""

    def __init__(self, channels: int, branches: list[nn.Module], joined: int, scale: float, activate: bool = True):
        super().__init__()
        self.branches = len(branches)
        for i, branch in enumerate(branches):
            self.add_module(f"branch{i}", branch)
        self.conv2d = nn.Conv2d(joined, channels, 1)
        self.scale = scale
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled sum, through a ReLU unless the block is the linear last one."""
        y = torch.cat([self.get_submodule(f"branch{i}")(x) for i in range(self.branches)], 1)
        y = self.conv2d(y) * self.scale + x
        return F.relu(y) if self.activate else y


class Reduction(nn.Module):
    """Branches of stride two side by side, and a max-pool of the input beside them."""

    def __init__(self, branches: list[nn.Module]):
        super().__init__()
        self.branches = len(branches)
        for i, branch in enumerate(branches):
            self.add_module(f"branch{i}", branch)

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps of all branches, those of the max-pool last."""
        maps = [self.get_submodule(f"branch{i}")(x) for i in range(self.branches)]
        return torch.cat([*maps, F.max_pool2d(x, 3, 2)], 1)


def _block35() -> Residual:
    one = ConvNorm(256, 32, 1)
    three = nn.Sequential(ConvNorm(256, 32, 1), ConvNorm(32, 32, 3, padding=1))
    five = nn.Sequential(ConvNorm(256, 32, 1), ConvNorm(32, 32, 3, padding=1), ConvNorm(32, 32, 3, padding=1))
    return Residual(256, [one, three, five], joined=96, scale=0.17)


def _block17() -> Residual:
    one = ConvNorm(896, 128, 1)
    seven = nn.Sequential(
        ConvNorm(896, 128, 1),
        ConvNorm(128, 128, (1, 7), padding=(0, 3)),
        ConvNorm(128, 128, (7, 1), padding=(3, 0)),
    )
    return Residual(896, [one, seven], joined=256, scale=0.10)


def _block8(scale: float = 0.20, activate: bool = True) -> Residual:
    one = ConvNorm(1792, 192, 1)
    three = nn.Sequential(
        ConvNorm(1792, 192, 1),
        ConvNorm(192, 192, (1, 3), padding=(0, 1)),
        ConvNorm(192, 192, (3, 1), padding=(1, 0)),
    )
    return Residual(1792, [one, three], joined=384, scale=scale, activate=activate)


def _mixed_6a() -> Reduction:
    one = ConvNorm(256, 384, 3, stride=2)
    two = nn.Sequential(ConvNorm(256, 192, 1), ConvNorm(192, 192, 3, padding=1), ConvNorm(192, 256, 3, stride=2))
    return Reduction([one, two])


def _mixed_7a() -> Reduction:
    one = nn.Sequential(ConvNorm(896, 256, 1), ConvNorm(256, 384, 3, stride=2))
    two = nn.Sequential(ConvNorm(896, 256, 1), ConvNorm(256, 256, 3, stride=2))
    three = nn.Sequential(ConvNorm(896, 256, 1), ConvNorm(256, 256, 3, padding=1), ConvNorm(256, 256, 3, stride=2))
    return Reduction([one, two, three])


class InceptionResnetV1(nn.Module):
    """Images of shape (n, 3, h, w), 160×160 by convention, become embeddings of unit length of shape (n, embedding).

    The feature maps are averaged over all positions, so that other sizes (from 75 pixels) pass too.
    """

    def __init__(self, embedding: int = 512):
        super().__init__()
        self.conv2d_1a = ConvNorm(3, 32, 3, stride=2)
        self.conv2d_2a = ConvNorm(32, 32, 3)
        self.conv2d_2b = ConvNorm(32, 64, 3, padding=1)
        self.conv2d_3b = ConvNorm(64, 80, 1)
        self.conv2d_4a = ConvNorm(80, 192, 3)
        self.conv2d_4b = ConvNorm(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _mixed_6a()
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _mixed_7a()
        self.repeat_3 = nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(scale=1.0, activate=False)
        self.last_linear = nn.Linear(1792, embedding, bias=False)
        self.last_bn = nn.BatchNorm1d(embedding, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of unit length, of shape (n, embedding)."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_3b(F.max_pool2d(x, 3, 2))
        x = self.conv2d_4b(self.conv2d_4a(x))
        x = self.mixed_6a(self.repeat_1(x))
        x = self.mixed_7a(self.repeat_2(x))
        x = self.block8(self.repeat_3(x))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return F.normalize(cast(Tensor, self.last_bn(self.last_linear(x))))
