"""`load_network`: from what a user writes to a `Network`."""

from __future__ import annotations

import os
from pathlib import Path

from veriquant.checks import cut
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.families import FAMILIES
from veriquant.networks.family_checkpoint import load_family
from veriquant.networks.network import Network
from veriquant.networks.pretrained import PRETRAINED
from veriquant.networks.torch_program import load_program, program_kind

_CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")


def load_network(
    source: str | os.PathLike[str], spec: InputSpec | None = None, *, output: str | None = None
) -> Network:
    """Load a network from an ``.onnx`` file, ``family:checkpoint`` or a registered name, and run it on pictures.

    `spec` says what the network takes and wins over what the file or the family say; its layout is NCHW for a
    checkpoint. `output` names the output that is the embedding, where an ``.onnx`` file has several and it cannot be
    told. A checkpoint is a ``.safetensors`` file or what `torch.save` wrote, the state dict anywhere in it; the
    embedding's length, the input size and the width follow from its tensors. Files of TorchScript and `torch.export`
    (``.pt2``) are networks as they are, read without running what they should not (`torch_program`).
    """
    text = os.fspath(source)
    if output is not None and not text.lower().endswith(".onnx"):
        raise VeriQuantError(f"{text}: only an ONNX file has outputs to choose from; leave out 'output' ({output})")
    if text in PRETRAINED:
        entry = PRETRAINED.get(text)
        return load_family(FAMILIES.get(entry.family), entry.checkpoint(), spec, name=text, source=text)
    path = Path(text)
    if path.suffix.lower() == ".onnx" or os.path.isfile(path):
        family, colon, _ = text.partition(":")
        if colon and family in FAMILIES:
            raise VeriQuantError(f"{text}: an ONNX file brings its own architecture; write the path without {family}:")
        if kind := program_kind(path):
            return load_program(path, kind, spec, text)
        if path.suffix.lower() in _CHECKPOINT_SUFFIXES:
            raise VeriQuantError(
                f"{text}: a checkpoint needs its family: write FAMILY:{text}; families: {', '.join(FAMILIES)}"
            )
        from veriquant.networks.onnx_file import load_onnx

        return load_onnx(path, spec, output)
    prefix, colon, checkpoint = text.partition(":")
    if colon:
        path = Path(checkpoint)
        return load_family(FAMILIES.get(prefix), path, spec, name=path.stem, source=text)
    raise VeriQuantError(
        f"{cut(text)}: neither a file nor a registered network (there are: {', '.join(PRETRAINED)}); write the path "
        f"of an .onnx file, FAMILY:CHECKPOINT (families: {', '.join(FAMILIES)}) or a registered name"
    )
