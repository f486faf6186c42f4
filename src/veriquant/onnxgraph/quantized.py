"""Telling a network that computes in integers, or whose weights are codes, from a full-precision one."""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx

from veriquant.errors import VeriQuantError
from veriquant.onnxgraph.walk import all_nodes

#: Operators of ONNX and of ONNX Runtime that read or write codes.
_CODES = re.compile(
    r"^(Dynamic)?Quantize|^Dequantize|^QLinear|Integer(ToFloat|Bias)?$|^QGemm$|^Q(Ordered)?(Attention|MatMul|Gelu|"
    r"LayerNormalization|LongformerAttention)|NBits$|Bnb4$|Fp8|^GatherBlockQuantized$|^(Un)?packNBits"
)


def quantized_operator(model: onnx.ModelProto) -> str | None:
    """Return the first operator of a model that reads or writes codes of few bits, None where there is none."""
    return first_of_codes((*model.graph.node, *(node for function in model.functions for node in function.node)))


def first_of_codes(nodes: Iterable[onnx.NodeProto]) -> str | None:
    """Return the same for nodes and their subgraphs."""
    return next((node.op_type for node in all_nodes(nodes) if _CODES.search(node.op_type)), None)


def refuse_quantized(content: bytes, source: str) -> None:
    """Raise `VeriQuantError` where a serialised model is quantized already."""
    if operator := quantized_operator(onnx.load_model_from_string(content)):
        raise already_quantized(operator, source)


def already_quantized(operator: str, source: str) -> VeriQuantError:
    """Return the error for a network that holds an operator on codes."""
    return VeriQuantError(
        f"{source}: the network is quantized already (operator {operator!r}); give the full-precision file that it was "
        "made from"
    )
