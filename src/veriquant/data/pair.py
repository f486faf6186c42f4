"""`Pair`: one comparison as a protocol file lists it."""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """A comparison of two images by the keys under which the protocol names them; `fold` counts from 0."""

    left: str
    right: str
    genuine: bool
    fold: int | None = None
