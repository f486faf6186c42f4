"""`save_pack`, `load_pack`: a quantized network's parameters in one .safetensors file, codes in their own bits.

Loading executes nothing. For an operation ``name`` the file holds ``name::codes`` (uint8, packed as in `bits.py`) or,
where widths differ from weight to weight, ``name::masked`` (uint8, entropy-coded as in `masked.py`); ``name::scale``;
and ``name::zero_point`` (the narrowest integer type that holds it; one where all channels agree) or ``name::levels``;
and ``name::exponents`` (4 bits each) where the widths of a channel have spacings of their own. A parameter that is not
quantized stands under its own name; bytes that go with them, such as the network's graph, under ``::name`` (uint8,
compressed by zlib). Numbers are float16 where that loses nothing, else float32. The file's metadata has one entry,
``veriquant``: JSON with the format's version, each operation's bits, shape and axis, and whatever the caller adds.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import safetensors
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors.numpy import save_file
from torch import Tensor

from veriquant.checks import explain, parse_json
from veriquant.deploy.pack.arrays import to_array
from veriquant.deploy.pack.bits import pack_bits, unpack_bits
from veriquant.deploy.pack.masked import decode, encode
from veriquant.errors import VeriQuantError
from veriquant.files import atomic_tensors_path
from veriquant.onnxgraph.graph import PART, Array
from veriquant.schemes.codes import Codes
from veriquant.schemes.power_of_two_grids import COLUMNS, EXPONENT_BITS, lowest, spacings

_KEY = "veriquant"
_VERSION = 1
#: Bytes: a graph without its weights is a few ten thousand. What opens to more than this, or to more than so many times
#: its own size beside a few megabytes, all parts together, is an attack.
_LARGEST_BLOB, _OPENS_TO, _BESIDE = 1 << 28, 64, 1 << 24
#: Weights of several widths are entropy-coded: all together are at most so many for a byte, beside a few million.
_WEIGHTS_A_BYTE, _FREE_WEIGHTS = 512, 1 << 24


class _Entry(BaseModel):
    """What the header says of the codes of an operation's weight."""

    model_config = ConfigDict(strict=True)

    bits: int = Field(ge=1, le=16)
    shape: Annotated[tuple[Annotated[int, Field(ge=0, lt=1 << 40)], ...], Field(max_length=8, strict=False)]
    axis: Annotated[int, Field(ge=0)] | None

    @model_validator(mode="after")
    def _axis_is_there(self) -> _Entry:
        if self.axis is not None and self.axis >= len(self.shape):
            raise ValueError(f"axis {self.axis} of {len(self.shape)}")
        return self


class _Header(BaseModel):
    """The JSON in the file's metadata."""

    version: int
    codes: dict[str, _Entry]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Pack:
    """What a pack holds.

    `codes`: quantized weights by name. `parameters`: the others, float32, by name. `metadata`: the caller's, plain
    JSON data. `blobs`: bytes by name.
    """

    codes: dict[str, Codes]
    parameters: dict[str, Tensor]
    metadata: dict[str, Any]
    blobs: dict[str, bytes]

    def decoded(self) -> dict[str, Tensor]:
        """Return every parameter as float32, the quantized ones on their levels."""
        return {**self.parameters, **{name: codes.decode() for name, codes in self.codes.items()}}


def save_pack(
    path: str | os.PathLike[str],
    codes: Mapping[str, Codes],
    parameters: Mapping[str, Tensor],
    metadata: Mapping[str, Any] | None = None,
    blobs: Mapping[str, bytes] | None = None,
) -> None:
    """Write a pack atomically: `codes`, float `parameters` and `blobs` by name, `metadata` as plain JSON data."""
    tensors = {name: _numbers(value) for name, value in parameters.items()}
    described = {}
    for name, each in codes.items():
        if name in parameters or PART in name:
            raise ValueError(f"{name}: a name stands once, and without {PART}")
        tensors |= {f"{name}{PART}{part}": value for part, value in _stored(each).items()}
        described[name] = {"bits": each.bits, "shape": list(each.values.shape), "axis": each.axis}
    tensors |= {
        f"{PART}{name}": np.frombuffer(zlib.compress(each, 9), np.uint8) for name, each in (blobs or {}).items()
    }
    header = {"version": _VERSION, "codes": described, "metadata": dict(metadata or {})}
    text = json.dumps(header, separators=(",", ":"), allow_nan=False)
    with atomic_tensors_path(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: text})


