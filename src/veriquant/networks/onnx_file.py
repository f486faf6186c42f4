"""ONNX files as they are: what they take, what they give, and proof that they run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnx.external_data_helper
import onnx.numpy_helper
import onnx.shape_inference
import onnxruntime
from pydantic import ValidationError

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import ARCFACE, FACENET, InputSpec
from veriquant.networks.damage import apparent_damage
from veriquant.networks.network import Network, network_digest

STAMP = "veriquant.input"
"""The metadata key under which a model carries its `InputSpec` as JSON."""

_TWO_GIB = 2**31
_DEFAULT_SIDE = 112


def load_onnx(path: str | Path, spec: InputSpec | None = None) -> Network:
    """Read an ONNX file, find out what it takes unless `spec` says so, and run it once.

    A network has one input, float32 images (n, 3, h, w) or (n, h, w, 3), and one output (n, d). Weights that lie in
    files beside are taken into the network; a model without such files stays byte for byte as it is.
    """
    path = Path(path)
    model, content = _read(path)
    return network_of_onnx(content, spec, name=path.stem, source=str(path), path=path, model=model)


def network_of_onnx(
    content: bytes,
    spec: InputSpec | None = None,
    *,
    name: str,
    source: str,
    path: Path | None = None,
    model: onnx.ModelProto | None = None,
) -> Network:
    """Make a `Network` of a serialised model; `model` spares parsing it again. `source` stands in front of errors."""
    if model is None:
        model = onnx.load_from_string(content)
    image = _image_input(model, source)
    _one_output(model, source)
    if spec is None:
        spec = read_stamp(model, source) or _detected(model, image)
    elif not spec.origin:
        spec = spec.model_copy(update={"origin": "given by the user"})
    image.accept(spec, source)
    dim = _run_once(content, model, image, spec, source)
    digest = network_digest(content, spec)
    return Network(name=name, source=source, spec=spec, onnx=content, dim=dim, digest=digest, path=path)


def stamp_input(model: onnx.ModelProto, spec: InputSpec) -> None:
    """Write `spec` into the metadata of `model`, in place of one that is there."""
    kept = [entry for entry in model.metadata_props if entry.key != STAMP]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=STAMP, value=json.dumps(spec.model_dump(mode="json"), sort_keys=True))


def stamped(content: bytes, spec: InputSpec) -> bytes:
    """Return a serialised model with `spec` in its metadata, so that it can be used without its recipe."""
    model = onnx.load_model_from_string(content)
    stamp_input(model, spec)
    written: bytes = model.SerializeToString()
    return written


def read_stamp(model: onnx.ModelProto, source: str) -> InputSpec | None:
    """Return the `InputSpec` in the metadata of `model`, None where there is none."""
    text = next((entry.value for entry in model.metadata_props if entry.key == STAMP), None)
    if text is None:
        return None
    try:
        spec = InputSpec.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise VeriQuantError(
            f"{source}: its metadata {STAMP!r} is no input specification ({where}: {problem['msg']}); "
            "say what the network takes, or remove that entry"
        ) from error
    origin = spec.origin.removeprefix(_STAMPED)
    return spec.model_copy(update={"origin": _STAMPED + origin})


_STAMPED = "the file's own metadata: "


# ---------------------------------------------------------------------------------------------------------- reading


def _read(path: Path) -> tuple[onnx.ModelProto, bytes]:
    """Return the model and its bytes, weights of other files inside."""
    if not path.is_file():
        raise VeriQuantError(f"{path}: no such ONNX file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    if damage := apparent_damage(path):
        raise VeriQuantError(f"{path}: {damage}; get it again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # the protobuf libraries raise types of their own
        raise VeriQuantError(
            f"{path}: not a whole ONNX file (cut off, damaged or of another kind); get it again"
        ) from error
    if not model.graph.node or not model.graph.output:
        raise VeriQuantError(f"{path}: not an ONNX network (no nodes or no outputs in it); export or get it again")
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer):
        content = _take_in_external_data(model, path)
    return model, content


def _take_in_external_data(model: onnx.ModelProto, path: Path) -> bytes:
    places = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    missing = sorted(place for place in places if not (path.parent / place).is_file())
    if missing:
        raise VeriQuantError(
            f"{path}: its weights lie in {', '.join(missing[:3])}, which is not there; put it beside the ONNX file"
        )
    size = sum((path.parent / place).stat().st_size for place in places)
    if size >= _TWO_GIB:
        raise VeriQuantError(f"{path}: its weights take {size / 2**30:.1f} GiB; up to 2 GiB can be loaded")
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        return cast(bytes, model.SerializeToString(deterministic=True))
    except Exception as error:
        raise VeriQuantError(
            f"{path}: its weights in {', '.join(sorted(places)[:3])} cannot be read ({_first_line(error)}); "
            "get them again"
        ) from error


# ------------------------------------------------------------------------------------------------- input and output


@dataclass(frozen=True)
class _ImageInput:
    """The one input of a model: its name and the lengths of its four axes, None where the file leaves them open."""

    name: str
    axes: tuple[int | None, int | None, int | None, int | None]

    @property
    def layout(self) -> str:
        return "NHWC" if self.axes[3] == 3 and self.axes[1] != 3 else "NCHW"

    @property
    def size(self) -> tuple[int | None, int | None]:
        return self.axes[2:4] if self.layout == "NCHW" else self.axes[1:3]

    def accept(self, spec: InputSpec, source: str) -> None:
        """Raise unless batches shaped by `spec` fit the input."""
        height, width = spec.size
        shape = (3, height, width) if spec.layout == "NCHW" else (height, width, 3)
        if any(there not in (None, given) for there, given in zip(self.axes[1:], shape, strict=True)):
            raise VeriQuantError(
                f"{source}: takes images of shape {_shape(self.axes)}, but the input specification gives "
                f"(n, {', '.join(map(str, shape))}) ({spec.layout}, {height}×{width}); correct its size or layout"
            )


def _image_input(model: onnx.ModelProto, source: str) -> _ImageInput:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise VeriQuantError(
            f"{source}: has {len(inputs)} inputs ({names}), expected one, the image; make the others constants of the "
            "model or export it without them"
        )
    value = inputs[0]
    kind = value.type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        raise VeriQuantError(
            f"{source}: input {value.name!r} is {_type(kind)}, expected float32; export it with a float32 input "
            "(a Cast node may follow inside)"
        )
    shaped = value.type.tensor_type.HasField("shape")
    axes = _lengths(value) if shaped else [None] * 4
    if len(axes) != 4:
        raise VeriQuantError(
            f"{source}: input {value.name!r} has shape {_shape(axes)}, expected images (n, 3, h, w) or (n, h, w, 3)"
        )
    if axes[1] not in (3, None) and axes[3] not in (3, None):
        raise VeriQuantError(
            f"{source}: input {value.name!r} has shape {_shape(axes)}, expected three colours on axis 1 or on axis 3"
        )
    return _ImageInput(value.name, (axes[0], axes[1], axes[2], axes[3]))


def _one_output(model: onnx.ModelProto, source: str) -> None:
    outputs = list(model.graph.output)
    if len(outputs) == 1:
        return
    with contextlib.suppress(Exception):  # otherwise the shapes that the file states have to do
        outputs = list(onnx.shape_inference.infer_shapes(model).graph.output)
    flat = [value.name for value in outputs if len(_lengths(value)) == 2]
    names = ", ".join(f"{value.name!r} {_shape(_lengths(value))}" for value in outputs[:6])
    names += ", …" if len(outputs) > 6 else ""
    which = f"{flat[0]!r}, it alone has shape (n, d)" if len(flat) == 1 else "the embedding, of shape (n, d)"
    keep = flat[0] if len(flat) == 1 else "NAME"
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in weights]
    raise VeriQuantError(
        f"{source}: has {len(outputs)} outputs ({names}), expected one; keep {which}: "
        f"onnx.utils.extract_model({Path(source).name!r}, 'embedding.onnx', {inputs}, [{keep!r}]) in Python"
    )


def _run_once(content: bytes, model: onnx.ModelProto, image: _ImageInput, spec: InputSpec, source: str) -> int:
    """Run the model on one picture (a grey ramp) and return the length of its embedding."""
    height, width = spec.size
    ramp = np.broadcast_to(np.linspace(0, 255, height * width).reshape(height, width, 1), (height, width, 3))
    pixels = (ramp - np.array(spec.mean)) / np.array(spec.std)
    if spec.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    batch = np.repeat(pixels[None].astype(np.float32), image.axes[0] or 1, axis=0)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # one picture is not worth a pool of threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        result = session.run(None, {image.name: batch})[0]
    except Exception as error:  # ONNX Runtime raises a type of its own for each kind of failure
        reason = _checker_complaint(model) or _first_line(error)
        raise VeriQuantError(
            f"{source}: does not run in ONNX Runtime on a batch of shape {batch.shape} ({reason}); export it again"
        ) from error
    output = model.graph.output[0].name
    if not isinstance(result, np.ndarray) or not np.issubdtype(result.dtype, np.floating):
        kind = result.dtype if isinstance(result, np.ndarray) else type(result).__name__
        raise VeriQuantError(f"{source}: output {output!r} is {kind}, expected embeddings of floating-point numbers")
    if result.ndim != 2 or result.shape[0] != len(batch) or result.shape[1] < 2:
        raise VeriQuantError(
            f"{source}: output {output!r} has shape {result.shape} for {len(batch)} image(s), expected embeddings "
            "(n, d); cut the network at the layer that gives them, flattened"
        )
    if not np.isfinite(result).all():
        raise VeriQuantError(f"{source}: gives NaN or infinity for a plain picture; its weights are damaged")
    return int(result.shape[1])


def _checker_complaint(model: onnx.ModelProto) -> str | None:
    """Return what ONNX's own checker says against a model that does not run, None where it finds nothing.

    It is not asked about models that run: it refuses some old files that every runtime takes.
    """
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        return _first_line(error)
    return None


# ------------------------------------------------------------------------------------- what the network is fed with


def _detected(model: onnx.ModelProto, image: _ImageInput) -> InputSpec:
    """Return the specification that the file's own first nodes, or else the field's conventions, speak for."""
    size = (image.size[0] or _DEFAULT_SIDE, image.size[1] or _DEFAULT_SIDE)
    assumed = "" if None not in image.size else f"; the file leaves the size open, {size[0]}×{size[1]} is assumed"
    first = _first_affine(model, image.name)
    if first is not None:
        names = "/".join(first.nodes)
        span = np.abs(first.scale) * 255
        centre = -first.offset / first.scale
        if span.max() <= 16:
            mean, std = 0.0, 1.0
            origin = f"the network normalises itself (its first nodes: {names}): RGB pixels 0..255"
        elif centre.min() >= 0.2 and centre.max() <= 0.8:
            mean, std = 0.0, 255.0
            origin = f"the network normalises pixels 0..1 itself (its first nodes: {names}): RGB, x/255"
        else:
            first = None
    if first is None:
        convention = FACENET if size == FACENET.size else ARCFACE
        mean, std = convention.mean[0], convention.std[0]
        kind = "FaceNet" if convention is FACENET else "ArcFace"
        origin = f"assumed, as nothing in the file tells: {kind} convention, RGB, (x−{mean:g})/{std:g}"
    return InputSpec(
        size=size,
        mean=(mean,) * 3,
        std=(std,) * 3,
        layout="NHWC" if image.layout == "NHWC" else "NCHW",
        origin=origin + assumed,
    )


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
    while True:
        users = [node for node in model.graph.node if name in node.input]
        if len(users) != 1:
            break
        node = users[0]
        if node.op_type in ("Identity", "Cast", "Transpose"):
            name = node.output[0]
            continue
        step = _step(node, name, constants)
        if step is None:
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


# ------------------------------------------------------------------------------------------------------------ words


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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
