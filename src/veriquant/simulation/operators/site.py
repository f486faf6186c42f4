"""`Site`: one ONNX node while it is imported: what it reads, and where the fx nodes that stand for it are put."""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor, fx, nn

from veriquant.errors import VeriQuantError
from veriquant.onnxgraph.graph import Array, Graph, attribute


class Fixed(nn.Module):
    """A constant of shape arithmetic. It stays where it was made when the network moves to another device."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self) -> Tensor:
        """Return the constant."""
        return self.value


class Assembly:
    """The network that is being built: the ONNX graph read so far, the fx graph and modules made from it."""

    def __init__(self, graph: Graph) -> None:
        self.onnx = graph
        self.fx = fx.Graph()
        self.root = nn.Module()
        self.made: dict[str, fx.Node] = {}
        """The fx node that computes each ONNX tensor."""
        self.learned: set[str] = set()
        """Tensors that an operation with weights stands before."""
        self._attributes: dict[str, str] = {}
        self._shapes: dict[str, tuple[int | None, ...]] | None = None

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """Return the inferred shape of an ONNX tensor; None where it has none, and for axes of unknown length."""
        if self._shapes is None:
            self._shapes = self.onnx.shapes()
        return self._shapes.get(tensor)

    def attribute_name(self, name: str) -> str:
        """Return an identifier like `name` that the root has no attribute of."""
        base = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "tensor"
        base = f"n{base}" if base[0].isdigit() else base
        found, count = base, 1
        while hasattr(self.root, found) or hasattr(fx.GraphModule, found) or keyword.iskeyword(found):
            found, count = f"{base}_{count}", count + 1
        return found

    def constant(self, tensor: str, learned: bool, fixed: bool) -> fx.Node:
        """Return a node for the constant `tensor`: a parameter, a buffer, or apart from the module's devices."""
        if tensor not in self._attributes:
            value = as_tensor(self.onnx.constants[tensor])
            name = self._attributes[tensor] = self.attribute_name(tensor)
            if fixed:
                self.root.add_module(name, Fixed(value))
            elif learned and value.is_floating_point():
                self.root.register_parameter(name, nn.Parameter(value))
            else:
                self.root.register_buffer(name, value)
        name = self._attributes[tensor]
        if isinstance(getattr(self.root, name), Fixed):
            return self.fx.call_module(name)
        return self.fx.get_attr(name)


class Site:
    """One ONNX node: its inputs by position, its attributes, and `call` and `module` to put something in its place."""

    def __init__(self, node: NodeProto, assembly: Assembly, silent: bool) -> None:
        self.node = node
        self.silent = silent
        """Whether the node takes no part in the arithmetic of values."""
        self.nodes: list[fx.Node] = []
        """The fx nodes made so far."""
        self.onnx = assembly.onnx
        """The graph that the node stands in."""
        self._assembly = assembly

    # ------------------------------------------------------------------------------------------------------ reading

    def has(self, position: int) -> bool:
        """Tell whether an input is given."""
        return len(self.node.input) > position and self.node.input[position] != ""

    def inputs(self) -> range:
        """Return the positions of all inputs."""
        return range(len(self.node.input))

    def constant(self, position: int) -> Array | None:
        """Return the constant at an input; None where it is computed or absent."""
        return self.onnx.constants.get(self.node.input[position]) if self.has(position) else None

    def needed(self, position: int, what: str) -> Array:
        """Return the constant at an input, or raise `VeriQuantError` where it is computed; `what` names it."""
        value = self.constant(position)
        if value is None:
            raise self.error(f"its {what} is computed by the network, and only a constant can be simulated")
        return value

    def whole(self, position: int) -> list[int] | fx.Node | None:
        """Return the whole numbers at an input: a list where constant, else the node that computes them, or None."""
        if not self.has(position):
            return None
        value = self.constant(position)
        return self.value(position) if value is None else [int(each) for each in value.reshape(-1)]

    def axes(self, position: int = 1) -> list[int] | None:
        """Return the axes, which are an attribute in older opsets and an input in newer ones; None where absent."""
        given = self.attribute("axes")
        if given is not None:
            return [int(axis) for axis in given]
        if not self.has(position):
            return None
        return [int(axis) for axis in self.needed(position, "list of axes").reshape(-1)]

    def shape(self, position: int = 0) -> tuple[int | None, ...] | None:
        """Return the inferred shape of an input; None where unknown."""
        return self._assembly.shape(self.node.input[position])

    def batch(self) -> int | None:
        """Return the number of images that the file fixes; None where it takes any."""
        shape = self._assembly.shape(self.onnx.input)
        return shape[0] if shape else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, text as str."""
        value = attribute(self.node, name, default)
        return value.decode() if isinstance(value, bytes) else value

    def choice(self, name: str, default: Any, *known: Any) -> Any:
        """Return the value of an attribute, or raise `VeriQuantError` where it is not one of `known`."""
        value = self.attribute(name, default)
        if value not in known:
            wanted = " or ".join(repr(each) for each in known)
            raise self.error(f"its attribute {name} is {value!r}, and only {wanted} can be simulated")
        return value

    def error(self, reason: str) -> VeriQuantError:
        """Return an error that names the node."""
        return VeriQuantError(
            f"ONNX operator {self.node.op_type!r} (node {self.node.name!r}): {reason}; change it in the network or "
            "export the network in another way"
        )

    # ----------------------------------------------------------------------------------------------------- building

    def value(self, position: int = 0) -> fx.Node:
        """Return the fx node of an input, computed or constant."""
        name = self.node.input[position]
        if name in self._assembly.made:
            return self._assembly.made[name]
        if name not in self.onnx.constants:
            raise self.error(f"it reads {name!r}, a further output of an operator of which only the first is simulated")
        learned = any(each in self._assembly.learned for each in self.node.input)
        return self._kept(self._assembly.constant(name, learned=learned, fixed=self.silent))

    def operand(self, position: int) -> fx.Node | float:
        """Return the fx node of an input, or a plain number where it is one constant number."""
        value = self.constant(position)
        if value is not None and value.size == 1 and value.ndim <= (0 if self.silent else 1):
            number: float = as_tensor(value).item()
            return number
        return self.value(position)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Put a call of `function` in the node's place."""
        node = self._assembly.fx.create_node("call_function", function, args, kwargs, self._name())
        return self._kept(node)

    def module(self, module: nn.Module, *args: Any) -> fx.Node:
        """Put a call of `module` in the node's place; it becomes an attribute named after the node."""
        name = self._assembly.attribute_name(self.node.name)
        self._assembly.root.add_module(name, module)
        return self._kept(self._assembly.fx.create_node("call_module", name, args, {}, self._name()))

    def outputs(self, several: fx.Node) -> list[fx.Node]:
        """Return a node for each output of one that gives a tuple."""
        return [self.call(operator.getitem, several, i) for i in range(len(self.node.output))]

    def _kept(self, node: fx.Node) -> fx.Node:
        self.nodes.append(node)
        return node

    def _name(self) -> str:
        return re.sub(r"\W+", "_", self.node.name, flags=re.ASCII).strip("_").lower() or "node"


def as_tensor(value: Array) -> Tensor:
    """Return a constant as a tensor of its own; numbers with a fraction become float32, whatever their width was."""
    if value.dtype.kind not in "iub":
        value = value.astype(np.float32)
    # Not `ascontiguousarray`, which makes an axis where there is none.
    return torch.from_numpy(np.array(value, order="C"))
