"""What an ONNX network is to be fed with, where nobody says: its first nodes tell, or else the field's conventions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from veriquant.frontends.spec import ARCFACE, FACENET, LIGHTCNN, InputSpec
from veriquant.networks.onnx_ends import INTEGERS, ImageInput, type_name

_DEFAULT_SIDE = 112


def detected_input(model: onnx.ModelProto, image: ImageInput) -> InputSpec:
    """Return the specification that the file's own first nodes, or else the field's conventions, speak for."""
    size = (image.size[0] or _DEFAULT_SIDE, image.size[1] or _DEFAULT_SIDE)
    assumed = "" if None not in image.size else f"; the file leaves the size open, {size[0]}×{size[1]} is assumed"
    channels = image.channels or 3
    first = None if image.kind in INTEGERS else _first_affine(model, image.name)
    if image.kind in INTEGERS:
        signed = image.kind == onnx.TensorProto.INT8
        mean, std = (128.0 if signed else 0.0), 1.0
        origin = f"the network takes {type_name(image.kind)}: pixels {'-128..127' if signed else '0..255'}"
    elif first is not None:
        names = "/".join(first.nodes)
        span = np.abs(first.scale) * 255
        with np.errstate(all="ignore"):
            centre = -first.offset / first.scale
        if span.max() <= 16:
            mean, std = 0.0, 1.0
            origin = f"the network normalises itself (its first nodes: {names}): RGB pixels 0..255"
        elif centre.min() >= 0.2 and centre.max() <= 0.8:
            mean, std = 0.0, 255.0
            origin = f"the network normalises pixels 0..1 itself (its first nodes: {names}): RGB, x/255"
        else:
            first = None
    if first is None and image.kind not in INTEGERS:
        convention, kind = _convention(size, channels)
        mean, std = convention.mean[0], convention.std[0]
        scaled = f"x/{std:g}" if not mean else f"(x−{mean:g})/{std:g}"
        origin = (
            f"assumed, as nothing in the file tells: {kind} convention, {'grey' if channels == 1 else 'RGB'}, {scaled}"
        )
    return InputSpec(
        size=size,
        color="GREY" if channels == 1 else "RGB",
        mean=(mean,) * channels,
        std=(std,) * channels,
        layout="NHWC" if image.layout == "NHWC" else "NCHW",
        origin=origin + assumed,
    )


def _convention(size: tuple[int, int], channels: int) -> tuple[InputSpec, str]:
    if channels == 1:
        return (LIGHTCNN, "LightCNN") if size == LIGHTCNN.size else (ARCFACE, "ArcFace")
    return (FACENET, "FaceNet") if size == FACENET.size else (ARCFACE, "ArcFace")


@dataclass(frozen=True)
class _Affine:
    """``scale * x + offset`` per colour, and the kinds of the nodes that compute it."""

    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    nodes: tuple[str, ...]


def _first_affine(model: onnx.ModelProto, name: str) -> _Affine | None:
    """Follow the image from the input and gather what is done to its values before the first other operation."""
    constants = _Constants(model.graph)
    scale, offset = np.ones(3), np.zeros(3)
    nodes: list[str] = []
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for each in set(node.input):
            readers.setdefault(each, []).append(node)
    while len(users := readers.pop(name, [])) == 1:  # popped, so that a circle ends
        node = users[0]
        if not node.output:
            break
        if node.op_type in ("Identity", "Cast", "Transpose"):
            name = node.output[0]
            continue
        with np.errstate(all="ignore"):
            step = _step(node, name, constants)
        if step is None or not np.isfinite(step).all():
            break
        scale, offset = scale * step[0], offset * step[0] + step[1]
        nodes.append(node.op_type)
        name = node.output[0]
    return _Affine(scale, offset, tuple(nodes)) if nodes and (scale != 0).all() else None


def _step(
    node: onnx.NodeProto, name: str, constants: _Constants
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Return (scale, offset) of one node that maps each colour by an affine function, None for any other node."""
    if node.op_type == "BatchNormalization":
        values = [constants.per_colour(tensor) for tensor in node.input[1:5]]
        if any(value is None for value in values):
            return None
        gamma, beta, mean, variance = (np.asarray(value) for value in values)
        epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        gain = gamma / np.sqrt(variance + epsilon)
        return gain, beta - gain * mean
    if node.op_type not in ("Sub", "Add", "Mul", "Div") or len(node.input) != 2:
        return None
    first = node.input[0] == name
    constant = constants.per_colour(node.input[1] if first else node.input[0])
    if constant is None:
        return None
    one, zero = np.ones(3), np.zeros(3)
    match node.op_type:
        case "Add":
            return one, constant
        case "Sub":
            return (one, -constant) if first else (-one, constant)
        case "Mul":
            return constant, zero
        case _:
            return (1 / constant, zero) if first and (constant != 0).all() else None


class _Constants:
    """The constant tensors of a graph, by name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self._tensors[node.output[0]] = attribute.t
                    elif attribute.name == "value_float":
                        self._tensors[node.output[0]] = onnx.numpy_helper.from_array(np.float32(attribute.f))

    def per_colour(self, name: str) -> npt.NDArray[np.float64] | None:
        """Return the constant `name` as three numbers, None where it is no constant of one or three."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        values = onnx.numpy_helper.to_array(tensor).astype(np.float64).ravel()
        return np.broadcast_to(values, 3).copy() if values.size in (1, 3) else None
