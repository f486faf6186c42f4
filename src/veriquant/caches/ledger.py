"""`Ledger`: the responses of quantizer groups measured so far, kept so that a run that was killed goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from veriquant.allocation.responses import Embeddings, Response
from veriquant.array_file import read_npz
from veriquant.checks import parse_json
from veriquant.errors import VeriQuantError
from veriquant.files import atomic_path
from veriquant.progress import tell
from veriquant.simulation.precision import Precision

Found = Mapping[Precision, Embeddings]
Fits = Callable[[int, str, Found], bool]


class Ledger:
    """Responses in memory and, with a `folder`, on disk.

    `fits(block, group, embeddings)` tells whether what the folder holds can be a response of this run; what cannot,
    and what cannot be read, counts as not measured, and one line says so.
    """

    def __init__(self, folder: Path | None, fits: Fits) -> None:
        self._folder = folder
        self._held: dict[tuple[int, str], Found] = {}
        self._started = time.perf_counter()
        self.seconds_before = 0.0
        files = sorted(folder.glob("*.npz")) if folder is not None and folder.is_dir() else []
        damaged = sum(not self._read(file, fits) for file in files)
        if damaged:
            tell(f"{damaged} of {len(files)} kept parts in {folder} are damaged: they are measured again")

    def has(self, block: int, group: str) -> bool:
        """Tell whether a group's response to a block of images is there."""
        return (block, group) in self._held

    def get(self, block: int, group: str) -> Found:
        """Return a group's response to a block of images."""
        return self._held[block, group]

    def keep(self, block: int, response: Response) -> None:
        """Keep a response, on disk too."""
        if self.has(block, response.group):
            return
        self._held[block, response.group] = response.embeddings
        if self._folder is None:
            return
        name = hashlib.sha256(f"{block} {response.group}".encode()).hexdigest()[:24]
        head = {"block": block, "group": response.group, "seconds": time.perf_counter() - self._started}
        self._started = time.perf_counter()
        arrays: dict[str, Any] = {str(precision): found for precision, found in response.embeddings.items()}
        with atomic_path(self._folder / f"{name}.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, head=np.array(json.dumps(head)), **arrays)

    def close(self) -> None:
        """Remove what is on disk: the whole list is kept elsewhere."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, file: Path, fits: Fits) -> bool:
        try:
            content = read_npz(file)
            head = parse_json(str(content.pop("head")))
            block, group, seconds = int(head["block"]), str(head["group"]), float(head["seconds"])
            embeddings = {Precision.parse(name): found for name, found in content.items()}
            if not fits(block, group, embeddings):
                return False
        except (ValueError, KeyError, TypeError, VeriQuantError):
            return False
        self._held[block, group] = embeddings
        self.seconds_before += max(seconds, 0.0)
        return True
