"""EdgeFace: EdgeNeXt with a linear head, a hybrid of depth-wise convolutions and attention between channels.

George, Ecabert, Otroshi Shahreza, Kotwal and Marcel, "EdgeFace: Efficient Face Recognition Model for Edge Devices",
T-BIOM 2024; Maaz et al., "EdgeNeXt", ECCV Workshops 2022; El-Nouby et al., "XCiT", NeurIPS 2021 (cross-covariance
attention). Parameters are named as in the published checkpoints (``stem``, ``stages.0.blocks.0.conv_dw``, ``head.fc``).
The variants with a γ have two linear layers of low rank in place of each one (``fc1.linear1``, ``fc1.linear2``).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPSILON = 1e-6
#: By stage: side of the depth-wise kernels, and into how many parts the channels of an attention block are split.
_KERNELS = (3, 5, 7, 9)
_SPLITS = (2, 2, 3, 4)


def linear(inputs: int, outputs: int, rank: float) -> nn.Module:
    """Return a linear layer, or two in a row of `rank` times the smaller width where `rank` is above 0."""
    if not rank:
        return nn.Linear(inputs, outputs)
    middle = max(2, int(min(inputs, outputs) * rank))
    pair: OrderedDict[str, nn.Module] = OrderedDict(
        linear1=nn.Linear(inputs, middle, bias=False), linear2=nn.Linear(middle, outputs)
    )
    return nn.Sequential(pair)


class MapNorm(nn.LayerNorm):
    """Layer-norm over the channels of feature maps (n, channels, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Perceptron(nn.Module):
    """Two linear layers with GELU between, four times as wide inside."""

    def __init__(self, channels: int, rank: float):
        super().__init__()
        self.fc1 = linear(channels, 4 * channels, rank)
        self.act = nn.GELU()
        self.fc2 = linear(4 * channels, channels, rank)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape; channels stand last."""
        return cast(Tensor, self.fc2(self.act(self.fc1(x))))


class ConvBlock(nn.Module):
    """Depth-wise convolution, layer-norm and a perceptron, scaled a channel and added to the input."""

    def __init__(self, channels: int, kernel: int, rank: float):
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=_EPSILON)
        self.mlp = Perceptron(channels, rank)
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of the same shape."""
        y = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1)))
        return cast(Tensor, x + (self.gamma * y).permute(0, 3, 1, 2))


class FourierPositions(nn.Module):
    """Sines and cosines of row and column, projected to the channels; as many positions as the feature maps have."""

    def __init__(self, channels: int, frequencies: int = 32):
        super().__init__()
        self.token_projection = nn.Conv2d(2 * frequencies, channels, 1)
        self.frequencies = frequencies

    def forward(self, height: int, width: int) -> Tensor:
        """Return (1, channels, height, width)."""
        weight = self.token_projection.weight
        number = torch.arange(self.frequencies, dtype=torch.float32)
        period = 10000 ** (2 * torch.div(number, 2, rounding_mode="floor") / self.frequencies)

        def waves(count: int) -> Tensor:
            place = torch.arange(1, count + 1, dtype=torch.float32) / (count + _EPSILON) * 2 * math.pi
            angle = place[:, None] / period
            return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], 2).flatten(1)

        rows = waves(height)[:, None].expand(height, width, self.frequencies)
        columns = waves(width)[None].expand(height, width, self.frequencies)
        positions = torch.cat([rows, columns], 2).permute(2, 0, 1)[None]
        return cast(Tensor, self.token_projection(positions.to(weight.device, weight.dtype)))


class CrossCovarianceAttention(nn.Module):
    """Attention between channels rather than positions: as many scores as channels squared, whatever the size."""

    def __init__(self, channels: int, heads: int, rank: float):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = linear(channels, 3 * channels, rank)
        self.proj = linear(channels, channels, rank)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape (n, positions, channels)."""
        positions, channels = int(x.shape[1]), int(x.shape[2])
        query, key, value = (
            part.transpose(1, 2).reshape(-1, self.heads, channels // self.heads, positions)
            for part in torch.split(self.qkv(x), channels, 2)
        )
        scores = _unit(query) @ _unit(key).transpose(-2, -1) * self.temperature
        mixed = (scores.softmax(-1) @ value).reshape(-1, channels, positions)
        return cast(Tensor, self.proj(mixed.transpose(1, 2)))


def _unit(x: Tensor) -> Tensor:
    """Return `x` with its last axis of unit length, as `F.normalize` does, in fewer operators when exported."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp_min(1e-12)


