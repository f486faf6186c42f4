"""The ends of an ONNX network: one image goes in, one embedding comes out, or the file is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.shape_inference

from veriquant.checks import quoted
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import LONGEST_SIDE, InputSpec


@dataclass(frozen=True)
class ImageInput:
    """The one input of a model: its name and the lengths of its four axes, None where the file leaves them open."""

    name: str
    axes: tuple[int | None, int | None, int | None, int | None]

    @property
    def layout(self) -> str:
        """NHWC where colours stand last, else NCHW."""
        return "NHWC" if self.axes[3] == 3 and self.axes[1] != 3 else "NCHW"

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width, None where the file leaves them open."""
        return self.axes[2:4] if self.layout == "NCHW" else self.axes[1:3]

    def accept(self, spec: InputSpec, source: str) -> None:
        """Raise `VeriQuantError` unless batches shaped by `spec` fit the input."""
        height, width = spec.size
        shape = (3, height, width) if spec.layout == "NCHW" else (height, width, 3)
        if any(there not in (None, given) for there, given in zip(self.axes[1:], shape, strict=True)):
            raise VeriQuantError(
                f"{source}: takes images of shape {_shape(self.axes)}, but the input specification gives "
                f"(n, {', '.join(map(str, shape))}) ({spec.layout}, {height}×{width}); correct its size or layout"
            )


def image_input(model: onnx.ModelProto, source: str) -> ImageInput:
    """Return the input of `model`; raise `VeriQuantError` where it is not one image in float32."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(quoted(value.name) for value in inputs) or "none"
        raise VeriQuantError(
            f"{source}: has {len(inputs)} inputs ({names}), expected one, the image; make the others constants of the "
            "model or export it without them"
        )
    value = inputs[0]
    kind = value.type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        raise VeriQuantError(
            f"{source}: input {quoted(value.name)} is {_type(kind)}, expected float32; export it with a float32 input "
            "(a Cast node may follow inside)"
        )
    shaped = value.type.tensor_type.HasField("shape")
    axes = _lengths(value) if shaped else [None] * 4
    if len(axes) != 4:
        raise VeriQuantError(
            f"{source}: input {quoted(value.name)} has shape {_shape(axes)}, expected images (n, 3, h, w) or "
            "(n, h, w, 3)"
        )
    if axes[1] not in (3, None) and axes[3] not in (3, None):
        raise VeriQuantError(
            f"{source}: input {quoted(value.name)} has shape {_shape(axes)}, expected three colours on axis 1 or axis 3"
        )
    found = ImageInput(value.name, (axes[0], axes[1], axes[2], axes[3]))
    if max(length or 0 for length in found.size) > LONGEST_SIDE:
        raise VeriQuantError(
            f"{source}: input {quoted(value.name)} has shape {_shape(axes)}, and images of at most "
            f"{LONGEST_SIDE}×{LONGEST_SIDE} are supported"
        )
    return found


def require_one_output(model: onnx.ModelProto, source: str) -> None:
    """Raise `VeriQuantError` where `model` has several outputs, saying which to keep."""
    outputs = list(model.graph.output)
    if len(outputs) == 1:
        return
    with contextlib.suppress(Exception):  # otherwise the shapes that the file states have to do
        outputs = list(onnx.shape_inference.infer_shapes(model).graph.output)
    flat = [value.name for value in outputs if len(_lengths(value)) == 2]
    names = ", ".join(f"{quoted(value.name)} {_shape(_lengths(value))}" for value in outputs[:6])
    names += ", …" if len(outputs) > 6 else ""
    which = f"{quoted(flat[0])}, it alone has shape (n, d)" if len(flat) == 1 else "the embedding, of shape (n, d)"
    keep = flat[0] if len(flat) == 1 else "NAME"
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in weights]
    raise VeriQuantError(
        f"{source}: has {len(outputs)} outputs ({names}), expected one; keep {which}: "
        f"onnx.utils.extract_model({Path(source).name!r}, 'embedding.onnx', {inputs}, [{keep!r}]) in Python"
    )


def _lengths(value: onnx.ValueInfoProto) -> list[int | None]:
    """Return the lengths of the axes, None where they are open."""
    axes = value.type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None for axis in axes]


def _shape(axes: Sequence[int | None]) -> str:
    return f"({', '.join('?' if axis is None else str(axis) for axis in axes)})"


def _type(kind: int) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except (KeyError, ValueError, TypeError):
        return f"of element type {kind}"
