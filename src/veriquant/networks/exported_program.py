"""Files of `torch.export` (``.pt2``), read as data: a list of operators and tensors as bytes.

`torch.export.load` is for files that one trusts: it looks up functions by name in all of ``torch``, evaluates symbolic
expressions from text, and unpickles. It is not used. The archive's JSON is read here, every operator must be in the
list of `torch_operators`, and tensors are taken from their bytes.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from veriquant.errors import VeriQuantError
from veriquant.networks.torch_operators import exported_function

_TYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_LARGEST = 2 << 30


@dataclass(frozen=True)
class _Step:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: list[Any]


@dataclass(frozen=True)
class _Name:
    """A value of the program, by its name."""

    name: str


class Program(nn.Module):
    """An exported program: its steps one after another, its tensors under their modules' names."""

    def __init__(self, steps: list[_Step], given: str, tensors: dict[str, str], outputs: list[str]) -> None:
        super().__init__()
        self.steps, self.given, self.tensors, self.outputs = steps, given, tensors, outputs

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what the program gives for one input."""
        values: dict[str, Any] = {name: self.get_buffer(place) for name, place in self.tensors.items()}
        values[self.given] = x

        def known(value: Any) -> Any:
            if isinstance(value, _Name):
                return values[value.name]
            return [known(each) for each in value] if isinstance(value, list) else value

        for step in self.steps:
            keywords = {key: known(value) for key, value in step.keywords.items()}
            result = step.function(*(known(value) for value in step.arguments), **keywords)
            _keep(values, step.outputs, result)
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found


def _keep(values: dict[str, Any], places: list[Any], result: Any) -> None:
    """Put what a step gave where its outputs say: one tensor, several, or one list of them."""
    if len(places) == 1 and isinstance(places[0], list):
        values.update(zip(places[0], result, strict=False))
    elif isinstance(result, tuple):  # some functions give a tuple of which the program takes the first alone
        values.update(zip(places, result, strict=False))
    elif places:
        values[places[0]] = result


def open_exported(path: Path) -> tuple[Program, tuple[int | None, ...]]:
    """Return the program in a ``.pt2`` file and the shape of its input, None where the file leaves an axis open.

    Raises `VeriQuantError` for files that are damaged, of an older layout, or that hold anything but functions of
    tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _program(_Archive(path, archive))
    except VeriQuantError:
        raise
    except Exception as error:  # a file that says anything may break anything
        detail = f"{type(error).__name__} {error}".strip().splitlines()[0][:120]
        raise VeriQuantError(f"{path}: damaged, or no whole file of torch.export ({detail}); get it again") from error


