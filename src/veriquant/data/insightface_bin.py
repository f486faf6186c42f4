"""InsightFace ``.bin`` files: a pickled ``(bins, issame)``, read without trusting the pickle.

A pickle is a program. This reader runs it on a machine that knows only what the layout needs: the opcodes that build
lists, tuples, numbers, text and bytes, and stand-ins for the few callables by which numpy and Python 2 write arrays and
byte strings. A stand-in keeps or copies bytes; none of them is the real function, no module is imported, and no numpy
array is made from the file's own description. Everything else in a file is refused before it has any effect.

Memory: besides the file itself, its items once more. What stand-ins decode may not exceed the size of the file, and a
length that the file claims is compared with what is left of it before anything is made of it.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from veriquant.checks import cut
from veriquant.errors import VeriQuantError


@dataclass(frozen=True)
class Bin:
    """The content of a ``.bin``: images 2i and 2i+1 form comparison i; equal bytes may be one object."""

    images: tuple[bytes, ...]
    genuine: npt.NDArray[np.bool_]


def read_bin(path: Path) -> Bin:
    """Read an InsightFace ``.bin``; `VeriQuantError` names the file and what in it is damaged or not allowed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        loaded = _Reader(content).load()
    except _RefusedError as error:
        raise VeriQuantError(f"{path} is refused: {error}; an InsightFace .bin never holds this") from error
    except Exception as error:  # a damaged pickle breaks the machine in any way
        reason = cut(str(error) or type(error).__name__)
        raise VeriQuantError(
            f"{path} ({len(content)} bytes) is truncated or not an InsightFace .bin, a pickled (bins, issame): {reason}"
        ) from error
    return _checked(path, loaded)


class _RefusedError(pickle.UnpicklingError):
    """The file asks for something that the layout does not need."""


_LARGEST = 1 << 40
_LONGEST_NAME = 60


class _Dtype:
    """Stand-in for a numpy dtype: its name."""

    def __init__(self, name: object) -> None:
        text = _text(name)
        if text in ("u1", "|u1", "uint8"):
            self.name = "u1"
        elif text in ("b1", "|b1", "bool", "?"):
            self.name = "b1"
        else:
            raise _RefusedError(f"it holds an array of type {text[:40]!r}")


class _Array:
    """Stand-in for a numpy array of bytes or truth values: its shape and content."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype = "u1"
        self.content = b""

    def fill(self, shape: object, dtype: object, content: object) -> None:
        if type(shape) is int:
            shape = (shape,)
        if (
            type(shape) is not tuple
            or len(shape) > 8
            or not all(type(size) is int and 0 <= size < _LARGEST for size in shape)
        ):
            raise _RefusedError("it holds an array of an impossible shape")
        if type(dtype) is not _Dtype or not isinstance(content, (bytes, bytearray)):
            raise _RefusedError("it holds an array that is not one of bytes")
        size = 1
        for length in shape:
            size *= length
        if size != len(content):
            raise pickle.UnpicklingError(f"an array of shape {shape} with {len(content)} bytes")
        self.shape, self.dtype, self.content = shape, dtype.name, bytes(content)


#: Callables that a file may name. Those of numpy differ with its version, `__builtin__` is Python 2's module.
_ALLOWED: dict[tuple[str, str], str] = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    **{(module, name): name for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
    **{(f"numpy.{core}.multiarray", name): name for core in ("core", "_core") for name in ("_reconstruct", "scalar")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): "_frombuffer" for core in ("core", "_core")},
}

_OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE
    GLOBAL STACK_GLOBAL REDUCE BUILD
""".split()  # noqa: SIM905 - forty quoted words are harder to read


