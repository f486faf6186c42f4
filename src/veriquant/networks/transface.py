"""TransFace: a vision transformer for faces, whose patches are weighted by a gate before all of them are joined.

Dan et al., "TransFace: Calibrating Transformer Training for Face Recognition from a Data-Centric Perspective", ICCV
2023. Parameters are named as in the authors' code (``patch_embed.proj``, ``blocks.0.attn.qkv``, ``senet``,
``feature``), so that its checkpoints load. What only its training uses (masked patches, the gate's soft-max, the
patches' deviations) is left aside; ``mask_token`` stays, since checkpoints hold it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

PATCH = 9
HEADS = 8


class Attention(nn.Module):
    """Self-attention of tokens (n, tokens, channels) in `HEADS` heads, queries, keys and values without bias."""

    def __init__(self, channels: int):
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        self.scale = (channels // HEADS) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended tokens, projected."""
        tokens, channels = int(x.shape[1]), int(x.shape[2])
        heads = self.qkv(x).reshape(-1, tokens, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = heads[0], heads[1], heads[2]
        attention = (query @ key.transpose(-2, -1) * self.scale).softmax(-1)
        return cast(Tensor, self.proj((attention @ value).transpose(1, 2).reshape(-1, tokens, channels)))


class Perceptron(nn.Module):
    """Two linear layers with ReLU6 between, four times as wide inside."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.act = nn.ReLU6()
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        return cast(Tensor, self.fc2(self.act(self.fc1(x))))


class Block(nn.Module):
    """Attention and a perceptron, each behind a layer-norm and beside a shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = Attention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Perceptron(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + cast(Tensor, self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    """Patches of 9×9 pixels become tokens; pixels beyond the last whole patch are not seen."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(3, channels, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (n, patches, channels), row by row."""
        return cast(Tensor, self.proj(x)).flatten(2).transpose(1, 2)


class TransFace(nn.Module):
    """Images of shape (n, 3, size, size) become embeddings of shape (n, embedding).

    `channels`: numbers a token, a multiple of 8; `depth`: blocks. `size` at least 9: the layers behind the blocks take
    all (size // 9)² tokens.
    """

    def __init__(self, channels: int = 512, depth: int = 12, embedding: int = 512, size: int = 112):
        super().__init__()
        if size < PATCH or channels % HEADS:
            raise ValueError(f"size must be at least {PATCH} and channels a multiple of {HEADS}: {size}, {channels}")
        patches = (size // PATCH) ** 2
        self.patch_embed = PatchEmbedding(channels)
        self.pos_embed = nn.Parameter(torch.zeros(1, patches, channels))
        # in the authors' checkpoints; their random masking in training is not here, so that nothing would teach it
        self.mask_token = nn.Parameter(torch.zeros(1, 1, channels), requires_grad=False)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        self.senet = nn.Sequential(
            nn.Linear(patches * channels, patches, bias=False),
            nn.ReLU(),
            nn.Linear(patches, patches, bias=False),
            nn.Sigmoid(),
        )
        self.feature = nn.Sequential(
            nn.Linear(patches * channels, channels, bias=False),
            nn.BatchNorm1d(channels, eps=2e-5),
            nn.Linear(channels, embedding, bias=False),
            nn.BatchNorm1d(embedding, eps=2e-5),
        )
        for tensor in (self.pos_embed, self.mask_token):
            nn.init.trunc_normal_(tensor, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (n, embedding)."""
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        gate = self.senet(x.flatten(1)).unsqueeze(2)
        return cast(Tensor, self.feature((gate * x).flatten(1)))
