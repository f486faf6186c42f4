"""Small questions about codes as NumPy arrays."""

from __future__ import annotations

from torch import Tensor

from veriquant.onnxgraph.graph import Array


def to_array(tensor: Tensor | None) -> Array:
    """Return a part of `Codes` that must be there as an array."""
    assert tensor is not None, "uniform codes have a zero point"
    array: Array = tensor.detach().cpu().numpy()
    return array


def fits_signed(values: Array, bits: int) -> bool:
    """Return whether `values` can be stored in `bits` bits of which one is the sign; a single bit never is."""
    half = 1 << bits - 1
    return bits > 1 and bool(-half <= values.min() and values.max() < half)


def laid_out(value: Array, transposed: bool) -> Array:
    """Return (outputs, inputs) as (inputs, outputs) where `transposed`."""
    return value.T if transposed else value
