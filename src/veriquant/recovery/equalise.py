"""`equalise`: channels of neighbouring layers are scaled so that one range suits them all; the function stays."""

from __future__ import annotations

from typing import Literal

from veriquant.calibration.prepare import GraphStep
from veriquant.config import Config
from veriquant.recovery.equalise_activations import equalise_activations
from veriquant.recovery.equalise_weights import equalise_weights
from veriquant.recovery.step import RECOVERIES, GraphRecovery


class EqualiseConfig(Config):
    """By what channels are equalised."""

    by: Literal["activations", "weights"] = "activations"
    """The ranges of activations on calibration images, or of the weights around them."""


def _step(config: EqualiseConfig) -> GraphStep:
    if config.by == "weights":
        what = "tensors with the weights around them equalised"
        return GraphStep("equalise", "weights", what, lambda graph, images: equalise_weights(graph))
    return GraphStep("equalise", "activations", "tensors with channels equalised", equalise_activations)


RECOVERIES.add(
    "equalise",
    GraphRecovery(
        "equalise",
        "channels between layers scaled to equal ranges, where that changes nothing else",
        "Nagel et al. 2019; Xiao et al. 2023, SmoothQuant, equation 4",
        EqualiseConfig,
        _step,
    ),
)