class _Archive:
    """The members of the file by the names that they have below its one folder."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        self.members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if sum(info.file_size for info in archive.infolist()) > _LARGEST:
            raise VeriQuantError(f"{path}: its parts take more than 2 GiB; up to 2 GiB can be loaded")

    def read(self, name: str) -> bytes:
        return self.archive.read(self.members[name])

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def refuse(self, what: str) -> VeriQuantError:
        return VeriQuantError(f"{self.path}: {what}; export the network to ONNX")


def _program(archive: _Archive) -> tuple[Program, tuple[int | None, ...]]:
    models = [name for name in archive.members if name.startswith("models/") and name.endswith(".json")]
    if len(models) != 1:
        raise archive.refuse(f"holds {len(models)} programs as this version of torch.export writes them, expected one")
    module = archive.json(models[0])["graph_module"]
    graph, signature = module["graph"], module["signature"]
    weights = _tensors(archive, "weights")
    constants = _tensors(archive, "constants")
    given: list[str] = []
    tensors: dict[str, str] = {}
    stored: dict[str, Tensor] = {}
    for spec in signature["input_specs"]:
        ((kind, what),) = spec.items()
        if kind == "user_input":
            given.append(what["arg"]["as_tensor"]["name"] if "as_tensor" in what["arg"] else "")
            continue
        place = next((what[key] for key in ("parameter_name", "buffer_name", "tensor_constant_name") if key in what), None)  # fmt: skip  # noqa: E501
        tensor = None if place is None else weights.get(place, constants.get(place))
        if place is None or tensor is None:
            raise archive.refuse(f"its program takes a {kind.replace('_', ' ')} that is no tensor of the file")
        tensors[what["arg"]["name"]] = place
        stored[place] = tensor
    if len(given) != 1 or not given[0]:
        raise archive.refuse(f"its program takes {len(given)} inputs, expected one tensor, the image")
    outputs = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
    if len(outputs) != len(signature["output_specs"]) or not all("as_tensor" in each for each in outputs):
        raise archive.refuse("its program changes its own tensors, as in training, or gives what is no tensor")
    steps = [_step(archive, node) for node in graph["nodes"]]
    program = Program(steps, given[0], tensors, [each["as_tensor"]["name"] for each in outputs])
    for place, tensor in stored.items():
        _put(program, place, tensor)
    sizes = graph["tensor_values"][given[0]]["sizes"]
    return program.eval(), tuple(size.get("as_int") for size in sizes)


def _step(archive: _Archive, node: dict[str, Any]) -> _Step:
    function = exported_function(node["target"])
    if function is None:
        raise archive.refuse(
            f"its program uses {node['target'][:80]}, which is no function of tensors that VeriQuant lets a file run"
        )
    positional = tuple(_value(archive, each["arg"]) for each in node["inputs"] if each.get("kind", 1) == 1)
    keywords = {each["name"]: _value(archive, each["arg"]) for each in node["inputs"] if each.get("kind", 1) != 1}
    for ignored in ("device", "layout", "pin_memory", "memory_format", "non_blocking"):
        keywords.pop(ignored, None)
    return _Step(function, positional, keywords, [_output(each) for each in node["outputs"]])


def _value(archive: _Archive, argument: dict[str, Any]) -> Any:
    """Return an argument of a step; `_Name` for what the program computes or holds."""
    ((kind, value),) = argument.items()
    match kind:
        case "as_tensor":
            return _Name(value["name"])
        case "as_tensors":
            return [_Name(each["name"]) for each in value]
        case "as_optional_tensors":
            return [_Name(each["as_tensor"]["name"]) if "as_tensor" in each else None for each in value]
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return _symbolic(value)
        case "as_sym_ints" | "as_sym_bools" | "as_sym_floats":
            return [_symbolic(each) for each in value]
        case "as_scalar_type":
            return _TYPES[value]
        case "as_none" | "as_device" | "as_layout" | "as_memory_format":
            return None
        case "as_int" | "as_ints" | "as_float" | "as_floats" | "as_bool" | "as_bools" | "as_string":
            return float(value) if kind == "as_float" else value
    raise archive.refuse(f"an argument of its program is {kind.removeprefix('as_').replace('_', ' ')[:40]}")


def _symbolic(value: dict[str, Any]) -> Any:
    return _Name(value["as_name"]) if "as_name" in value else next(iter(value.values()))


def _output(output: dict[str, Any]) -> Any:
    ((kind, value),) = output.items()
    if kind == "as_tensors":
        return [each["name"] for each in value]
    if kind == "as_none":
        return ""
    return value["as_name"] if "as_name" in value else value["name"]


def _tensors(archive: _Archive, kind: str) -> dict[str, Tensor]:
    """Return the tensors of one kind, ``weights`` or ``constants``, by their modules' names."""
    configs = [name for name in archive.members if name.startswith(f"data/{kind}/") and name.endswith("_config.json")]
    found: dict[str, Tensor] = {}
    for config in configs:
        for name, entry in archive.json(config)["config"].items():
            if entry["use_pickle"] or entry.get("tensor_meta") is None:
                raise archive.refuse(f"{name[:80]} is stored as a pickle, which may hold code")
            meta = entry["tensor_meta"]
            shape = [size["as_int"] for size in meta["sizes"]]
            strides = [stride["as_int"] for stride in meta["strides"]]
            content = archive.read(f"data/{kind}/{entry['path_name']}")
            flat = torch.frombuffer(bytearray(content), dtype=_TYPES[meta["dtype"]]) if content else torch.empty(0)
            reach = 1 + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
            offset = meta["storage_offset"]["as_int"]
            if math.prod(shape) and not 0 < offset + reach <= len(flat):
                raise archive.refuse(f"{name[:80]} has fewer numbers than its shape {tuple(shape)}")
            found[name] = flat.as_strided(shape, strides, offset).clone()
    return found


def _put(program: nn.Module, place: str, tensor: Tensor) -> None:
    *modules, name = place.split(".")
    for step in modules:
        if not hasattr(program, step):
            program.add_module(step, nn.Module())
        program = getattr(program, step)
    program.register_buffer(name, tensor)
