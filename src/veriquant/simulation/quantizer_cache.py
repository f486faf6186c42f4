"""`QuantizerCache`: the levels of every tensor of a simulation at every width, each fitted once and used again.

A search tries hundreds of plans that share most of their parts. Activation ranges depend on the width alone, and so do
rounded weights, because every layer is rounded by itself: whatever a plan asks for is stitched from what is there
(Pandey et al., section 3.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.progress import track
from veriquant.schemes import SCHEMES, AffineQuantizer, Histogram, Quantizer
from veriquant.simulation.plan import Plan, PlanGroup
from veriquant.simulation.precision import FLOAT_BITS, FP32, Precision
from veriquant.simulation.simulation import Simulation
from veriquant.simulation.steps import ProductOfCodes, QuantizationConfig

#: Sums of products of codes of at most this many bits are exact in float32 for all but the longest sums.
EXACT_BITS = 8
#: The least number above zero that float16 has.
_LEAST_HALF = 2.0**-24

Recover = Callable[[str, Quantizer, Tensor], Tensor]
"""Rounds a weight better than to the nearest: (operation, fitted quantizer, weight) -> weight on the same levels."""
Correct = Callable[[str, Tensor, Tensor], Tensor]
"""Corrects a bias for a rounded weight: (operation, bias, rounded weight) -> bias."""


@dataclass
class RoundedWeight:
    """An operation's weight on its levels, the bias that goes with it, and the quantizer that holds the levels."""

    quantizer: Quantizer
    weight: Tensor
    bias: Tensor | None


@dataclass(eq=False)
class QuantizerCache:
    """The quantizers of a simulation. `histograms`: by tensor, from `observe`."""

    simulation: Simulation
    histograms: Mapping[str, Histogram]
    weight_scheme: str = "symmetric"
    activation_scheme: str = "asymmetric"
    ranges: str = "mse"
    weight_ranges: str | None = None
    """The range rule of weights; None: that of activations, `ranges`."""
    recover: Recover | None = None
    correct: Correct | None = None
    _activations: dict[tuple[str, int], Quantizer] = field(default_factory=dict, repr=False)
    _weights: dict[tuple[str, int, str], RoundedWeight] = field(default_factory=dict, repr=False)

    def activation(self, tensor: str, bits: int) -> Quantizer:
        """Return the quantizer of a tensor at a width."""
        key = tensor, bits
        if key not in self._activations:
            fit = SCHEMES.get(self.activation_scheme).for_activations()
            self._activations[key] = fit(self.histograms[tensor], bits, self.ranges)
        return self._activations[key]

    def weight(self, operation: str, bits: int, scheme: str | None = None) -> RoundedWeight:
        """Return an operation's weight rounded to a width, by `scheme` or the plan's."""
        name = scheme or self.weight_scheme
        key = operation, bits, name
        if key not in self._weights:
            chosen = SCHEMES.get(name)
            if bits not in chosen.widths:
                raise VeriQuantError(
                    f"scheme {name!r} has no {bits}-bit levels, which {operation} asks for; it goes from "
                    f"{chosen.widths[0]} to {chosen.widths[-1]} bits"
                )
            module = self.simulation.weighted(operation)
            with torch.no_grad():
                weight = module.weight.detach()
                quantizer = in_halves(chosen.for_weights()(weight, bits, self.weight_ranges or self.ranges))
                rounded = quantizer(weight)
            if self.recover is not None and chosen.uniform and bits <= EXACT_BITS:
                rounded = self.recover(operation, quantizer, weight)
            bias = None if module.bias is None else module.bias.detach()
            if self.correct is not None and bias is not None:
                bias = self.correct(operation, bias, rounded)
            self._weights[key] = RoundedWeight(quantizer, like(rounded, weight), None if bias is None else halves(bias))
        return self._weights[key]

    def hold_weight(self, operation: str, rounded: RoundedWeight, bits: int, scheme: str | None = None) -> None:
        """Take a weight that was rounded elsewhere for this operation, at a width."""
        self._weights[operation, bits, scheme or self.weight_scheme] = rounded

    def hold_activation(self, tensor: str, quantizer: Quantizer) -> None:
        """Take a quantizer that was fitted elsewhere for this tensor, at its width."""
        self._activations[tensor, quantizer.bits] = quantizer

    def prepare(self, candidates: Mapping[str, Sequence[Precision]]) -> None:
        """Fit and round everything that these candidates of the groups need, before somebody waits for it."""
        wanted = [(name, each) for name, widths in candidates.items() for each in widths]
        for name, precision in track(wanted, "fitting and rounding weights", total=len(wanted)):
            self.change({name: precision})

    def change(
        self, precisions: Mapping[str, Precision], schemes: Mapping[str, str] | None = None, *, codes: bool = False
    ) -> QuantizationConfig:
        """Return what stands in the network's way when each named group has a precision; others are left in float.

        `codes`: compute from integers wherever weight and input have at most 8 bits each, as a packed file does: the
        same up to the last bits, which many layers of rounding turn into other codes.
        """
        weights: dict[str, tuple[Tensor, Tensor | None]] = {}
        activations: dict[str, Quantizer] = {}
        for name, precision in precisions.items():
            group = self.simulation.groups[name]
            if precision.weight_bits < FLOAT_BITS:
                for operation in group.weights:
                    rounded = self.weight(operation, precision.weight_bits, (schemes or {}).get(name))
                    weights[operation] = rounded.weight, rounded.bias
            if precision.activation_bits < FLOAT_BITS:
                for tensor in group.activations:
                    activations[tensor] = self.activation(tensor, precision.activation_bits)
        change = QuantizationConfig(weights, activations)
        return replace(change, codes=self._products(change, precisions, schemes or {})) if codes else change

    def _products(
        self, change: QuantizationConfig, precisions: Mapping[str, Precision], schemes: Mapping[str, str]
    ) -> dict[str, ProductOfCodes]:
        found = {}
        for name, precision in precisions.items():
            if precision.weight_bits > EXACT_BITS:
                continue
            for operation in self.simulation.groups[name].weights:
                rounded = self.weight(operation, precision.weight_bits, schemes.get(name))
                reads = change.activations.get(self.simulation.reads[operation])
                product = product_of_codes(rounded, reads)
                if product is not None:
                    found[operation] = product
        return found

    def planned(self, plan: Plan) -> QuantizationConfig:
        """Return what stands in the network's way under a plan, in the numbers of the packed file."""
        schemes = {name: group.scheme for name, group in plan.groups.items() if group.scheme is not None}
        return self.change(plan.precisions(), schemes, codes=True)

    def plan(self, precisions: Mapping[str, Precision]) -> Plan:
        """Return a plan with these settings for an assignment of precisions; a group that is not in it stays float."""
        groups = {}
        for name, group in self.simulation.groups.items():
            precision = precisions.get(name, FP32)
            weight = precision.weight_bits if precision.weight_bits < FLOAT_BITS else None
            activation = precision.activation_bits if precision.activation_bits < FLOAT_BITS else None
            groups[name] = PlanGroup(
                weight_bits=weight if group.weights else None,
                activation_bits=activation if group.activations else None,
                enabled=precision != FP32,
                weights=list(group.weights),
                activations=list(group.activations),
            )
        simulation = self.simulation
        return Plan(
            network=simulation.name,
            digest=simulation.digest,
            target=simulation.table.name,
            weight_scheme=self.weight_scheme,
            activation_scheme=self.activation_scheme,
            ranges=self.ranges,
            weight_ranges=self.weight_ranges,
            groups=groups,
        )


