"""Reading and writing the tensors of PyTorch networks, without ever running code that a file carries."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from veriquant.errors import VeriQuantError
from veriquant.files import atomic_tensors_path
from veriquant.frontends.spec import InputSpec
from veriquant.networks.file_faults import file_fault

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Keys under which training scripts file the state dict beside their optimiser and counters.
WRAPPERS = ("state_dict", "model", "net", "model_state_dict", "backbone")
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
    """The tensors of a file by name, without wrappers and prefixes, and what the file says of itself."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: Metadata

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a ``.safetensors`` file, or whatever `torch.load` reads with ``weights_only=True``.

    A state dict filed under one of `WRAPPERS` is unwrapped, and the prefix ``module.`` of data-parallel training is
    removed. Tensors stay in the type of the file.
    """
    path = Path(path)
    if not path.is_file():
        raise VeriQuantError(f"{path}: no such checkpoint file")
    if path.suffix.lower() == ".safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        tensors, metadata = _state_dict(_read_pickle(path), path), Metadata()
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return Checkpoint(path, tensors, metadata)


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
        return tensors, Metadata.model_validate(json.loads(text))
    except (json.JSONDecodeError, ValidationError) as error:
        raise VeriQuantError(
            f"{path}: its metadata under {_METADATA_KEY!r} cannot be read ({_first_line(error)}); "
            "expected JSON with family, arguments, input, about"
        ) from error


def _read_pickle(path: Path) -> object:
    import torch

    if damage := file_fault(path):
        raise VeriQuantError(f"{path}: {damage}; get it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: object = torch.load(path, map_location="cpu", weights_only=True)
            return content
    except Exception as error:  # torch.load on arbitrary bytes raises nearly anything
        raise VeriQuantError(f"{path}: {_why_refused(error)}") from error


def _why_refused(error: Exception) -> str:
    """Return, in a user's words, why `torch.load` refused a file."""
    message = str(error)
    if refused := re.search(r"Unsupported global: GLOBAL (\S+)", message):
        return (
            f"holds more than tensors ({refused[1]}), and VeriQuant runs no code out of a file; where you trust it, "
            "load it yourself and write torch.save(model.state_dict(), ...)"
        )
    if "TorchScript" in message:
        return (
            "a TorchScript archive, not a state dict; write torch.save(torch.jit.load(...).state_dict(), ...), "
            "or export it to ONNX"
        )
    detail = message.rsplit("WeightsUnpickler error:", 1)[-1].strip().split("\n")[0].split(". ")[0]
    if " " not in detail:
        detail = f"{type(error).__name__} {detail}".strip()
    return f"damaged, or no PyTorch checkpoint ({detail[:120]}); get it again"


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    import torch

    while isinstance(content, Mapping):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        inner = next((content[k] for k in WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            if tensors:
                return tensors
            keys = ", ".join(str(k) for k in list(content)[:5]) or "none"
            raise VeriQuantError(
                f"{path}: no state dict in it (its keys: {keys}); expected tensors by name, "
                f"at the top or under one of {', '.join(WRAPPERS)}"
            )
        content = inner
    raise VeriQuantError(
        f"{path}: holds a {type(content).__name__}, expected a state dict; write torch.save(model.state_dict(), ...)"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
