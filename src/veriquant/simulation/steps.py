"""`Steps`: a network as a list of steps that can be started anywhere, with any weights and quantizers put in its way.

A search over precisions runs the same network hundreds of times with one thing changed. Steps make that cheap: what
comes before the change is computed once, several changes run stacked along the batch axis, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from veriquant.errors import VeriQuantError
from veriquant.schemes.quantizer import Quantizer
from veriquant.simulation.weighted import Product, Weighted

Env = dict[int, Any]

#: Codes of more than 8 bits are two digits in this base.
BYTE = 256.0


@dataclass(frozen=True)
class ProductOfCodes:
    """An operation on codes: the input divided by `step` is integers, and so is `weight`.

    Sums of products of codes are integers that float32 holds exactly, whatever the order of the sum (below 2**24), so
    that any runtime gives the same; `scale`, (outputs,), is the input's step times the weight's, and follows behind.
    `wide`: the input's codes have more than 8 bits; they are taken apart into two bytes, each with a sum of its own.
    """

    step: float
    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    wide: bool = False


@dataclass(frozen=True)
class QuantizationConfig:
    """What stands in a network's way: weights (and biases) by operation, quantizers by tensor; all else is as it is.

    An operation in `codes` is computed from integers; its entry in `weights` is the same up to rounding.
    """

    weights: Mapping[str, tuple[Tensor, Tensor | None]] = field(default_factory=dict)
    activations: Mapping[str, Quantizer] = field(default_factory=dict)
    codes: Mapping[str, ProductOfCodes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Step:
    call: Callable[..., Any] | None
    """None for the input and for constants, which are put in place beforehand."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    operation: str
    tensor: str
    weighted: Weighted | None
    silent: bool