def product_of_codes(rounded: RoundedWeight, reads: Quantizer | None) -> ProductOfCodes | None:
    """Return an operation on integers, or None where its weight has no whole levels of few bits, its input none."""
    quantizer = rounded.quantizer
    if not isinstance(reads, AffineQuantizer) or quantizer.bits > EXACT_BITS:
        return None
    codes = quantizer.codes(rounded.weight)
    if not codes.whole:
        return None
    scale = (codes.scale * reads.scale).expand(len(rounded.weight)).contiguous()
    integers = like(codes.integers(), rounded.weight)
    return ProductOfCodes(float(reads.scale), integers, scale, rounded.bias, wide=reads.bits > EXACT_BITS)


def check_plan(plan: Plan, simulation: Simulation) -> None:
    """Raise `VeriQuantError` where a plan is of another network: every group must be there, and no other."""
    ours, theirs = set(simulation.groups), set(plan.groups)
    unknown, missing = sorted(theirs - ours), sorted(ours - theirs)
    if unknown or missing:
        first = f"it names {unknown[0]!r}, which is none" if unknown else f"it does not name {missing[0]!r}"
        raise VeriQuantError(
            f"the plan is for another network (made for {plan.network!r}): {first} of the {len(ours)} quantizer "
            f"groups of {simulation.name} on target {simulation.table.name} ({len(unknown)} unknown, "
            f"{len(missing)} missing)"
        )


def in_halves(quantizer: Quantizer) -> Quantizer:
    """Round a quantizer's scales to float16, in place, so that a file may store them in two bytes and lose nothing.

    Weights are rounded to its levels afterwards, so that a channel of next to nothing, whose scale float16 only has
    coarsely, still gets the codes that go with it. More than 8 bits are finer than float16: their scales stay.
    """
    scale = getattr(quantizer, "scale", None)
    if isinstance(scale, Tensor) and quantizer.bits <= EXACT_BITS:
        scale.copy_(halves(scale).clamp(min=_LEAST_HALF))
    return quantizer


def halves(values: Tensor) -> Tensor:
    """Return float32 values rounded to float16, but for a tensor in which one is beyond its range.

    A relative error of 2**-11, nothing beside that of 8-bit codes; below 6e-5 an absolute one of 3e-8.
    """
    return values.half().float() if bool((values.abs() <= torch.finfo(torch.float16).max).all()) else values


def like(values: Tensor, pattern: Tensor) -> Tensor:
    """Return `values` laid out in memory as `pattern`: a convolution is fastest with the layout of its input."""
    if pattern.ndim == 4 and pattern.is_contiguous(memory_format=torch.channels_last):
        return values.contiguous(memory_format=torch.channels_last)
    return values.contiguous()