class SplitBlock(nn.Module):
    """Channels in parts, each convolved with what came of the one before; cross-covariance attention; a perceptron."""

    def __init__(self, channels: int, splits: int, heads: int, positions: bool, rank: float):
        super().__init__()
        width = -(-channels // splits)
        self.parts = [width] * (splits - 1) + [channels - width * (splits - 1)]
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in range(splits - 1))
        self.pos_embd = FourierPositions(channels) if positions else None
        self.norm_xca = nn.LayerNorm(channels, eps=_EPSILON)
        self.gamma_xca = nn.Parameter(torch.full((channels,), 1e-6))
        self.xca = CrossCovarianceAttention(channels, heads, rank)
        self.norm = nn.LayerNorm(channels, eps=_EPSILON)
        self.mlp = Perceptron(channels, rank)
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of the same shape."""
        channels, height, width = (int(length) for length in x.shape[1:])
        parts = torch.split(x, self.parts, 1)
        mixed = [self.convs[0](parts[0])]
        for conv, part in zip(list(self.convs)[1:], parts[1:-1], strict=True):
            mixed.append(conv(mixed[-1] + part))
        y = torch.cat([*mixed, parts[-1]], 1)
        if self.pos_embd is not None:
            y = y + self.pos_embd(height, width)
        tokens = y.flatten(2).transpose(1, 2)
        tokens = tokens + self.gamma_xca * self.xca(self.norm_xca(tokens))
        tokens = self.gamma * self.mlp(self.norm(tokens))
        return cast(Tensor, x + tokens.transpose(1, 2).reshape(-1, channels, height, width))


class Stage(nn.Module):
    """Downsampling (in all stages but the first) and blocks, the last of which attends (in all but the first)."""

    def __init__(self, stage: int, dims: Sequence[int], depth: int, heads: int, rank: float):
        super().__init__()
        channels = dims[stage]
        self.downsample: nn.Module = nn.Identity()
        if stage:
            before = dims[stage - 1]
            self.downsample = nn.Sequential(MapNorm(before, eps=_EPSILON), nn.Conv2d(before, channels, 2, 2))
        last = SplitBlock(channels, _SPLITS[stage], heads, stage == 1, rank) if stage else None
        local = depth if last is None else depth - 1
        blocks: list[nn.Module] = [ConvBlock(channels, _KERNELS[stage], rank) for _ in range(local)]
        self.blocks = nn.Sequential(*blocks, *([] if last is None else [last]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps of the stage."""
        return cast(Tensor, self.blocks(self.downsample(x)))


class EdgeFace(nn.Module):
    """Images of shape (n, 3, h, w), 112×112 by convention, become embeddings of shape (n, embedding).

    `dims`, `depths`: channels and blocks by stage; `heads` of the attention; `rank`: 0 for whole linear layers, else
    the share of the smaller width that the two layers in place of one have between them.
    """

    def __init__(self, dims: Sequence[int], depths: Sequence[int], heads: int, rank: float = 0.0, embedding: int = 512):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, 4), MapNorm(dims[0], eps=_EPSILON))
        self.stages = nn.Sequential(*(Stage(i, dims, depths[i], heads, rank) for i in range(4)))
        self.head = nn.ModuleDict({"norm": MapNorm(dims[3], eps=_EPSILON), "fc": linear(dims[3], embedding, rank)})

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (n, embedding)."""
        x = self.stages(self.stem(x))
        x = self.head["norm"](F.adaptive_avg_pool2d(x, 1)).flatten(1)
        return cast(Tensor, self.head["fc"](x))
