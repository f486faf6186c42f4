"""Reading and writing the tensors of PyTorch networks, without ever running code that a file carries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from veriquant.checks import parse_json
from veriquant.errors import VeriQuantError
from veriquant.files import atomic_tensors_path
from veriquant.frontends.spec import InputSpec
from veriquant.networks.file_faults import file_fault
from veriquant.networks.state_dict import flattened
from veriquant.networks.torch_file import read_torch_file

if TYPE_CHECKING:
    from torch import Tensor, nn

_METADATA_KEY = "veriquant"


class Metadata(BaseModel):
    """What a safetensors file says of itself: JSON under the metadata key ``veriquant``, all of it optional.

    `family` and `arguments` tell how to build the network, `input` what it takes; `about` holds plain facts, such as
    how it was trained, which nothing depends on.
    """

    model_config = ConfigDict(extra="ignore")

    family: str | None = None
    arguments: dict[str, int | float] = Field(default_factory=dict)
    input: InputSpec | None = None
    about: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """All tensors of a file, each by its whole path, and what the file says of itself.

    `placeholders` names the classes and functions of the file whose objects were not built (`torch_file`).
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: Metadata
    placeholders: tuple[str, ...] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a ``.safetensors`` file, or what `torch.save` wrote, as data: no code of the file runs.

    Tensors stay in the type of the file. Where among them a network's weights are `state_dict.locate` finds out.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise VeriQuantError(f"{path}: no such checkpoint file")
    if path.suffix.lower() == ".safetensors":
        return Checkpoint(path, *_read_safetensors(path))
    tensors, placeholders = _read_pickle(path)
    return Checkpoint(path, tensors, Metadata(), placeholders)


def save_checkpoint(
    path: str | Path,
    module: nn.Module,
    metadata: Metadata | None = None,
    half: bool = False,
) -> None:
    """Write the state dict of `module` as safetensors, atomically; with `half`, floats as float16.

    Counters that only training uses (``num_batches_tracked``) are left out.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for name, tensor in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            to = torch.float16 if half and tensor.is_floating_point() else tensor.dtype
            tensors[name] = tensor.detach().to("cpu", to).contiguous().clone()
    text = (metadata or Metadata()).model_dump_json(exclude_defaults=True)
    with atomic_tensors_path(path) as temporary:
        save_file(tensors, temporary, metadata={_METADATA_KEY: text})


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Metadata]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY, "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise VeriQuantError(
            f"{path}: {file_fault(path) or f'not a whole safetensors file ({_first_line(error)})'}; get it again"
        ) from error
    try:
        return tensors, Metadata.model_validate(parse_json(text))
    except ValueError as error:
        raise VeriQuantError(
            f"{path}: its metadata under {_METADATA_KEY!r} cannot be read ({_first_line(error)}); "
            "expected JSON with family, arguments, input, about"
        ) from error


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    file = read_torch_file(path)
    tensors = flattened(file.content)
    if not tensors:
        kind = type(file.content).__name__
        keys = list(file.content)[:5] if isinstance(file.content, Mapping) else []
        inside = f" with the keys {', '.join(str(key)[:40] for key in keys)}" if keys else ""
        raise VeriQuantError(
            f"{path}: no tensors in it (it holds a {kind}{inside}); expected a state dict, alone or inside other "
            "things: write torch.save(model.state_dict(), ...)"
        )
    return tensors, file.placeholders


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
