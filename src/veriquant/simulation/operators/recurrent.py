"""Recurrent layers, kept in floating point: their weights are not quantized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from veriquant.onnxgraph.graph import Array
from veriquant.simulation.operators.operator_table import importing
from veriquant.simulation.operators.site import Site, as_tensor


class Recurrent(nn.Module):
    """A recurrent layer of PyTorch with ONNX's order of axes: time first, directions before the batch."""

    def __init__(self, layer: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs (time, directions, n, hidden) and the last states for `x` (time, n, inputs).

        `state`: the first hidden state and, for an LSTM, the first cell state, (directions, n, hidden) each; zeros
        where they are left out.
        """
        first: Any = None
        if state:
            first = state if isinstance(self.layer, nn.LSTM) else state[0]
        y, last = self.layer(x, first)
        outputs = y.unflatten(2, (-1, self.layer.hidden_size)).transpose(1, 2)
        return (outputs, *last) if isinstance(last, tuple) else (outputs, last)


@importing("LSTM", "computing")
def _lstm(site: Site) -> Sequence[fx.Node]:
    site.choice("input_forget", 0, 0)
    if site.has(7):
        raise site.error("it has peephole weights (input P), which cannot be simulated")
    # ONNX: input, output, forget, cell gates; PyTorch: input, forget, cell, output.
    return _layer(site, nn.LSTM, order=(0, 2, 3, 1), states=(5, 6), activations=("Sigmoid", "Tanh", "Tanh"))


@importing("GRU", "computing")
def _gru(site: Site) -> Sequence[fx.Node]:
    # PyTorch's one form; the other resets before it multiplies.
    site.choice("linear_before_reset", 0, 1)
    # ONNX: update, reset, hidden gates; PyTorch: reset, update, hidden.
    return _layer(site, nn.GRU, order=(1, 0, 2), states=(5,), activations=("Sigmoid", "Tanh"))


def _layer(
    site: Site,
    family: type[nn.LSTM] | type[nn.GRU],
    order: tuple[int, ...],
    states: tuple[int, ...],
    activations: tuple[str, ...],
) -> Sequence[fx.Node]:
    ways = 2 if site.choice("direction", "forward", "forward", "bidirectional") == "bidirectional" else 1
    given = [each.decode() for each in site.attribute("activations", [])]
    site.choice("layout", 0, 0)
    if given not in ([], list(activations * ways)):
        raise site.error(f"its activations are {', '.join(given)}, and only {', '.join(activations)} can be simulated")
    if site.attribute("clip") is not None or site.has(4):
        raise site.error("it has clipped activations or sequence lengths, which cannot be simulated")
    weight, recurrent = site.needed(1, "weight"), site.needed(2, "recurrence weight")
    bias = site.needed(3, "bias") if site.has(3) else np.zeros((ways, 2 * weight.shape[1]), np.float32)
    hidden = recurrent.shape[2]
    # Without drawing first weights, which would move the random numbers of the whole process.
    layer = family(weight.shape[2], hidden, bidirectional=ways == 2, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for way, suffix in zip(range(ways), ("", "_reverse"), strict=False):
            halves = np.split(bias[way], 2)
            for name, value in (
                ("weight_ih", weight[way]),
                ("weight_hh", recurrent[way]),
                ("bias_ih", halves[0]),
                ("bias_hh", halves[1]),
            ):
                getattr(layer, f"{name}_l0{suffix}").copy_(as_tensor(_reordered(value, order)))
    if site.has(states[0]) != site.has(states[-1]):
        raise site.error("it has one of its two first states, and only both or none can be simulated")
    first = [site.value(position) for position in states if site.has(position)]
    return site.outputs(site.module(Recurrent(layer), site.value(), *first))


def _reordered(value: Array, order: tuple[int, ...]) -> Array:
    """Return the rows of the gates in another order."""
    gates = np.split(value, len(order))
    return np.concatenate([gates[gate] for gate in order])
