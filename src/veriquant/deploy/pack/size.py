"""How small a packed network can be, and what the rest of a file is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

_FLOAT_BYTES = 4
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def nominal_bytes(weights: Iterable[tuple[int, float]], others: int = 0) -> float:
    """Return Σ parameters · bits / 8 over `weights`, pairs (parameters, bits), and 4 bytes for each of `others`.

    `others`: parameters that stay in float32, such as biases and slopes. What only quantization needs, scales, zero
    points and codebooks, is no parameter and does not count.
    """
    return sum(parameters * bits for parameters, bits in weights) / 8 + _FLOAT_BYTES * others


@dataclass(frozen=True)
class FileParts:
    """Bytes of an ONNX file by what they hold: `total` is their sum.

    `codes`: tensors of integers, nearly all of them weights. `numbers`: tensors of floating-point numbers: scales,
    biases, slopes, codebooks, weights left in float. `structure`: operators, names and the frames of tensors.
    """

    codes: int
    numbers: int
    structure: int

    @property
    def total(self) -> int:
        """Size of the file."""
        return self.codes + self.numbers + self.structure


def file_parts(content: bytes) -> FileParts:
    """Return what the bytes of a serialised ONNX model hold."""
    codes = numbers = 0
    for tensor in onnx.load_model_from_string(content).graph.initializer:
        held = _held_bytes(tensor)
        if tensor.data_type in _FLOATS:
            numbers += held
        else:
            codes += held
    return FileParts(codes, numbers, len(content) - codes - numbers)


def _held_bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes of a tensor's values; a tensor written without raw data counts whole."""
    return len(tensor.raw_data) or int(tensor.ByteSize())
