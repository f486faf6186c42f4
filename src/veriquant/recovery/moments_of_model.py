"""The second moments of the inputs of a model's layers: collected once, used by every recovery that rounds."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from veriquant.calibration.model import CalibratedModel
from veriquant.recovery.moments import InputMoments, collect_moments
from veriquant.simulation.quantizer_cache import QuantizerCache

_KNOWN: WeakKeyDictionary[QuantizerCache, Mapping[str, InputMoments]] = WeakKeyDictionary()


def moments_of(model: CalibratedModel) -> Mapping[str, InputMoments]:
    """Return the moments of each operation's input over the images that ranges were set on, by operation."""
    if model.quantizers not in _KNOWN:
        _KNOWN[model.quantizers] = collect_moments(model.simulation, model.fit)
    return _KNOWN[model.quantizers]
