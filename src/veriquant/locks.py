"""A folder for one process alone, for as long as it works there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veriquant.errors import VeriQuantError

#: What `files.atomic_path` calls a file that is not whole yet; a user's own may end in .tmp too.
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")


@contextmanager
def locked(
    folder: Path, who: str = "another study", advice: str = "wait for it, or give this one another folder (--out)"
) -> Iterator[None]:
    """Hold `folder`, made if need be, for this process alone; a kill releases it.

    What a killed process was in the middle of writing is cleared away. Raises `VeriQuantError` where nothing can be
    written there, and for whoever comes second: `who` is at work, `advice` says what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise VeriQuantError(
            f"cannot write into {folder}: {error.strerror or error}; make it writable, or name another folder"
        ) from error
    try:
        try:
            import fcntl
        except ImportError:  # no such locks on this system: two at once then merely do the same work twice
            pass
        else:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise VeriQuantError(f"{who} is at work in {folder}; {advice}") from error
            for left in folder.rglob(".*.tmp"):
                if _UNFINISHED.fullmatch(left.name):
                    left.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)
