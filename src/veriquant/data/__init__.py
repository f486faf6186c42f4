"""Readers of files on disk."""

from veriquant.data.calibration import Calibration, load_calibration
from veriquant.data.pair import Pair

__all__ = ["Calibration", "Pair", "load_calibration"]
