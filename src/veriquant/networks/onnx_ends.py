"""The ends of an ONNX network as its file has them: what image goes in, and which output is the embedding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from veriquant.checks import cut, quoted
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import LONGEST_SIDE, InputSpec

Axes = tuple[int | None, ...]
Array = npt.NDArray[np.generic]

#: Element types of an input that pixels can be written in; all but the first are cast to.
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
INTEGERS = (
    TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32, TensorProto.UINT32,
    TensorProto.INT64, TensorProto.UINT64,
)  # fmt: skip
_COLOURS = (1, 3)
#: Shorter rows are rarely embeddings: a norm, a quality, an age, five points.
_SHORT = 32
#: What exporters call the output that is the embedding.
_TELLING = re.compile(r"emb|feat|fc1\b|descriptor|repr", re.IGNORECASE)


@dataclass(frozen=True)
class ImageInput:
    """The one input of a model: its name, its element type, and the lengths of its axes, None where they are open.

    `batched`: whether the first of its axes is that of the images; without it there are three.
    """

    name: str
    kind: int
    axes: Axes
    batched: bool = True

    @property
    def batch(self) -> int | None:
        """The number of images that it takes, None for any."""
        return self.axes[0] if self.batched else 1

    @property
    def pixels(self) -> Axes:
        """The axes of one image."""
        return self.axes[1:] if self.batched else self.axes

    @property
    def layout(self) -> str:
        """NHWC where colours stand last, else NCHW."""
        first, _, last = self.pixels
        if first in _COLOURS:
            return "NCHW"
        return "NHWC" if last in _COLOURS or (first is not None and last is None) else "NCHW"

    @property
    def channels(self) -> int | None:
        """The number of colours, None where the file leaves it open."""
        return self.pixels[0 if self.layout == "NCHW" else 2]

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width, None where the file leaves them open."""
        a, b, c = self.pixels
        return (b, c) if self.layout == "NCHW" else (a, b)

    def accept(self, spec: InputSpec, source: str) -> None:
        """Raise `VeriQuantError` unless batches shaped by `spec` fit the input."""
        shape = spec.batch_shape(1)[1:]
        if any(there not in (None, given) for there, given in zip(self.pixels, shape, strict=True)):
            raise VeriQuantError(
                f"{source}: takes images of shape {told(self.axes)}, but the input specification gives "
                f"(n, {', '.join(map(str, shape))}) ({spec.layout}, {spec.color}, {spec.size[0]}×{spec.size[1]}); "
                "correct its size or layout, or its color (RGB, BGR, GREY)"
            )
        if self.kind in INTEGERS and any(value != round(value) for value in spec.mean) | any(v != 1 for v in spec.std):
            raise VeriQuantError(
                f"{source}: takes whole numbers ({type_name(self.kind)}), but the input specification makes fractions "
                f"of the pixels (mean {list(spec.mean)}, std {list(spec.std)}); give whole means and std 1"
            )


