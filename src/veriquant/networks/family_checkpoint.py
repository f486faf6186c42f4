"""A checkpoint becomes a network of its family: its weights are found, and their shapes tell how to build it.

What is left aside (heads of training, optimiser states, other networks in the file) stands in one note.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.families import FAMILIES, Arguments, Family
from veriquant.networks.network import Network
from veriquant.networks.state_dict import COUNTER, Located, groups_beside, heads, locate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from veriquant.networks.checkpoints import Checkpoint

Shape = tuple[int, ...]


def load_family(family: Family, path: Path, spec: InputSpec | None, name: str, source: str) -> Network:
    """Load the checkpoint at `path` into `family`; `name` and `source` as in `Network`."""
    from veriquant.networks.export import export_onnx
    from veriquant.networks.onnx_file import network_of_onnx

    module, spec, notes = read_module(family, path, spec)
    network = network_of_onnx(export_onnx(module, spec), spec, name=name, source=source)
    return replace(network, path=path, module=module, notes=(*network.notes, *notes))


def read_module(
    family: Family, path: Path, spec: InputSpec | None = None
) -> tuple[nn.Module, InputSpec, tuple[str, ...]]:
    """Return the module of a checkpoint, in evaluation mode, its input, and what was done on the way to it."""
    from veriquant.networks.checkpoints import load_checkpoint
    from veriquant.networks.torch_program import program_kind

    if kind := program_kind(path):
        raise VeriQuantError(
            f"{path}: a {kind} file, which brings its own architecture; write the path without {family.name}:"
        )
    checkpoint = load_checkpoint(path)
    located, translated = _located(family, checkpoint.tensors)
    arguments = _arguments(family, located, checkpoint)
    module, aside = _module(family, arguments, located, checkpoint)
    return module, _spec(family, arguments, checkpoint, spec), _notes(located, translated, aside, checkpoint)


def _located(family: Family, tensors: dict[str, Tensor]) -> tuple[Located, bool]:
    """Return where in a checkpoint the family's network is, and whether it had another layout of the same network."""
    other = family.translate(tensors) if family.translate is not None else None
    return locate(tensors if other is None else other, family.names()), other is not None


def _arguments(family: Family, located: Located, checkpoint: Checkpoint) -> Arguments:
    """Return how to build the network: by the family's defaults, the tensors' shapes and the file's own metadata."""
    stated = checkpoint.metadata
    if stated.family not in (None, family.name):
        raise VeriQuantError(
            f"{checkpoint.path}: its metadata says it is of the family {stated.family!r}, not {family.name!r}; "
            f"write {stated.family}:{checkpoint.path}"
        )
    if unknown := sorted(set(stated.arguments) - set(family.defaults)):
        raise VeriQuantError(
            f"{checkpoint.path}: its metadata has arguments that the family {family.name!r} does not take: "
            f"{', '.join(unknown)}; it takes {', '.join(family.defaults)}"
        )
    return family.defaults | family.infer(_shapes(located.tensors)) | stated.arguments


def _module(
    family: Family, arguments: Arguments, located: Located, checkpoint: Checkpoint
) -> tuple[nn.Module, list[str]]:
    """Return the module with the checkpoint's tensors in it, in evaluation mode, and the names of heads left aside."""
    import torch

    try:
        with torch.device("meta"):
            module = family.build(**arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        stated = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise VeriQuantError(f"{checkpoint.path}: no network {family.name!r} with {stated}: {error}") from error
    expected = _shapes(module.state_dict())
    found = _shapes(located.tensors)
    surplus = {key: shape for key, shape in found.items() if key not in expected}
    aside = heads(surplus, expected, int(arguments["embedding"]))
    aside += [key for key in surplus if key not in aside and key.startswith(family.training_only or (" ",))]
    _compare(expected, {key: shape for key, shape in found.items() if key not in aside}, family, checkpoint)
    module = module.to_empty(device="cpu")
    counters = {key: torch.zeros((), dtype=torch.long) for key in module.state_dict() if key.endswith(COUNTER)}
    module.load_state_dict({key: located.tensors[key].float() for key in expected} | counters)
    return module.eval(), aside


def _shapes(tensors: dict[str, Tensor]) -> dict[str, Shape]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items() if not key.endswith(COUNTER)}


