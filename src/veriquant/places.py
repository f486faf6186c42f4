"""Keeping what is written apart from what is read: no output is an input, or another output.

A verb declares both before any work::

    Places().reads("NETWORK", network).reads("--calibration", folder).writes("--out", out).check()

Files are recognised as files, however their path is spelt: through links, hard or symbolic.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veriquant.errors import VeriQuantError

#: Kinds of files that verbs write and no reader of a folder reads: one that lies among images is not one of them.
_WRITTEN = {".onnx", ".safetensors", ".json", ".html", ".md"}
#: Keys of a settings file whose text is no input, even where something on disk is called so.
_NO_INPUTS = {"out", "title", "name"}


@dataclass(frozen=True)
class _Place:
    """A file or folder, and what the user calls it."""

    option: str
    path: Path


class Places:
    """What a verb reads and what it writes."""

    def __init__(self) -> None:
        self._read: list[_Place] = []
        self._written: list[_Place] = []
        self._folders: list[_Place] = []

    def reads(self, option: str, *given: Any) -> Places:
        """Declare inputs: paths, ``kind:path:more`` texts, or settings that hold such; what does not exist is none.

        `option` is what the user calls them, such as ``--calibration``.
        """
        for text in _texts(given):
            self._read += [_Place(option, path) for path in _existing(text)]
        return self

    def writes(self, option: str, path: str | os.PathLike[str] | None) -> Places:
        """Declare a file that will be written, where there is one; `VeriQuantError` where that is a folder."""
        if path is not None:
            if Path(path).is_dir():
                raise VeriQuantError(f"cannot write {path}: it is a folder ({option} names a file)")
            self._written.append(_Place(option, Path(path)))
        return self

    def writes_into(self, option: str, folder: str | os.PathLike[str], names: Sequence[str]) -> Places:
        """Declare a folder of results and the names in it, of files and of folders, that are overwritten."""
        self._folders.append(_Place(option, Path(folder)))
        self._written += [_Place(option, Path(folder) / name) for name in names]
        return self

    def check(self) -> None:
        """Raise `VeriQuantError` where an output is, or would overwrite, an input or another output."""
        for number, output in enumerate(self._written):
            for other in self._written[:number]:
                if _meets(output.path, other.path) or _meets(other.path, output.path):
                    raise VeriQuantError(
                        f"{output.option} {output.path} and {other.option} {other.path} are the same file: give each a "
                        "place of its own"
                    )
        for output in self._written:
            for read in self._read:
                if (lost := _lost(output.path, read.path)) is not None:
                    raise _would_overwrite(output, read, lost)
        for folder in self._folders:
            for read in self._read:
                if read.path.is_file() and _same(folder.path, read.path):
                    raise _would_overwrite(folder, read, read.path)


def _would_overwrite(output: _Place, read: _Place, lost: Path) -> VeriQuantError:
    told = f"{read.option} {read.path}" if lost == read.path else f"{lost}, of {read.option} {read.path}"
    return VeriQuantError(f"{output.option} {output.path} would overwrite what is read ({told}): name another place")


def _texts(given: Any) -> Iterator[str]:
    """Yield all texts and paths in settings, but for keys that name no input."""
    if isinstance(given, str | os.PathLike):
        yield os.fspath(given)
    elif isinstance(given, Mapping):
        for key, value in given.items():
            if key not in _NO_INPUTS:
                yield from _texts(value)
    elif isinstance(given, list | tuple | set | frozenset):
        for value in given:
            yield from _texts(value)


def _existing(text: str) -> Iterator[Path]:
    """Yield the files and folders that a text names: itself, or any run of its parts between colons."""
    parts = text.split(":")
    for first in range(len(parts)):
        for last in range(first + 1, len(parts) + 1):
            name = ":".join(parts[first:last])
            for spelling in dict.fromkeys((name, os.path.expanduser(name))):
                if spelling and _is_there(spelling):
                    yield Path(spelling)


def _is_there(path: str | Path) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # a zero byte in it
        return False


def _lost(output: Path, read: Path) -> Path | None:
    """Return which file or folder of an input would be lost if `output`, a file or a folder, were replaced."""
    if read.is_file():
        return next((file for file in (read, *_weights_beside(read, output)) if _meets(output, file)), None)
    if output.is_file():
        found = os.stat(output)
        return next((file for file in _files(read) if os.path.samestat(found, os.stat(file))), None)
    return read if _meets(output, read) else None


def _meets(output: Path, other: Path) -> bool:
    """Return whether what is written, a file or a folder, is `other` or holds it, be it as a hard link."""
    if _same(output, other) or Path(os.path.realpath(other)).is_relative_to(os.path.realpath(output)):
        return True
    if not (output.is_dir() and other.is_file()):
        return False
    found = os.stat(other)
    return found.st_nlink > 1 and any(os.path.samestat(found, os.stat(file)) for file in _files(output, all_kinds=True))


def _same(one: Path, other: Path) -> bool:
    if _is_there(one) and _is_there(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _files(folder: Path, *, all_kinds: bool = False) -> Iterator[Path]:
    """Yield the files of a folder, nested or flat, that a reader may look at."""
    walked = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        walked.add(os.path.realpath(root))
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(root, name)) not in walked]
        for name in names:
            file = Path(root, name)
            if (all_kinds or file.suffix.lower() not in _WRITTEN) and file.is_file():
                yield file


def _weights_beside(network: Path, output: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold its weights, where the output might be one of them."""
    if network.suffix.lower() != ".onnx" or not output.is_file():
        return []
    import onnx

    try:
        model = onnx.load(network, load_external_data=False)
    except Exception:  # what is wrong with it is told when it is loaded
        return []
    tensors = (tensor.external_data for tensor in model.graph.initializer)
    places = {entry.value for data in tensors for entry in data if entry.key == "location"}
    return [file for file in (network.parent / place for place in sorted(places)) if file.is_file()]
