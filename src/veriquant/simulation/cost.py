"""What a plan costs: bit operations, nominal and packed bytes.

BOPs = Σ bits of weights · bits of activations · MACs over the operations that multiply (Pandey et al., equation 5);
relative BOPs r are a share of those at W8A16. In floating point both widths count as 32. A product of two activations
(attention) counts the activations' width twice. Nominal bytes are parameters × bits / 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from veriquant.onnxgraph.graph import WEIGHTED
from veriquant.simulation.groups import Group
from veriquant.simulation.precision import FP32, Precision
from veriquant.simulation.simulation import Simulation

#: What relative BOPs are relative to (Pandey et al., section 4).
REFERENCE = Precision(8, 16)
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Costs:
    """The costs of every group at any precision, of one simulated network."""

    simulation: Simulation

    def bops(self, group: Group, precision: Precision) -> float:
        """Return the bit operations of a group for one image."""
        total = 0.0
        for name in group.operations:
            layer = self.simulation.layers.get(name)
            if layer is None or not layer.macs:
                continue
            both = (
                precision if name in group.weights else Precision(precision.activation_bits, precision.activation_bits)
            )
            total += layer.macs * both.weight_bits * both.activation_bits
        return total

    def weight_bytes(self, group: Group, precision: Precision) -> float:
        """Return the nominal bytes of a group's weights."""
        return sum(self._weights(name) for name in group.weights) * precision.weight_bits / 8

    def overhead_bytes(self, group: Group, precision: Precision) -> float:
        """Return what a packed file holds beside a group's codes: a float32 scale for every output channel."""
        if precision.weight_bits >= FP32.weight_bits:
            return 0.0
        return float(sum(len(self.simulation.weighted(name).weight) for name in group.weights) * _FLOAT_BYTES)

    def fixed_bytes(self) -> float:
        """Return the bytes of all parameters that no plan touches: biases, slopes, float32."""
        weights = sum(self._weights(name) for group in self.simulation.groups.values() for name in group.weights)
        return float((self._parameters() - weights) * _FLOAT_BYTES)

    def relative_bops(self, precisions: Mapping[str, Precision]) -> float:
        """Return r: the BOPs of an assignment as a share of those at W8A16; a group left out is in floating point."""
        groups = self.simulation.groups
        total = sum(self.bops(group, precisions.get(name, FP32)) for name, group in groups.items())
        return total / self.reference_bops()

    def reference_bops(self) -> float:
        """Return the BOPs of the whole network at W8A16, for one image."""
        return sum(self.bops(group, REFERENCE) for group in self.simulation.groups.values()) or 1.0

    def nominal_bytes(self, precisions: Mapping[str, Precision]) -> float:
        """Return weights at their bits and all other parameters at 32: the size that papers print, in bytes."""
        groups = self.simulation.groups
        weights = sum(self.weight_bytes(group, precisions.get(name, FP32)) for name, group in groups.items())
        return weights + self.fixed_bytes()

    def average_bits(self, precisions: Mapping[str, Precision]) -> float:
        """Return the mean width of a weight."""
        groups = self.simulation.groups
        weights = sum(self._weights(name) for group in groups.values() for name in group.weights)
        bits = sum(self.weight_bytes(group, precisions.get(name, FP32)) for name, group in groups.items()) * 8
        return bits / max(1, weights)

    def _weights(self, operation: str) -> int:
        return self._counts.get(operation, 0)

    @cached_property
    def _counts(self) -> dict[str, int]:
        """The number of weights of each operation; a weight that several share counts for the first alone."""
        first: dict[str, str] = {}
        for node in self.simulation.graph.nodes:
            if node.op_type in WEIGHTED:
                first.setdefault(node.input[1], node.name)
        names = {name for group in self.simulation.groups.values() for name in group.weights}
        return {name: self.simulation.weighted(name).weight.numel() for name in first.values() if name in names}

    def _parameters(self) -> int:
        return sum(layer.parameters for layer in self.simulation.layers.values())