class Steps:
    """The nodes of an imported network in order, called by number.

    `probe`: two images or more, standardised, float32 (n, channels, height, width): a small run tells how large each
    tensor is and whether the batch is its first axis.
    """

    def __init__(self, module: fx.GraphModule, probe: Tensor) -> None:
        nodes = list(module.graph.nodes)
        place = {node: i for i, node in enumerate(nodes)}
        self._steps: list[_Step] = []
        self.constants: Env = {}
        self.names: dict[str, int] = {}
        """The number of the step that makes a tensor, by the tensor's name."""
        self.operations: dict[str, int] = {}
        """The number of the last step of an operation, by its name."""
        for node in nodes:
            self._steps.append(self._step(module, node, place))
            if "tensor" in node.meta:
                self.names[node.meta["tensor"]] = place[node]
            if "operation" in node.meta:
                self.operations[node.meta["operation"]] = place[node]
        self.input = next(place[node] for node in nodes if node.op == "placeholder")
        output = next(node for node in nodes if node.op == "output")
        self.output = place[output.args[0]]
        self.count = place[output]
        self._depends = self._input_dependent()
        self.bytes, self.batched = self._measure(probe)

    def _step(self, module: fx.GraphModule, node: fx.Node, place: Mapping[fx.Node, int]) -> _Step:
        call: Callable[..., Any] | None = None
        weighted = None
        if node.op == "call_module":
            call = module.get_submodule(str(node.target))
            weighted = call if isinstance(call, Weighted) else None
        elif node.op == "call_function":
            assert callable(node.target)
            call = node.target
        elif node.op == "call_method":
            call = getattr(torch.Tensor, str(node.target))
        elif node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            self.constants[place[node]] = getattr(module.get_submodule(owner), name)

        def placed(arguments: Any) -> Any:
            def put(argument: Any) -> Any:
                return _Value(place[argument]) if isinstance(argument, fx.Node) else argument

            return fx.node.map_aggregate(arguments, put)

        return _Step(
            call,
            placed(node.args) if node.op != "output" else (),
            placed(node.kwargs),
            tuple(place[source] for source in node.all_input_nodes),
            node.meta.get("operation", ""),
            node.meta.get("tensor", ""),
            weighted,
            node.meta.get("kind") == "silent",
        )

    def _input_dependent(self) -> list[bool]:
        depends: list[bool] = []
        for i, step in enumerate(self._steps):
            depends.append(i == self.input or any(depends[source] for source in step.inputs))
        return depends

    def _measure(self, probe: Tensor) -> tuple[list[int], list[bool]]:
        """Return each tensor's bytes for one image, and whether images lie along its first axis."""
        seen: list[Env] = []
        for count in (1, 2):
            env = {self.input: probe[:count], **self.constants}
            for i in range(self.count):
                self.advance(i, env, [QuantizationConfig()])
            seen.append(env)
        sizes, batched = [0] * (self.count + 1), [False] * (self.count + 1)
        for i in range(self.count):
            one, two = seen[0].get(i), seen[1].get(i)
            if isinstance(one, Tensor) and isinstance(two, Tensor) and self._depends[i] and one.is_floating_point():
                sizes[i] = one.numel() * one.element_size()
                batched[i] = one.ndim > 0 and two.shape[0] == 2 and one.shape[0] == 1 and one.shape[1:] == two.shape[1:]
        return sizes, batched

    # ------------------------------------------------------------------------------------------------------ modules

    def modules(self) -> dict[int, tuple[str, nn.Module]]:
        """Return the steps that are modules, by number: the operation's name and the module."""
        return {
            i: (step.operation, step.call) for i, step in enumerate(self._steps) if isinstance(step.call, nn.Module)
        }

    def with_modules(self, modules: Mapping[int, nn.Module]) -> Steps:
        """Return the same steps with other modules at some numbers; these steps stay as they are."""
        other = copy(self)
        other._steps = [replace(step, call=modules[i]) if i in modules else step for i, step in enumerate(self._steps)]
        return other

    # ------------------------------------------------------------------------------------------------------ running

    def start(self, images: Tensor) -> Env:
        """Return the state before the first step."""
        return {self.input: images, **self.constants}

    def advance(self, index: int, env: Env, parts: Sequence[QuantizationConfig]) -> None:
        """Compute step `index` into `env`, for `parts` stacked along the batch axis, each with its own change."""
        step = self._steps[index]
        if step.call is not None:
            if step.weighted is not None and any(step.operation in part.weights for part in parts):
                env[index] = self._with_weights(step, env[step.inputs[0]], parts)
            else:
                args, kwargs = fx.node.map_aggregate((step.args, step.kwargs), lambda a: _look_up(a, env))
                env[index] = step.call(*args, **kwargs)
        if step.tensor:
            env[index] = self.quantize(step.tensor, env[index], parts)

    @staticmethod
    def quantize(tensor: str, values: Tensor, parts: Sequence[QuantizationConfig]) -> Tensor:
        """Return a tensor's values as the quantizer of each part leaves them."""
        quantizers = [part.activations.get(tensor) for part in parts]
        if all(quantizer is quantizers[0] for quantizer in quantizers):
            return values if quantizers[0] is None else _rounded(quantizers[0], values)
        pieces = values.chunk(len(parts))
        return torch.cat([p if q is None else _rounded(q, p) for p, q in zip(pieces, quantizers, strict=True)])

    def is_stacked(self, index: int, value: Any) -> bool:
        """Tell whether a value has the images along its first axis."""
        return isinstance(value, Tensor) and (index == self.input or self.batched[index])

    def reads(self, operation: str) -> int:
        """Return the number of the step whose result an operation with weights reads."""
        return self._steps[self.operations[operation]].inputs[0]

    def last_uses(self) -> dict[int, int]:
        """Return the last step that uses each step's result."""
        return {source: i for i in range(self.count + 1) for source in self._steps[i].inputs}

    def run(self, images: Tensor, change: QuantizationConfig | None = None) -> Tensor:
        """Return the network's output for a batch, under one change."""
        env = self.start(images)
        return self.finish(self.program(0), env, [change or QuantizationConfig()])

    def program(self, first: int) -> Program:
        """Return what is to be done from step `first` on, given what was computed before it."""
        needed: set[int] = set()
        again: set[int] = set()
        waiting = [source for step in self._steps[first : self.count] for source in step.inputs if source < first]
        waiting += [self.output] if self.output < first else []
        while waiting:
            index = waiting.pop()
            if index in needed or index in again:
                continue
            # Arithmetic on shapes depends on the batch, which changes when images are taken apart or stacked.
            if self._steps[index].silent and self._depends[index]:
                again.add(index)
                waiting.extend(self._steps[index].inputs)
            else:
                needed.add(index)
        order = [*sorted(again), *(i for i in range(first, self.count) if i not in self.constants)]
        if first <= self.input:
            needed = {self.input}
        last_use = {source: position for position, i in enumerate(order) for source in self._steps[i].inputs}
        dying: dict[int, list[int]] = {}
        for source, position in last_use.items():
            if source != self.output and source not in self.constants:
                dying.setdefault(position, []).append(source)
        live = tuple(sorted(i for i in needed if i not in self.constants))
        return Program(
            first,
            tuple(order),
            {position: tuple(found) for position, found in dying.items()},
            live,
            all(self.batched[i] or not self._depends[i] or i == self.input for i in live),
            max((self.bytes[i] for i in (*order, *live)), default=0),
        )

    def finish(
        self, program: Program, env: Env, parts: Sequence[QuantizationConfig], keep: Collection[int] = ()
    ) -> Tensor:
        """Run a program to the network's output; `env` loses what is no longer needed, but for the steps in `keep`."""
        for position, index in enumerate(program.order):
            self.advance(index, env, parts)
            for dead in program.dying.get(position, ()):
                if dead not in keep:
                    env.pop(dead, None)
        output = env[self.output]
        assert isinstance(output, Tensor)
        return output

    def _with_weights(self, step: _Step, x: Tensor, parts: Sequence[QuantizationConfig]) -> Tensor:
        weighted = step.weighted
        assert weighted is not None
        if len(parts) == 1 and step.operation in parts[0].codes:
            return _of_codes(weighted, x, parts[0].codes[step.operation])
        pairs = [part.weights.get(step.operation, (weighted.weight, weighted.bias)) for part in parts]
        if len(parts) == 1:
            return weighted.compute(x, *pairs[0])
        pieces = x.chunk(len(parts))
        return torch.cat([weighted.compute(piece, *pair) for piece, pair in zip(pieces, pairs, strict=True)])


