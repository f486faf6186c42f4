"""Small ONNX models of any opset, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

SHAPE = (4, 6, 8)


def model_of(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    batch: int | str = "n",
    shape: Sequence[int | str] = SHAPE,
    kind: int = TensorProto.FLOAT,
    out_kind: int = TensorProto.FLOAT,
    functions: Sequence[FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """Return a model from "x", (batch, *shape), to "y"."""
    graph = helper.make_graph(
        nodes,
        "pieces",
        [helper.make_tensor_value_info("x", kind, [batch, *shape])],
        [helper.make_tensor_value_info("y", out_kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=sets, functions=functions, ir_version=8)


def images(count: int = 3, shape: Sequence[int] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])
