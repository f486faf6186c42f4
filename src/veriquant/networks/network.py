"""`Network`: a pretrained embedding network as a user names it, ready for a runtime or a recipe."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from veriquant.files import json_digest
from veriquant.frontends.spec import InputSpec
from veriquant.networks.plain_ends import PLAIN, Ends

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Network:
    """A full-precision embedding network.

    Every network has an ONNX form (`onnx`: the serialised model, exported where it came from a PyTorch checkpoint),
    which recipes and the ONNX Runtime and OpenVINO runtimes take: float32 batches to float32 embeddings (n, dim), any n
    or, where its first axis states a number, so many at a time. `module` is the PyTorch form where there is one.
    """

    name: str
    """What tables call it: the file's stem or the registered name."""
    source: str
    """What the user wrote: a path, ``family:checkpoint`` or a registered name."""
    spec: InputSpec
    onnx: bytes = field(repr=False)
    dim: int
    """Length of an embedding."""
    digest: str
    """SHA-256 of `onnx` and `spec`: equal digest, equal embeddings."""
    path: Path | None = None
    """The file it was read from, where there is one."""
    module: nn.Module | None = field(default=None, repr=False, compare=False)
    notes: tuple[str, ...] = ()
    """What was left aside or assumed on loading, in plain words, for the record."""
    ends: Ends = PLAIN
    """What the file itself takes and gives, where that is not float32 images and embeddings (n, dim)."""


def network_digest(onnx: bytes, spec: InputSpec) -> str:
    """Return the SHA-256 of a model and of its input, whatever the words in `spec.origin`."""
    digest = hashlib.sha256(onnx)
    digest.update(json_digest(spec.model_dump(mode="json", exclude={"origin"})).encode())
    return digest.hexdigest()
