"""A named collection whose members register themselves, one file each."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from veriquant.checks import QUOTED, quoted
from veriquant.errors import VeriQuantError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names mapped to things of one kind; an unknown name raises an error that lists the near ones."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, T] = {}

    def add(self, name: str, member: T) -> T:
        """Register `member` as `name`; a second member of that name is a bug of ours."""
        if name in self._members:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._members[name] = member
        return member

    def get(self, name: str) -> T:
        """Return the member called `name`, or raise `VeriQuantError` naming those there are."""
        if name in self._members:
            return self._members[name]
        near = difflib.get_close_matches(name[:QUOTED], self._members, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise VeriQuantError(f"unknown {self.kind} {quoted(name)}{hint}; there are: {', '.join(sorted(self._members))}")

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._members))

    def __len__(self) -> int:
        return len(self._members)
