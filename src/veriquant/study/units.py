"""What a study says while it works: one line for every unit of work, with what is left to do."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable

Say = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Write one line to stderr at once."""
    print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a time in words: '0.4 s', '38 s', '4 min', '2 h 05 min'."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Units:
    """The units of a study by kind, those finished, and an estimate of the time left.

    `planned` holds how many units of each kind there are. The estimate takes for what is left of a kind the mean of
    those of this kind that were computed so far, else what was told to `expect`, else the mean of all. Nothing is
    estimated before the first embeddings are computed, the longest of the work.
    """

    def __init__(self, planned: Counter[str], say: Say) -> None:
        self.left = Counter(planned)
        self.total = sum(planned.values())
        self.done = 0
        self.computed: list[str] = []
        self.kept: list[str] = []
        self._say = say
        self._took: dict[str, list[float]] = defaultdict(list)
        self._expected: dict[str, float] = {}

    def finished(self, kind: str, what: str, seconds: float | None) -> None:
        """Tell that a unit is done; `seconds` is None where it was in the store."""
        self.left[kind] -= 1
        self.done += 1
        if seconds is None:
            self.kept.append(f"{kind}: {what}")
            took = "already there"
        else:
            self.computed.append(f"{kind}: {what}")
            self._took[kind].append(seconds)
            took = duration(seconds)
        left = self.time_left()
        ahead = f"; about {duration(left)} left" if left is not None and self.done < self.total else ""
        self._say(f"[{self.done:{len(str(self.total))}}/{self.total}] {kind}: {what} ({took}{ahead})")

    def note(self, line: str) -> None:
        """Tell something that is no unit."""
        self._say(line)

    def expect(self, kind: str, seconds: float) -> None:
        """Tell how long a unit of a kind will probably take, where none was computed yet."""
        self._expected[kind] = seconds

    def time_left(self) -> float | None:
        """Return the estimated seconds left; None where too little was computed yet to tell."""
        everything = [seconds for took in self._took.values() for seconds in took]
        if not everything or (self.left["embeddings"] and "embeddings" not in self._took):
            return None
        means = {kind: sum(took) / len(took) for kind, took in self._took.items()}
        known = {**self._expected, **means}
        overall = sum(everything) / len(everything)
        return sum(count * known.get(kind, overall) for kind, count in self.left.items())
