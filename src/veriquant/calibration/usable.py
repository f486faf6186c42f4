"""Calibration images that a network gives an embedding with a direction for: the others can set and measure nothing.

A network may give zeros for a black image (a last ReLU, no bias) or NaN (an image without contrast that it divides by
its deviation). Such images would make ranges, noise and cosines meaningless, so they are left out, counted and named.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from veriquant.data.calibration import Calibration
from veriquant.data.digest import samples_digest
from veriquant.deploy.runtimes import open_embedder
from veriquant.errors import VeriQuantError
from veriquant.frontends.images import image_batches
from veriquant.metrics.directions import has_direction
from veriquant.networks.network import Network
from veriquant.progress import track

_BATCH = 8
_NAMED = 5


def usable(calibration: Calibration, network: Network) -> tuple[Calibration, list[str]]:
    """Return the calibration set without images that `network` gives no direction for, and a note on these, if any.

    Raises `VeriQuantError` where no image is left.
    """
    samples = calibration.samples
    embedder = open_embedder(network.onnx, network.spec, runtime="onnxruntime", threads=os.cpu_count() or 1)
    size = embedder.max_batch or _BATCH
    batches = track(
        image_batches(samples, network.spec, size), "looking at calibration images", total=-(-len(samples) // size)
    )
    good = np.concatenate([has_direction(embedder(batch)) for batch in batches])
    if good.all():
        return calibration, []
    bad = [sample.name for sample, fine in zip(samples, good, strict=True) if not fine]
    why = "the network's embedding of them has no direction (all zero or not finite)"
    if not good.any():
        raise VeriQuantError(
            f"{calibration.source}: none of the {len(samples)} calibration images can be used, {why} (the first is "
            f"{bad[0]}); check the images, and what the network takes (--input)"
        )
    kept = tuple(sample for sample, fine in zip(samples, good, strict=True) if fine)
    more = ", …" if len(bad) > _NAMED else ""
    note = f"{len(bad)} of {len(samples)} calibration images left out, {why}: {', '.join(bad[:_NAMED])}{more}"
    return replace(calibration, samples=kept, digest=samples_digest(kept), unusable=len(bad)), [note]