@dataclass(frozen=True)
class Program:
    """Steps to run from some point on."""

    first: int
    order: tuple[int, ...]
    dying: Mapping[int, tuple[int, ...]]
    live: tuple[int, ...]
    """What must be there before it starts, constants aside."""
    divisible: bool
    """Whether all that is live has the images along its first axis, so that they may be taken apart and stacked."""
    bytes: int
    """The largest tensor in it, for one image."""


@dataclass(frozen=True)
class _Value:
    index: int


def _look_up(argument: Any, env: Env) -> Any:
    return env[argument.index] if isinstance(argument, _Value) else argument


def _of_codes(weighted: Weighted, x: Tensor, product: ProductOfCodes) -> Tensor:
    codes = torch.div(x, product.step).round_()
    if product.wide:
        high = torch.floor(codes * (1 / BYTE))
        low = codes - high * BYTE
        y = weighted.compute(high, product.weight, None) * BYTE + weighted.compute(low, product.weight, None)
    else:
        y = weighted.compute(codes, product.weight, None)
    shape = (-1,) if isinstance(weighted, Product) else (-1, *[1] * (product.weight.ndim - 2))
    y = y * product.scale.reshape(shape)
    return y if product.bias is None else y + product.bias.reshape(shape)


def _rounded(quantizer: Quantizer, values: Tensor) -> Tensor:
    rounded: Tensor = quantizer(values)
    return rounded


def check_finite(values: Tensor, what: str) -> None:
    """Raise `VeriQuantError` where a batch of images holds NaN or infinity; `what` names it."""
    bad = (~torch.isfinite(values)).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if bad:
        raise VeriQuantError(
            f"{what}: {len(bad)} of {len(values)} are not finite (the first is number {bad[0]}, counted from 0): an "
            "input with NaN or infinity would make every range meaningless; remove it"
        )
