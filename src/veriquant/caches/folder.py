"""Where things are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Return the folder of one kind, such as 'sensitivity' or 'training': in $VERIQUANT_CACHE, or the user's cache."""
    chosen = os.environ.get("VERIQUANT_CACHE")
    if chosen:
        return Path(chosen) / kind
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "veriquant" / kind
