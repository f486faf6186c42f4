"""The store of a study: everything computed, under the hash of all that it was computed from.

An entry is two files, ``<kind>/<key>.<suffix>`` with the content and ``<kind>/<key>.json`` with the facts: what the key
is made of, the SHA-256 of the content, and what is to be remembered beside it. The content is written first, both
atomically, so that a study killed at any moment leaves whole entries or none. An entry whose content is not what its
facts say, or not what whoever asks for it can use, is damaged: it is computed again, and a note says so.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from veriquant.array_file import read_npy
from veriquant.checks import parse_json
from veriquant.errors import VeriQuantError
from veriquant.files import json_digest, write_bytes, write_json
from veriquant.progress import tell

#: Raised whenever the layout of the entries changes; older ones are then computed again.
LAYOUT = 1


@dataclass(frozen=True)
class Entry:
    """One thing in the store: its content and the facts remembered beside it."""

    content: bytes = field(repr=False)
    facts: dict[str, Any]
    digest: str

    def json(self) -> Any:
        """Return the content as plain data."""
        return parse_json(self.content)

    def array(self) -> npt.NDArray[np.float32]:
        """Return the content as an array; pickled objects are refused."""
        found: npt.NDArray[np.float32] = read_npy(self.content)
        return found

    def number(self, fact: str) -> float:
        """Return a fact that is a number, 0 or more; raise ValueError for another one."""
        value = self.facts[fact]
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{fact} is no number")
        return float(value)


class Store:
    """A folder of entries. `notes` collects what a reader must know, such as damaged entries that were made anew.

    `say` gets each of these lines at once.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = tell) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self._say = say

    def get(
        self, kind: str, key: Mapping[str, Any], suffix: str, check: Callable[[Entry], object] = lambda entry: None
    ) -> Entry | None:
        """Return an entry, or None where there is none; a damaged one is noted and counts as none.

        `check` looks at the content and the facts as they will be used; what it raises means that they are not what
        was put there, whatever their hashes say.
        """
        facts_path, content_path = self._paths(kind, key, suffix)
        try:
            text = facts_path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise VeriQuantError(f"cannot read {facts_path}: {error.strerror or error}") from error
        try:
            record = parse_json(text)
            content = content_path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if digest == record["digest"] and record["facts_digest"] == json_digest(record["facts"]):
                entry = Entry(content, dict(record["facts"]), digest)
                check(entry)
                return entry
        except (OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, VeriQuantError):
            pass
        self.notes.append(f"the stored {kind} {content_path.name} was damaged and has been computed again")
        self._say(f"the stored {kind} {content_path.name} is damaged: it is computed again")
        return None

    def put(
        self, kind: str, key: Mapping[str, Any], suffix: str, content: bytes, facts: Mapping[str, Any] | None = None
    ) -> Entry:
        """Keep `content` and `facts` under `key`."""
        facts_path, content_path = self._paths(kind, key, suffix)
        entry = Entry(content, dict(facts or {}), hashlib.sha256(content).hexdigest())
        write_bytes(content_path, content)
        record = {
            "key": dict(key), "digest": entry.digest, "facts": entry.facts, "facts_digest": json_digest(entry.facts)
        }  # fmt: skip
        write_json(facts_path, record)
        return entry

    def put_json(self, kind: str, key: Mapping[str, Any], content: Any, facts: Mapping[str, Any]) -> Entry:
        """Keep plain data under `key`."""
        return self.put(kind, key, "data", json.dumps(content, allow_nan=False).encode(), facts)

    def put_array(self, kind: str, key: Mapping[str, Any], array: npt.NDArray[Any], facts: Mapping[str, Any]) -> Entry:
        """Keep an array under `key`."""
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        return self.put(kind, key, "npy", stream.getvalue(), facts)

    def drop(self, kind: str, key: Mapping[str, Any], suffix: str) -> None:
        """Remove an entry, where there is one."""
        for path in self._paths(kind, key, suffix):
            path.unlink(missing_ok=True)

    def path(self, kind: str, key: Mapping[str, Any], suffix: str) -> Path:
        """Return where the content of an entry stands."""
        return self._paths(kind, key, suffix)[1]

    def _paths(self, kind: str, key: Mapping[str, Any], suffix: str) -> tuple[Path, Path]:
        name = json_digest({"layout": LAYOUT, **key})[:32]
        folder = self.folder / kind
        return folder / f"{name}.json", folder / f"{name}.{suffix}"