def load_pack(path: str | os.PathLike[str]) -> Pack:
    """Read what `save_pack` wrote; raise `VeriQuantError` for any other file."""
    tensors, header = _read(path)
    try:
        _check_masks(header, tensors)
        codes = {name: _codes(name, entry, tensors) for name, entry in header.codes.items()}
        blobs = _inflated({name: value for name, value in tensors.items() if name.startswith(PART)})
        parameters = {name: value.float() for name, value in tensors.items() if PART not in name}
    except VeriQuantError as error:
        raise VeriQuantError(f"{path}: {error}") from error
    except Exception as error:  # NumPy, PyTorch and zlib raise almost anything on forged parts
        raise VeriQuantError(f"{path} is damaged ({_line(error)}); write the pack again") from error
    return Pack(codes, parameters, header.metadata, blobs)


def _stored(codes: Codes) -> dict[str, Array]:
    parts = {"scale": _numbers(codes.scale)}
    if codes.widths is None:
        parts["codes"] = pack_bits(to_array(codes.values), codes.bits)
    else:
        coded = encode(to_array(codes.widths), to_array(codes.own_codes()))
        parts["masked"] = np.frombuffer(coded, np.uint8)
    if codes.zero_point is not None:
        alike = codes.zero_point.numel() > 0 and bool((codes.zero_point == codes.zero_point.flatten()[0]).all())
        zero_point = codes.zero_point.flatten()[0] if alike else codes.zero_point
        parts["zero_point"] = to_array(zero_point.to(_narrowest(zero_point)).contiguous())
    if codes.levels is not None:
        parts["levels"] = _numbers(codes.levels)
    if codes.exponents is not None:
        parts["exponents"] = pack_bits(to_array(codes.exponents), EXPONENT_BITS)
    return parts


def _numbers(value: Tensor) -> Array:
    value = value.float().contiguous()
    half = value.half()
    return to_array(half if torch.equal(half.float(), value) else value)


