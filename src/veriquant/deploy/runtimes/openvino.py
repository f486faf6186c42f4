"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import TensorProto

from veriquant.deploy.embedder import Batch, Embedder, Embeddings, filled, nothing
from veriquant.deploy.runtimes.runtime import RUNTIMES, Loaded, Runtime
from veriquant.deploy.sessions import open_session
from veriquant.errors import VeriQuantError
from veriquant.networks.trial import pictures
from veriquant.onnxgraph.quantized import quantized_operator
from veriquant.onnxgraph.versions import opset_of

#: Least cosine to what ONNX's operators give: sums in another order, and codes that differ for it.
_CLOSE, _CLOSE_CODES = 0.999, 0.8


class OpenVinoEmbedder(Embedder):
    """A network compiled by OpenVINO's CPU plugin, in float32 where it is not quantized."""

    runtime = "openvino"

    def __init__(self, loaded: Loaded) -> None:
        core = _core()
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": loaded.threads,
            "NUM_STREAMS": 1,
            # Left alone, the plugin computes in bfloat16 on processors that have it, and the embeddings change.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            self._compiled = core.compile_model(core.read_model(_understood(loaded.onnx), b""), "CPU", settings)
        except Exception as error:  # the plugin raises plain RuntimeError for everything
            raise VeriQuantError(f"OpenVINO cannot load the network: {_last_line(error)}") from error
        self._request = self._compiled.create_infer_request()
        shape = self._compiled.input(0).get_partial_shape()
        self.max_batch = shape[0].get_length() if shape[0].is_static else None
        self.spec = loaded.spec
        self.threads = loaded.threads
        stated = self._compiled.output(0).get_partial_shape()
        known = stated.rank.is_static and len(stated) > 0 and stated[-1].is_static
        self.dim = int(stated[-1].get_length() if known else self._embed(nothing(self)).shape[-1])
        _compare(self, loaded.onnx)

    def _embed(self, batch: Batch) -> Embeddings:
        try:
            self._request.infer([batch], share_inputs=True)
            embeddings: Embeddings = np.array(self._request.get_output_tensor(0).data, dtype=np.float32)
        except Exception as error:  # as above
            raise VeriQuantError(f"OpenVINO failed on a batch of shape {batch.shape}: {_last_line(error)}") from error
        return embeddings


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1][:300] if lines else type(error).__name__


def _understood(content: bytes) -> bytes:
    """Return a model that OpenVINO takes for what it is; the model itself where it does anyway."""
    if b"PRelu" not in content and b"Squeeze" not in content:
        return content
    model = onnx.load_model_from_string(content)
    changed = _slopes_in_rows(model.graph) + _squeezed_axes(model)
    if not changed:
        return content
    model.ir_version = max(model.ir_version, 4)  # initializers need be no inputs
    understood: bytes = model.SerializeToString()
    return understood


def _slopes_in_rows(graph: onnx.GraphProto) -> int:
    """Write slopes of PReLU that are a row, (w,), as (1, w); return how many.

    They lie along the width; where there are as many channels, OpenVINO takes them for one a channel.
    """
    rows = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 1 and tensor.dims[0] > 1}
    for node in graph.node:
        rows.update(
            (node.output[0], entry.t)
            for entry in node.attribute
            if node.op_type == "Constant" and entry.name == "value" and len(entry.t.dims) == 1 and entry.t.dims[0] > 1
        )
    found = [node for node in graph.node if node.op_type == "PRelu" and node.input[1] in rows]
    for number, node in enumerate(found):
        row = TensorProto()
        row.CopyFrom(rows[node.input[1]])
        row.name = f"{node.input[1]}/row{number}"
        row.dims.insert(0, 1)
        graph.initializer.append(row)
        node.input[1] = row.name
    return len(found)


def _squeezed_axes(model: onnx.ModelProto) -> int:
    """Name the axes of every Squeeze that names none, without that of the images; return how many.

    For one image alone such a Squeeze gives a tensor of fewer axes, for which OpenVINO has no kernel.
    """
    found = [n for n in model.graph.node if n.op_type == "Squeeze" and len(n.input) < 2 and not n.attribute]
    if not found:
        return 0
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.value_info, *inferred.input)}
    opset = opset_of(model)
    named = 0
    for number, node in enumerate(found):
        axes = [axis for axis, length in enumerate(shapes.get(node.input[0], ())) if axis and length.dim_value == 1]
        if not axes:
            continue
        named += 1
        if opset < 13:
            node.attribute.append(onnx.helper.make_attribute("axes", axes))
            continue
        name = f"{node.input[0]}/axes{number}"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(axes, np.int64), name))
        node.input.append(name)
    return named


def _compare(embedder: OpenVinoEmbedder, content: bytes) -> None:
    """Raise where OpenVINO computes something else than ONNX's operators say: no figure of it would be the network's.

    The reference is ONNX Runtime without optimisations, which decodes all codes and computes in floating point.
    """
    picture = pictures(embedder.spec, 2)[1:]
    session = open_session(content, optimised=False)
    expected = session.run(None, {session.get_inputs()[0].name: filled(picture, embedder.max_batch)})[0][0]
    found = embedder(picture)[0]
    lengths = np.linalg.norm(found) * np.linalg.norm(expected)
    if not lengths > 0:  # no direction, which is no figure of a runtime's
        return
    cosine = float(found @ expected / lengths)
    least = _CLOSE_CODES if quantized_operator(onnx.load_model_from_string(content)) else _CLOSE
    if not cosine >= least:
        raise VeriQuantError(
            f"OpenVINO computes other embeddings of this network than ONNX Runtime (cosine {cosine:.4f} for a made "
            "picture): it takes an operator for something else; use --runtime onnxruntime"
        )


@cache
def _core() -> Any:
    """Return the one core of this process.

    Every core's CPU plugin gives the thread a stack for signal handlers and, when it goes, puts back the one that was
    there. Of two cores that go in the order in which they came, the second puts back the stack of the first, which is
    gone: the next signal with a handler, Ctrl-C or the end of a child, is a segmentation fault (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def _missing(loaded: Loaded) -> str:
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed; install it with: pip install 'veriquant[openvino]'"
    return ""


RUNTIMES.add("openvino", Runtime("openvino", "OpenVINO, CPU plugin", OpenVinoEmbedder, _missing))