class _Content(io.BytesIO):
    """A file of bytes that gives what is asked for or raises EOFError: no opcode gets less than it claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if size is not None and len(found) < size:
            raise EOFError(f"it ends {size - len(found)} bytes early")
        return found


class _Name:
    """A callable that the file named; only the reader knows what it stands for."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Reader(pickle._Unpickler):
    """Pickle's machine with the opcodes, names and calls of the layout and no others.

    The machine written in Python is used because its memo is a dict: the one in C grows a table to whatever index a
    file claims. Names become inert `_Name` objects; `REDUCE` and `BUILD`, the two opcodes that call something, are
    replaced, and so are `GLOBAL`, which takes a name cut short for a whole one, and `BYTEARRAY8`.
    """

    stack: list[Any]  # this and the next three are the machine's own
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]

    def __init__(self, content: bytes) -> None:
        super().__init__(_Content(content), fix_imports=False, encoding="bytes")
        self.budget = len(content)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _RefusedError(f"it asks for {module[:60]}.{name[:60]}")
        return _Name(_ALLOWED[module, name])

    def _named(self) -> None:
        lines = self.readline(), self.readline()
        if not all(line.endswith(b"\n") for line in lines):
            raise pickle.UnpicklingError("it ends within a name")
        self.append(self.find_class(*(line[:-1].decode() for line in lines)))

    def _bytearray(self) -> None:
        # pickle's own makes room for as many bytes as the file claims before it looks for them
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    def _call(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if type(function) is not _Name or type(arguments) is not tuple:
            raise _RefusedError(f"it calls a {type(function).__name__}")
        call: Callable[..., Any] = getattr(self, f"_new_{function.name.lstrip('_')}", self._new_nothing)
        self.stack[-1] = call(*arguments)

    def _state(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(state) is not tuple or type(target) not in (_Array, _Dtype):
            raise _RefusedError(f"it sets the state of a {type(target).__name__}")
        if type(target) is _Array:
            if len(state) != 5:
                raise _RefusedError("it holds an array in an unknown layout")
            self._fill(target, state[1], state[2], state[4])

    def _fill(self, array: _Array, shape: object, dtype: object, content: object) -> None:
        if isinstance(content, bytearray):
            self._pay(len(content))
        array.fill(shape, dtype, content)

    def _pay(self, size: int) -> None:
        self.budget -= size
        if self.budget < 0:
            raise _RefusedError("it unfolds to more than its own size")

    def _new_nothing(self, *_: object) -> Any:
        raise _RefusedError("it calls a type that is only ever named")

    def _new_reconstruct(self, kind: object, _shape: object, _dtype: object) -> _Array:
        if type(kind) is not _Name or kind.name != "ndarray":
            raise _RefusedError("it builds an array of another class")
        return _Array()

    def _new_frombuffer(self, content: object, dtype: object, shape: object, _order: object) -> _Array:
        array = _Array()
        self._fill(array, shape, dtype, content)
        return array

    def _new_dtype(self, name: object, *_: object) -> _Dtype:
        return _Dtype(name)

    def _new_scalar(self, dtype: object, content: object) -> bool:
        if type(dtype) is not _Dtype or not isinstance(content, bytes) or len(content) != 1:
            raise _RefusedError("it holds a number that is not a truth value")
        return content != b"\0"

    def _new_encode(self, text: object, coding: object = "latin1", *_: object) -> bytes:
        if type(text) is not str or _text(coding) not in ("latin1", "latin-1"):
            raise _RefusedError("it decodes something else than Latin-1 text")
        self._pay(len(text))
        return text.encode("latin-1")

    def _new_bytes(self, content: object = b"", *coding: object) -> bytes:
        if isinstance(content, bytearray) and not coding:
            self._pay(len(content))
            return bytes(content)
        if isinstance(content, bytes) and not coding:
            return content
        return self._new_encode(content, *coding)

    _new_bytearray = _new_bytes

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _OPCODES
    }
    dispatch[pickle.GLOBAL[0]] = _named
    dispatch[pickle.BYTEARRAY8[0]] = _bytearray
    dispatch[pickle.REDUCE[0]] = _call
    dispatch[pickle.BUILD[0]] = _state


def _text(value: object) -> str:
    """Return the text of a name, or its beginning: a file may hold a long one once and refer to it everywhere."""
    if isinstance(value, bytes):
        return value[:_LONGEST_NAME].decode("ascii", "replace")
    return value[:_LONGEST_NAME] if isinstance(value, str) else f"({type(value).__name__})"


def _checked(path: Path, loaded: object) -> Bin:
    if not isinstance(loaded, (tuple, list)) or len(loaded) != 2:
        raise VeriQuantError(f"{path}: expected a pickled pair (bins, issame), found a {type(loaded).__name__}")
    bins, same = loaded
    if type(same) is _Array and len(same.shape) == 1:
        same = list(same.content)
    if not isinstance(bins, (tuple, list)) or not isinstance(same, (tuple, list)):
        raise VeriQuantError(
            f"{path}: expected two lists, bins and issame, found {type(bins).__name__} and {type(same).__name__}"
        )
    if len(bins) != 2 * len(same) or not same:
        raise VeriQuantError(
            f"{path}: expected two images for every entry of issame, found {len(bins)} images and {len(same)} entries"
        )
    for number, value in enumerate(same):
        if not isinstance(value, int) or value not in (0, 1):
            raise VeriQuantError(f"{path}, issame[{number}]: expected true or false, found {_what(value)}")
    known: dict[int, bytes] = {}  # an object that occurs often is looked at once
    for number, item in enumerate(bins):
        if id(item) not in known:
            known[id(item)] = _image(path, number, item)
    images = tuple(known[id(item)] for item in bins)
    return Bin(images, np.array([bool(value) for value in same], dtype=np.bool_))


def _image(path: Path, number: int, item: object) -> bytes:
    if type(item) is _Array and item.dtype == "u1":
        if sum(length != 1 for length in item.shape) <= 1:
            item = item.content
        else:
            raise VeriQuantError(
                f"{path}, bins[{number}]: expected an encoded image, bytes or uint8 of shape (n,) or (n, 1), "
                f"found an array of shape {item.shape}"
            )
    if isinstance(item, (bytes, bytearray)) and item:
        return bytes(item) if type(item) is not bytes else item
    raise VeriQuantError(f"{path}, bins[{number}]: expected an encoded image, found {_what(item)}")


def _what(item: object) -> str:
    if isinstance(item, (bytes, bytearray, str, list, tuple)) and not item:
        return f"empty {type(item).__name__}"
    return f"a {type(item).__name__.lstrip('_').lower()}"
