"""iresnet: the residual networks that ArcFace is trained with, without max-pool and with PReLU.

Deng, Guo, Xue and Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019; blocks as in
Han, Kim and Kim, "Deep Pyramidal Residual Networks", CVPR 2017. Parameters are named as in insightface's arcface_torch
(``layer1.0.bn1``, ``fc``, ``features``), so that its public checkpoints load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn


class Block(nn.Module):
    """BN, 3×3, BN, PReLU, 3×3 with the stride, BN; added to the input, projected by 1×1 and BN where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the two ways through the block."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return cast(Tensor, y + shortcut)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = Block(inputs, outputs, stride=2)
    return nn.Sequential(first, *(Block(outputs, outputs, stride=1) for _ in range(blocks - 1)))


class IResNet(nn.Module):
    """A network of four stages of `blocks` blocks each; the first block of every stage halves the feature maps.

    Images of shape (n, 3, size, size) become embeddings of shape (n, embedding). `size` is a multiple of 16: the fully
    connected layer takes all (size / 16)² positions of the last feature maps.
    """

    def __init__(self, blocks: Sequence[int], embedding: int = 512, size: int = 112):
        super().__init__()
        if size < 16 or size % 16:
            raise ValueError(f"size must be a multiple of 16, not {size}")
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self.layer1 = _stage(64, 64, blocks[0])
        self.layer2 = _stage(64, 128, blocks[1])
        self.layer3 = _stage(128, 256, blocks[2])
        self.layer4 = _stage(256, 512, blocks[3])
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * (size // 16) ** 2, embedding)
        self.features = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (n, embedding) for images of shape (n, 3, size, size)."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return cast(Tensor, self.features(self.fc(self.bn2(x).flatten(1))))