def _inflated(parts: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Return what was compressed, by name; raise ValueError where it would be larger than any graph is."""
    compressed = {name: to_array(value).tobytes() for name, value in parts.items()}
    room = min(_LARGEST_BLOB, _BESIDE + _OPENS_TO * sum(map(len, compressed.values())))
    found = {}
    for name, content in compressed.items():
        opened = zlib.decompressobj()
        found[name.removeprefix(PART)] = opened.decompress(content, max(room, 1))
        room -= len(found[name.removeprefix(PART)])
        if not opened.eof or room < 0:
            raise ValueError("a part that opens to more than any graph has, or is cut off")
    return found


def _check_masks(header: _Header, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError where entropy-coded weights claim to be more than their bytes can be."""
    masks = {name: tensors[f"{name}{PART}masked"] for name in header.codes if f"{name}{PART}masked" in tensors}
    weights = sum(math.prod(header.codes[name].shape) for name in masks)
    if weights > _FREE_WEIGHTS + _WEIGHTS_A_BYTE * sum(mask.numel() for mask in masks.values()):
        raise ValueError(f"{weights} weights in {sum(mask.numel() for mask in masks.values())} bytes")


def _narrowest(values: Tensor) -> torch.dtype:
    for dtype in (torch.uint8, torch.int16):
        if torch.iinfo(dtype).min <= int(values.min()) and int(values.max()) <= torch.iinfo(dtype).max:
            return dtype
    return torch.int32


def _codes(name: str, entry: _Entry, tensors: Mapping[str, Tensor]) -> Codes:
    """Return the codes that an entry of the header describes; raise ValueError or KeyError where they do not fit it."""
    bits, shape, axis = entry.bits, entry.shape, entry.axis
    masked = tensors.get(f"{name}{PART}masked")
    if masked is not None:
        return _mixture(name, masked, tensors, bits, shape, axis)
    packed = tensors[f"{name}{PART}codes"]
    values = unpack_bits(packed.numpy(), bits, math.prod(shape)).reshape(shape).astype(np.int32)
    scale = tensors[f"{name}{PART}scale"].float()
    zero_point = tensors.get(f"{name}{PART}zero_point")
    levels = tensors.get(f"{name}{PART}levels")
    channels = () if axis is None or scale.ndim == 0 else (shape[axis],)
    if scale.shape != channels or (zero_point is None) == (levels is None):
        raise ValueError(f"{name}: scale of shape {tuple(scale.shape)} for codes of shape {shape}")
    if zero_point is not None and zero_point.shape not in (channels, ()):
        raise ValueError(f"{name}: zero points of shape {tuple(zero_point.shape)} for codes of shape {shape}")
    if levels is not None and levels.shape not in ((1 << bits,), () if axis is None else (shape[axis], 1 << bits)):
        raise ValueError(f"{name}: levels of shape {tuple(levels.shape)} for codes of {bits} bits")
    return Codes(
        torch.from_numpy(values),
        bits,
        scale,
        None if zero_point is None else zero_point.to(torch.int32).expand(channels).contiguous(),
        None if levels is None else levels.float(),
        axis,
    )


def _mixture(
    name: str, masked: Tensor, tensors: Mapping[str, Tensor], bits: int, shape: tuple[int, ...], axis: int | None
) -> Codes:
    """Return codes whose widths differ from value to value, as `masked.encode` wrote them."""
    scale = tensors[f"{name}{PART}scale"].float()
    widths, own = (torch.from_numpy(each) for each in decode(to_array(masked).tobytes(), shape))
    packed = tensors.get(f"{name}{PART}exponents")
    if packed is not None:
        channels = shape[0]
        unpacked = unpack_bits(packed.numpy(), EXPONENT_BITS, channels * len(COLUMNS)).astype(np.uint8)
        exponents = torch.from_numpy(unpacked.reshape(channels, len(COLUMNS)))
        whole = ((own + lowest(widths)) * spacings(widths, exponents)).to(torch.int32)
        zero_point = tensors[f"{name}{PART}zero_point"].to(torch.int32).expand(channels).contiguous()
        return Codes(whole + _along_rows(zero_point, whole), bits, scale, zero_point, None, axis, widths, exponents)
    levels = tensors[f"{name}{PART}levels"].float()
    span = levels.max()
    whole = (own.float() * (2 * span / (torch.exp2(widths.float()) - 1)) - span).round()
    values = torch.searchsorted(levels, whole).to(torch.int32)
    return Codes(values, bits, scale, levels=levels, axis=axis, widths=widths)


def _along_rows(value: Tensor, pattern: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (pattern.ndim - 1))


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], _Header]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise VeriQuantError(f"cannot read the pack {path}: {_line(error)}") from error
    if text is None:
        raise VeriQuantError(f"{path} is a safetensors file, but no pack of VeriQuant's; give one that it wrote")
    try:
        header = parse_json(text)
        if not isinstance(header, dict) or header.get("version") != _VERSION:
            raise VeriQuantError(f"{path} is a pack of another version than {_VERSION}; write it again with this one")
        return tensors, _Header.model_validate(header)
    except ValidationError as error:
        raise VeriQuantError(f"{path} is damaged ({explain(error)}); write the pack again") from error
    except ValueError as error:
        raise VeriQuantError(f"{path} is damaged ({_line(error)}); write the pack again") from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
