"""MobileFaceNet: inverted bottlenecks, PReLU, and a learned global depth-wise pooling instead of an average.

Chen, Liu, Gao and Han, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices",
CCBR 2018. Parameters carry the names of the widely used PyTorch port (``conv1.conv``, ``conv_23.conv_dw``,
``conv_3.model.0.project``, ``conv_6_dw``, ``linear``, ``bn``), so that its public checkpoints load.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Convolution, batch-norm and, unless `linear`, a PReLU with one slope a channel."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.prelu = None if linear else nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised, and unless linear the activated, feature maps."""
        x = self.bn(self.conv(x))
        return x if self.prelu is None else cast(Tensor, self.prelu(x))


class Bottleneck(nn.Module):
    """1×1 expansion to `hidden` channels, 3×3 depth-wise, 1×1 linear projection; with a shortcut where `residual`."""

    def __init__(self, inputs: int, outputs: int, hidden: int, stride: int = 1, residual: bool = False):
        super().__init__()
        self.conv = ConvNorm(inputs, hidden, 1)
        self.conv_dw = ConvNorm(hidden, hidden, 3, stride, padding=1, groups=hidden)
        self.project = ConvNorm(hidden, outputs, 1, linear=True)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected feature maps, added to `x` where the block is residual."""
        y = cast(Tensor, self.project(self.conv_dw(self.conv(x))))
        return x + y if self.residual else y


class Repeat(nn.Module):
    """`count` residual bottlenecks of the same shape."""

    def __init__(self, channels: int, hidden: int, count: int):
        super().__init__()
        self.model = nn.Sequential(*(Bottleneck(channels, channels, hidden, residual=True) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last of the bottlenecks gives."""
        return cast(Tensor, self.model(x))


class MobileFaceNet(nn.Module):
    """The network of the paper: images of shape (n, 3, size, size) become embeddings of shape (n, embedding).

    `size` is the side of the square input in pixels, a multiple of 16: the global depth-wise kernel spans size / 16.
    `width` multiplies every number of channels (rounded to multiples of 8); the paper's is 1.
    """

    def __init__(self, embedding: int = 128, size: int = 112, width: float = 1.0):
        super().__init__()
        if size < 16 or size % 16:
            raise ValueError(f"size must be a multiple of 16, not {size}")

        def channels(of_paper: int) -> int:
            return max(8, 8 * round(of_paper * width / 8))

        c64, c128, c256, c512 = (channels(c) for c in (64, 128, 256, 512))
        self.conv1 = ConvNorm(3, c64, 3, stride=2, padding=1)
        self.conv2_dw = ConvNorm(c64, c64, 3, padding=1, groups=c64)
        self.conv_23 = Bottleneck(c64, c64, hidden=c128, stride=2)
        self.conv_3 = Repeat(c64, hidden=c128, count=4)
        self.conv_34 = Bottleneck(c64, c128, hidden=c256, stride=2)
        self.conv_4 = Repeat(c128, hidden=c256, count=6)
        self.conv_45 = Bottleneck(c128, c128, hidden=c512, stride=2)
        self.conv_5 = Repeat(c128, hidden=c256, count=2)
        self.conv_6_sep = ConvNorm(c128, c512, 1)
        self.conv_6_dw = ConvNorm(c512, c512, size // 16, groups=c512, linear=True)
        self.linear = nn.Linear(c512, embedding, bias=False)
        self.bn = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (n, embedding) for images of shape (n, 3, size, size)."""
        x = self.conv2_dw(self.conv1(x))
        x = self.conv_3(self.conv_23(x))
        x = self.conv_4(self.conv_34(x))
        x = self.conv_5(self.conv_45(x))
        x = self.conv_6_dw(self.conv_6_sep(x))
        return cast(Tensor, self.bn(self.linear(x.flatten(1))))
