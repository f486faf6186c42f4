"""What the bytes of a packed file are made of."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


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
