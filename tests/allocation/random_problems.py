"""Problems to allocate: made by hand, or at random with noises that span many orders of magnitude."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from veriquant.allocation import Option, Problem
from veriquant.simulation.precision import Precision

GENERIC = "W8A16 W8A8 W4A8"
WIDE = "W8A16 W8A8 W6A8 W8A6 W6A6 W4A6 W6A4 W4A4"


def option(text: str, noise: float, macs: float, params: float = 0.0, order: float | None = None) -> Option:
    precision = Precision.parse(text)
    width, activation = precision
    decibel = -10 * np.log10(noise) if noise else np.inf
    return Option(
        precision, noise, float(decibel if order is None else order),
        {"bops": macs * width * activation, "bytes": params * width / 8},
    )  # fmt: skip


def random_problem(seed: int, groups: int, names: str = GENERIC, spread: float = 4.0) -> Problem:
    """MACs, parameters and noises at random; noises fall with the bits, on the whole; `spread`: their decades."""
    rng = np.random.default_rng(seed)
    options = {}
    for group in range(groups):
        macs, params = 10 ** rng.uniform(5, 8), 10 ** rng.uniform(2, 6)
        scale = 10 ** rng.uniform(-spread, 1)
        noises = {name: 10 ** rng.uniform(-0.3, 0.3) * scale for name in names.split()}
        options[f"group{group}"] = tuple(
            option(name, noise * sum(4.0**-bits for bits in Precision.parse(name)), macs, params)
            for name, noise in noises.items()
        )
    unit = sum(own[0].cost["bops"] for own in options.values())
    return Problem(options, {"bytes": 1000.0}, {"bops": unit})


def assignments(problem: Problem) -> Iterator[dict[str, Precision]]:
    """Every assignment there is."""
    precisions = [[each.precision for each in options] for options in problem.options.values()]
    for choice in itertools.product(*precisions):
        yield dict(zip(problem.options, choice, strict=True))