def image_input(model: onnx.ModelProto, source: str) -> ImageInput:
    """Return the input of `model`; raise `VeriQuantError` where it is not one image."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(quoted(value.name) for value in inputs[:6]) or "none"
        raise VeriQuantError(
            f"{source}: has {len(inputs)} inputs ({names}), expected one, the image; make the others constants of the "
            "model or export it without them"
        )
    value = inputs[0]
    kind = value.type.tensor_type.elem_type
    if kind not in (*FLOATS, *INTEGERS):
        raise VeriQuantError(
            f"{source}: input {quoted(value.name)} is {type_name(kind)}, expected the numbers of an image, such as "
            "float32 or uint8; export it with such an input"
        )
    axes: Axes = lengths(value) if value.type.tensor_type.HasField("shape") else (None,) * 4
    image = ImageInput(value.name, kind, axes, batched=len(axes) != 3)
    if len(axes) == 3 and not _is_one_image(axes):
        raise VeriQuantError(
            f"{source}: input {quoted(value.name)} has shape {told(axes)}, which is no image: three axes are taken for "
            "sound (n, time, features), and voice networks cannot be used yet; expected (n, 3, h, w) or (n, h, w, 3)"
        )
    if len(axes) not in (3, 4):
        raise VeriQuantError(
            f"{source}: input {quoted(value.name)} has shape {told(axes)}, expected images (n, 3, h, w) or (n, h, w, 3)"
        )
    if image.channels not in (*_COLOURS, None):
        raise VeriQuantError(
            f"{source}: input {quoted(value.name)} has shape {told(axes)}, expected three colours, or one of grey, "
            "on axis 1 or on axis 3"
        )
    if max(length or 0 for length in image.size) > LONGEST_SIDE:
        raise VeriQuantError(
            f"{source}: input {quoted(value.name)} has shape {told(axes)}, and images of at most "
            f"{LONGEST_SIDE}×{LONGEST_SIDE} are supported"
        )
    return image


def _is_one_image(axes: Axes) -> bool:
    """Tell whether three axes are those of one image without a batch: colours, height, width, all known."""
    first, middle, last = axes
    if None in axes:
        return False
    high, wide = (middle, last) if first in _COLOURS else (first, middle)
    return (first in _COLOURS or last in _COLOURS) and min(high or 0, wide or 0) >= 8


def embedding_output(outputs: Mapping[str, object], images: int, source: str, wanted: str | None = None) -> str:
    """Return the name of the output that is the embedding.

    `outputs`: what each gave for a batch of `images` different images; `wanted`: the name that the user gives. Raises
    `VeriQuantError` where it cannot be told, or is no embedding.
    """
    if wanted is not None:
        if wanted not in outputs:
            raise VeriQuantError(f"{source}: has no output {quoted(wanted)}; there are: {_listed(outputs)}")
        if _rows(outputs[wanted], images) is None:
            raise VeriQuantError(_no_embedding(wanted, outputs[wanted], images, source))
        return wanted
    rows = {name: found for name, value in outputs.items() if (found := _rows(value, images)) is not None}
    if not rows:
        if len(outputs) == 1:
            name, value = next(iter(outputs.items()))
            raise VeriQuantError(_no_embedding(name, value, images, source))
        raise VeriQuantError(
            f"{source}: none of its {len(outputs)} outputs ({_listed(outputs)}) gives embeddings (n, d); cut the "
            "network at the layer that gives them"
        )
    first = next(iter(rows))
    if all(_parallel(rows[first], other) for other in rows.values()):
        return first
    for few in (
        [name for name, found in rows.items() if found.shape[1] >= _SHORT],
        [name for name, found in rows.items() if found.shape[1] >= _SHORT and _TELLING.search(name)],
        [name for name in rows if _TELLING.search(name)],
    ):
        if few and all(_parallel(rows[few[0]], rows[name]) for name in few):
            return few[0]
    shown = ", ".join(f"{quoted(name)} (n, {found.shape[1]})" for name, found in list(rows.items())[:6])
    raise VeriQuantError(
        f"{source}: {len(rows)} of its outputs can be the embedding: {shown}; say which: --output {cut(first)}, in "
        f"a study 'output: {cut(first)}' of the network"
    )


def _rows(value: object, images: int) -> npt.NDArray[np.float64] | None:
    """Return an output as (images, d), None where it is no row of two floating-point numbers or more for each image."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return None
    lengths = [length for length in value.shape if length != 1]
    whole = value.size // images if images and value.size % images == 0 else 0
    if whole < 2 or lengths not in ([images, whole], [whole], [images * whole]):
        return None
    return np.asarray(value, dtype=np.float64).reshape(images, whole) if lengths != [whole] or images == 1 else None


def _parallel(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> bool:
    """Tell whether two outputs give every image the same direction: one is the other, scaled."""
    if a is b:
        return True
    if a.shape != b.shape:
        return False
    with np.errstate(all="ignore"):
        cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return bool((cosines > 1 - 1e-5).all())


def _no_embedding(name: str, value: object, images: int, source: str) -> str:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        return f"{source}: output {quoted(name)} is {kind}, expected embeddings of floating-point numbers"
    return (
        f"{source}: output {quoted(name)} has shape {value.shape} for {images} image(s), expected embeddings (n, d); "
        "cut the network at the layer that gives them, pooled or flattened"
    )


def _listed(outputs: Mapping[str, object]) -> str:
    shown = [
        f"{quoted(name)} {value.shape if isinstance(value, np.ndarray) else ''}" for name, value in outputs.items()
    ]
    return ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")


def lengths(value: onnx.ValueInfoProto) -> Axes:
    """Return the lengths of the axes that a model states, None where they are open."""
    axes = value.type.tensor_type.shape.dim
    return tuple(axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None for axis in axes)


def told(axes: Sequence[int | None]) -> str:
    """Return a shape for an error, open axes as ``?``."""
    return f"({', '.join('?' if axis is None else str(axis) for axis in axes)})"


def type_name(kind: int) -> str:
    """Return what an ONNX element type is called."""
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except (KeyError, ValueError, TypeError):
        return f"of element type {kind}"
