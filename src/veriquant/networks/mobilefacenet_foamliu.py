"""The MobileFaceNet variant of the public repository foamliu/MobileFaceNet: ReLU6 and ReLU where the paper has PReLU.

Its other differences: a depth-wise separable layer after the stem (depth-wise and 1×1, each with ReLU), the first
bottleneck counted into the first stage, and a 1×1 convolution with bias as the last layer. Parameters carry that
repository's names, so that its checkpoint loads.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

#: Per stage: output channels, expansion, stride of the first block, number of blocks.
_STAGES = ((64, 2, 2, 5), (128, 4, 2, 1), (128, 2, 1, 6), (128, 4, 2, 1), (128, 2, 1, 2))


def _conv_norm_relu6(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class Separable(nn.Module):
    """3×3 depth-wise and 1×1 convolution, each with batch-norm and ReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated feature maps."""
        x = F.relu(self.bn1(self.depthwise(x)))
        return F.relu(self.bn2(self.pointwise(x)))


class Bottleneck(nn.Module):
    """MobileNetV2's inverted residual: expand, depth-wise, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int):
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            _conv_norm_relu6(inputs, hidden, 1),
            _conv_norm_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected feature maps, added to `x` where the block is residual."""
        y = cast(Tensor, self.conv(x))
        return x + y if self.residual else y


class GlobalDepthwise(nn.Module):
    """One learned weighted sum of all positions a channel, and batch-norm."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of one position."""
        return cast(Tensor, self.bn(self.depthwise(x)))


class MobileFaceNetFoamliu(nn.Module):
    """Images of shape (n, 3, size, size) become embeddings of shape (n, embedding); `size` is a multiple of 16."""

    def __init__(self, embedding: int = 128, size: int = 112):
        super().__init__()
        if size < 16 or size % 16:
            raise ValueError(f"size must be a multiple of 16, not {size}")
        self.conv1 = _conv_norm_relu6(3, 64, 3, stride=2)
        self.dw_conv = Separable(64)
        blocks: list[nn.Module] = []
        inputs = 64
        for outputs, expansion, stride, count in _STAGES:
            for i in range(count):
                blocks.append(Bottleneck(inputs, outputs, expansion, stride if i == 0 else 1))
                inputs = outputs
        self.features = nn.Sequential(*blocks)
        self.conv2 = _conv_norm_relu6(inputs, 512, 1)
        self.gdconv = GlobalDepthwise(512, size // 16)
        self.conv3 = nn.Conv2d(512, embedding, 1)
        self.bn = nn.BatchNorm2d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (n, embedding) for images of shape (n, 3, size, size)."""
        x = self.features(self.dw_conv(self.conv1(x)))
        x = self.conv3(self.gdconv(self.conv2(x)))
        return cast(Tensor, self.bn(x)).flatten(1)
