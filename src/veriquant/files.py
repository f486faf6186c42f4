"""Writing files so that nothing half-written ever stands under a final name, and naming content by its hash."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from veriquant.errors import VeriQuantError

#: Bytes of the largest text that people write by hand, and of the largest plan of a network of thousands of layers.
MOST_TEXT = 16 << 20


@contextmanager
def atomic_path(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `final` to write to; rename it to `final` when the block ends well.

    If the block raises, the temporary file is removed and whatever stood at `final` before stays as it was. A full disk
    or a folder that cannot be written raises `VeriQuantError` naming `final`.
    """
    final = Path(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent)
        os.close(handle)
    except OSError as error:
        raise VeriQuantError(f"cannot write {final}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, final)
    except OSError as error:
        raise VeriQuantError(f"cannot write {final}: {error.strerror or error}; nothing was changed") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_tensors_path(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Do as `atomic_path` for what safetensors writes, which tells of a full disk by an exception of its own."""
    from safetensors import SafetensorError

    with atomic_path(final) as temporary:
        try:
            yield temporary
        except SafetensorError as error:
            raise OSError(str(error)) from error


def require_writable(folder: str | os.PathLike[str]) -> None:
    """Raise `VeriQuantError` before long work, not after it, where `folder`, made if need be, takes no files."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise VeriQuantError(
            f"cannot write into {folder}: {error.strerror or error}; make it writable, or name another folder"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(final: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `final` atomically."""
    with atomic_path(final) as temporary:
        temporary.write_bytes(content)


def write_text(final: str | os.PathLike[str], content: str) -> None:
    """Write `content` to `final` atomically, as UTF-8."""
    write_bytes(final, content.encode())


def write_json(final: str | os.PathLike[str], content: Any) -> None:
    """Write `content` to `final` atomically as indented JSON; NaN and infinities are refused, not written."""
    write_text(final, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_text(path: str | os.PathLike[str], what: str, most: int = MOST_TEXT) -> str:
    """Return the UTF-8 text of a file that people write; `what` is what errors call it, such as 'study'.

    Raises `VeriQuantError` for a file that cannot be read, is no text or holds more than `most` bytes.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise VeriQuantError(f"{what} {path} holds more than {most >> 20} MB: it is no such file")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise VeriQuantError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise VeriQuantError(f"cannot read {what} {path}: byte {error.start} is not UTF-8") from error


def given_path(text: str | os.PathLike[str]) -> Path:
    """Return the path that a user wrote, with ``~`` for a home folder where there is such a one."""
    return Path(os.path.expanduser(text))


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error


def json_digest(content: Any) -> str:
    """Return the SHA-256 of plain data: equal data, equal digest, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
