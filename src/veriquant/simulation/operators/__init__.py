"""The ONNX operators that can be simulated in PyTorch: one table, filled by one file a family."""

from veriquant.simulation.operators import (
    activations,
    arithmetic,
    matrices,
    moving,
    normalising,
    pooling,
    recurrent,
    reducing,
    resizing,
    shapes,
)
from veriquant.simulation.operators.operator_table import OPERATORS, Kind, Operator, carriers, kind_of

__all__ = [
    "OPERATORS",
    "Kind",
    "Operator",
    "activations",
    "arithmetic",
    "carriers",
    "kind_of",
    "matrices",
    "moving",
    "normalising",
    "pooling",
    "recurrent",
    "reducing",
    "resizing",
    "shapes",
]
