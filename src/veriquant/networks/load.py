"""`load_network`: from what a user writes to a `Network`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.families import FAMILIES, Arguments, Family
from veriquant.networks.network import Network
from veriquant.networks.pretrained import PRETRAINED

if TYPE_CHECKING:
    from torch import nn

    from veriquant.networks.checkpoints import Checkpoint

_CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
_COUNTER = "num_batches_tracked"


def load_network(source: str | os.PathLike[str], spec: InputSpec | None = None) -> Network:
    """Load a network from an ``.onnx`` file, ``family:checkpoint`` or a registered name, and run it once.

    `spec` says what the network takes and wins over what the file or the family say; its layout is NCHW for a
    checkpoint. A checkpoint is a ``.safetensors`` file or a state dict that `torch.load` reads with
    ``weights_only=True``; the embedding's length, the input size and the width follow from its tensors.
    """
    text = os.fspath(source)
    if text in PRETRAINED:
        entry = PRETRAINED.get(text)
        return _load_checkpoint(FAMILIES.get(entry.family), entry.checkpoint(), spec, name=text, source=text)
    path = Path(text)
    if path.suffix.lower() == ".onnx" or path.is_file():
        family, colon, _ = text.partition(":")
        if colon and family in FAMILIES:
            raise VeriQuantError(f"{text}: an ONNX file brings its own architecture; write the path without {family}:")
        if path.suffix.lower() in _CHECKPOINT_SUFFIXES:
            raise VeriQuantError(
                f"{text}: a checkpoint needs its family: write FAMILY:{text}; families: {', '.join(FAMILIES)}"
            )
        from veriquant.networks.onnx_file import load_onnx

        return load_onnx(path, spec)
    prefix, colon, checkpoint = text.partition(":")
    if colon:
        path = Path(checkpoint)
        return _load_checkpoint(FAMILIES.get(prefix), path, spec, name=path.stem, source=text)
    raise VeriQuantError(
        f"{text}: neither a file nor a registered network (there are: {', '.join(PRETRAINED)}); write the path of an "
        f".onnx file, FAMILY:CHECKPOINT (families: {', '.join(FAMILIES)}) or a registered name"
    )


def _load_checkpoint(family: Family, path: Path, spec: InputSpec | None, name: str, source: str) -> Network:
    from veriquant.networks.checkpoints import load_checkpoint
    from veriquant.networks.export import export_onnx
    from veriquant.networks.onnx_file import network_of_onnx

    checkpoint = load_checkpoint(path)
    arguments = _arguments(family, checkpoint)
    module, notes = _module(family, arguments, checkpoint)
    spec = _spec(family, arguments, checkpoint, spec)
    network = network_of_onnx(export_onnx(module, spec), spec, name=name, source=source)
    return replace(network, path=path, module=module, notes=notes)


def _arguments(family: Family, checkpoint: Checkpoint) -> Arguments:
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
    return family.defaults | family.infer(checkpoint.shapes()) | stated.arguments


def _module(family: Family, arguments: Arguments, checkpoint: Checkpoint) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the module with the checkpoint's tensors in it, in evaluation mode, and what was left aside."""
    import torch

    try:
        with torch.device("meta"):
            module = family.build(**arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        stated = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise VeriQuantError(f"{checkpoint.path}: no network {family.name!r} with {stated}: {error}") from error
    aside = [key for key in checkpoint.tensors if key.startswith(family.training_only)] if family.training_only else []
    tensors = {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in checkpoint.tensors.items()
        if key not in aside and not key.endswith(_COUNTER)
    }
    expected = {key: tuple(t.shape) for key, t in module.state_dict().items() if not key.endswith(_COUNTER)}
    _compare(expected, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, family, checkpoint)
    module = module.to_empty(device="cpu")
    counters = {key: torch.zeros((), dtype=torch.long) for key in module.state_dict() if key.endswith(_COUNTER)}
    module.load_state_dict(tensors | counters)
    notes = []
    if aside:
        notes.append(f"left aside, as only training uses it: {', '.join(aside)}")
    if types := sorted(
        {str(t.dtype).removeprefix("torch.") for t in checkpoint.tensors.values()} & {"float16", "bfloat16"}
    ):
        notes.append(f"weights stored as {' and '.join(types)}, computed as float32")
    return module.eval(), tuple(notes)


def _compare(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], family: Family, checkpoint: Checkpoint
) -> None:
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
        f"{checkpoint.path} does not fit the family {family.name!r}: {told}; {_advice(set(found), family, checkpoint)}"
    )


def _advice(found: set[str], family: Family, checkpoint: Checkpoint) -> str:
    """Return what to do about a checkpoint that does not fit: the family whose names it has, where there is one."""
    import torch

    best, best_share = family.name, 0.0
    for name in FAMILIES:
        candidate = FAMILIES.get(name)
        with torch.device("meta"):
            names = {key for key in candidate.build(**candidate.defaults).state_dict() if not key.endswith(_COUNTER)}
        share = len(names & found) / len(names | found)
        if share > best_share:
            best, best_share = name, share
    if best != family.name and best_share > 0.9:
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