def _notes(located: Located, translated: bool, aside: list[str], checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return what was done to find the weights and what was left aside, in one note; types of numbers in another."""
    parts = []
    if translated:
        parts.append("names and axes are TensorFlow's and were translated")
    elif located.prefix:
        parts.append(f"its weights stand under {located.prefix!r}")
    if located.unwrapped:
        parts.append("what torch.compile or sharding put into its names was taken out")
    if located.also:
        parts.append(f"another set of them under {', '.join(map(repr, located.also[:3]))} was left aside")
    if aside:
        parts.append(f"left aside, as only training uses it: {', '.join(aside[:3])}{', …' if len(aside) > 3 else ''}")
    if beside := groups_beside(located):
        parts.append(f"beside the network, left aside: {beside}")
    if checkpoint.placeholders:
        more = ", …" if len(checkpoint.placeholders) > 3 else ""
        parts.append(f"objects that are no tensors were not built: {', '.join(checkpoint.placeholders[:3])}{more}")
    notes = ["; ".join(parts)] if parts else []
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in located.tensors.values()}
    if stored := sorted(types & {"float16", "bfloat16", "float64"}):
        notes.append(f"weights stored as {' and '.join(stored)}, computed as float32")
    return tuple(notes)


def _compare(expected: dict[str, Shape], found: dict[str, Shape], family: Family, checkpoint: Checkpoint) -> None:
    """Raise, naming the first of each kind, where the keys or shapes of a checkpoint are not those of the network."""
    missing = [f"{key} {expected[key]}" for key in expected if key not in found]
    surplus = [f"{key} {found[key]}" for key in found if key not in expected]
    other = [
        f"{key} expected {expected[key]}, found {found[key]}"
        for key in expected
        if key in found and expected[key] != found[key]
    ]
    kinds = {"missing": missing, "not of this family": surplus, "of another shape": other}
    if not any(kinds.values()):
        return
    told = "; ".join(
        f"{len(keys)} {kind}: {', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}"
        for kind, keys in kinds.items()
        if keys
    )
    raise VeriQuantError(
        f"{checkpoint.path} does not fit the family {family.name!r}: {told}; {advice(checkpoint, family.name)}"
    )


def advice(checkpoint: Checkpoint, given: str = "") -> str:
    """Return what to do about a checkpoint that does not fit the family `given`: the one whose names it has, if any."""
    best, best_share = given, 0.0
    for name in FAMILIES:
        names = FAMILIES.get(name).names()
        located, _ = _located(FAMILIES.get(name), checkpoint.tensors)
        share = located.found / len(set(names) | set(_shapes(located.tensors)))
        if share > best_share:
            best, best_share = name, share
    if best != given and best_share > 0.9:
        return f"its names are those of {best!r}: write {best}:{checkpoint.path}"
    if best_share > 0.9:
        return "the checkpoint is of a changed network; export that one to ONNX and give the .onnx file"
    return (
        f"give the family it was trained as ({', '.join(FAMILIES)}), or export the network to ONNX and give that file"
    )


def _spec(family: Family, arguments: Arguments, checkpoint: Checkpoint, given: InputSpec | None) -> InputSpec:
    """Return the input by, in this order, the user, the file's metadata, the family."""
    side = arguments.get("size")
    if given is not None:
        spec = given if given.origin else given.model_copy(update={"origin": "given by the user"})
    elif checkpoint.metadata.input is not None:
        origin = f"the checkpoint's own metadata: {checkpoint.metadata.input.origin}".removesuffix(": ")
        spec = checkpoint.metadata.input.model_copy(update={"origin": origin})
    else:
        size = family.spec.size if side is None else (int(side), int(side))
        words = family.spec.origin.replace("{}×{}".format(*family.spec.size), "{}×{}".format(*size))
        spec = family.spec.model_copy(update={"size": size, "origin": f"family {family.name}: {words}"})
    if spec.layout != "NCHW":
        raise VeriQuantError(
            f"{checkpoint.path}: a network of a family takes NCHW; set layout to NCHW, not {spec.layout}"
        )
    if side is not None and spec.size != (side, side):
        raise VeriQuantError(
            f"{checkpoint.path}: its tensors are made for {side}×{side} pixels, but the input specification says "
            f"{spec.size[0]}×{spec.size[1]}; set size to [{side}, {side}]"
        )
    return spec
