"""The operators that multiply: convolutions and products of matrices."""

from __future__ import annotations

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor, fx

from veriquant.onnxgraph.graph import Array, Graph, attribute
from veriquant.simulation.operators.operator_table import Kind, importing
from veriquant.simulation.operators.site import Site, as_tensor
from veriquant.simulation.operators.windows import windows
from veriquant.simulation.weighted import Convolution, Product


@importing("Conv", "weighted")
def _convolution(site: Site) -> fx.Node:
    weight = site.needed(1, "weight")
    bias = site.needed(2, "bias") if site.has(2) else None
    where = windows(site, weight.shape[2:])
    module = Convolution(
        as_tensor(weight),
        None if bias is None else as_tensor(bias),
        stride=where.stride,
        padding=where.padding,
        dilation=where.dilation,
        groups=int(site.attribute("group", 1)),
    )
    return site.module(module, site.value())


def _constant(node: NodeProto, graph: Graph, position: int) -> Array | None:
    return graph.constants.get(node.input[position]) if len(node.input) > position else None


def _matmul_exception(node: NodeProto, graph: Graph) -> Kind | None:
    weight = _constant(node, graph, 1)
    return None if weight is not None and weight.ndim == 2 else "joining"


@importing("MatMul", "weighted", _matmul_exception)
def _matmul(site: Site) -> fx.Node:
    weight = site.constant(1)
    if weight is None or weight.ndim != 2 or site.silent:
        return site.call(torch.matmul, site.value(0), site.value(1))
    return site.module(Product(as_tensor(weight.T), None), site.value())


def _gemm_exception(node: NodeProto, graph: Graph) -> Kind | None:
    """Return "joining" unless the node is a layer: a constant matrix, and a bias of one row or none."""
    weight = _constant(node, graph, 1)
    if weight is None or attribute(node, "transA", 0):
        return "joining"
    if len(node.input) < 3 or not node.input[2]:
        return None
    bias = _constant(node, graph, 2)
    return None if bias is not None and (bias.ndim < 2 or bias.shape[0] == 1) else "joining"


@importing("Gemm", "weighted", _gemm_exception)
def _gemm(site: Site) -> fx.Node:
    alpha, beta = float(site.attribute("alpha", 1.0)), float(site.attribute("beta", 1.0))
    turned = [bool(site.attribute(name, 0)) for name in ("transA", "transB")]
    if site.silent or _gemm_exception(site.node, site.onnx) is not None:
        shift = site.value(2) if site.has(2) else None
        return site.call(gemm, site.value(0), site.value(1), shift, alpha, beta, *turned)
    weight = np.float32(alpha) * site.needed(1, "weight")
    weight = weight if turned[1] else weight.T
    bias = site.constant(2)
    if bias is not None:
        bias = np.broadcast_to(np.float32(beta) * bias.reshape(-1), len(weight))
    module = Product(as_tensor(weight), None if bias is None else as_tensor(bias))
    return site.module(module, site.value())


def gemm(a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float, turn_a: bool, turn_b: bool) -> Tensor:
    """Return alpha·a·b + beta·c, the matrices transposed where asked."""
    product = alpha * torch.matmul(a.T if turn_a else a, b.T if turn_b else b)
    return product if c is None else product + beta * c
