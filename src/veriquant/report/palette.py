"""One look per variant over the whole report: a colour that the colour-blind tell apart, a dash and a marker."""

from __future__ import annotations

from collections.abc import Iterable

from veriquant.results import NetworkStudy

REFERENCE = "#7a808a"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999933", "#7b5cd6")
"""Okabe and Ito's colours without the yellow that vanishes on white, then an olive and a violet."""
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star")
KEPT, QUANTIZED = "#d55e00", "#0072b2"


class Palette:
    """Looks by variant name; a name met in several networks looks alike in all of them."""

    def __init__(self, networks: Iterable[NetworkStudy]) -> None:
        variants = [variant for network in networks for variant in network.variants]
        self._references = {variant.name for variant in variants if variant.reference}
        others = dict.fromkeys(variant.name for variant in variants if variant.name not in self._references)
        self._order = {name: i for i, name in enumerate(others)}

    def colour(self, variant: str) -> str:
        """Return the colour: grey for a reference."""
        return COLOURS[self._order[variant] % len(COLOURS)] if variant in self._order else REFERENCE

    def dash(self, variant: str) -> str:
        """Return the dash of lines, changed when the colours start anew."""
        return DASHES[self._order.get(variant, 0) // len(COLOURS) % len(DASHES)]

    def symbol(self, variant: str) -> str:
        """Return the marker."""
        return SYMBOLS[(self._order[variant] + 1) % len(SYMBOLS)] if variant in self._order else SYMBOLS[0]
