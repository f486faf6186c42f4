"""Reading an ONNX file and the files beside it that hold its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import onnx
import onnx.external_data_helper

from veriquant.errors import VeriQuantError
from veriquant.networks.file_faults import file_fault
from veriquant.onnxgraph.walk import all_tensors

_TWO_GIB = 2**31


def read_onnx(path: Path) -> tuple[onnx.ModelProto, bytes]:
    """Return the model and its bytes, weights of other files inside.

    Raises `VeriQuantError` where the file, or one that it refers to, is missing, damaged or no ONNX network.
    """
    if not os.path.isfile(path):
        raise VeriQuantError(f"{path}: no such ONNX file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    if damage := file_fault(path):
        raise VeriQuantError(f"{path}: {damage}; get it again")
    model = parse_onnx(content, str(path))
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in all_tensors(model)):
        content = _take_in_external_data(model, path)
    return model, content


def parse_onnx(content: bytes, source: str) -> onnx.ModelProto:
    """Return the model in the content of an ONNX file; `source` stands in front of errors."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # the protobuf libraries raise types of their own
        raise VeriQuantError(
            f"{source}: not a whole ONNX file (cut off, damaged or of another kind); get it again"
        ) from error
    if not model.graph.node or not model.graph.output:
        raise VeriQuantError(f"{source}: not an ONNX network (no nodes or no outputs in it); export or get it again")
    return model


def _take_in_external_data(model: onnx.ModelProto, path: Path) -> bytes:
    places = {entry.value for tensor in all_tensors(model) for entry in tensor.external_data if entry.key == "location"}
    outside = sorted(place for place in places if not _is_beside(path, place))
    if outside:
        raise VeriQuantError(
            f"{path}: says that its weights lie in {outside[0][:200]!r}, outside its own folder, where nothing is "
            "read; put them beside the ONNX file"
        )
    missing = sorted(place for place in places if not os.path.isfile(path.parent / place))
    if missing:
        raise VeriQuantError(
            f"{path}: its weights lie in {', '.join(missing[:3])}, which is not there; put it beside the ONNX file"
        )
    size = sum((path.parent / place).stat().st_size for place in places)
    if size >= _TWO_GIB:
        raise VeriQuantError(f"{path}: its weights take {size / 2**30:.1f} GiB; up to 2 GiB can be loaded")
    try:
        for tensor in all_tensors(model):  # the library's own loop knows nothing of functions
            if onnx.external_data_helper.uses_external_data(tensor):
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
        return cast(bytes, model.SerializeToString(deterministic=True))
    except Exception as error:
        raise VeriQuantError(
            f"{path}: its weights in {', '.join(sorted(places)[:3])} cannot be read ({first_line(error)}); "
            "get them again"
        ) from error


def _is_beside(path: Path, place: str) -> bool:
    """Tell whether a place, links followed, is in the folder of the ONNX file or below it."""
    try:
        return (path.parent / place).resolve().is_relative_to(path.parent.resolve())
    except (OSError, ValueError, RuntimeError):  # what can be no name of a file, links in a circle
        return False


def first_line(error: Exception) -> str:
    """Return the first line of what a library complains of, cut to a bearable length."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
