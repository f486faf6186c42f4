"""Resizing of maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, fx

from veriquant.simulation.operators.moving import Whole, numbers
from veriquant.simulation.operators.operator_table import importing
from veriquant.simulation.operators.site import Site

#: (mode, coordinate_transformation_mode, nearest_mode) -> mode of `interpolate`, and whether corners meet.
_MODES = {
    ("nearest", "asymmetric", "floor"): ("nearest", None),
    ("nearest", "half_pixel", "round_prefer_floor"): ("nearest-exact", None),
    ("nearest", "half_pixel", "round_prefer_ceil"): ("nearest-exact", None),
    ("linear", "half_pixel", ""): ("bilinear", False),
    ("linear", "pytorch_half_pixel", ""): ("bilinear", False),
    ("linear", "align_corners", ""): ("bilinear", True),
}


@importing("Resize", "computing")
def _resize(site: Site) -> fx.Node:
    mode = str(site.attribute("mode", "nearest"))
    place = str(site.attribute("coordinate_transformation_mode", "half_pixel"))
    nearest = str(site.attribute("nearest_mode", "round_prefer_floor")) if mode == "nearest" else ""
    for name in ("antialias", "exclude_outside"):
        site.choice(name, 0, 0)
    site.choice("keep_aspect_ratio_policy", "stretch", "stretch")
    found = _MODES.get((mode, place, nearest))
    shape = site.shape()
    if found is None or site.attribute("axes") is not None or (shape is not None and len(shape) != 4):
        raise site.error(
            f"resizing {'' if shape is None else f'{len(shape)} axes '}with mode {mode!r}, "
            f"coordinate_transformation_mode {place!r} and nearest_mode {nearest!r} cannot be simulated"
        )
    sizes = site.whole(3)
    if sizes is not None:
        return site.call(resize_to, site.value(), sizes, *found)
    scales = [float(each) for each in site.needed(2, "scale").reshape(-1)]
    if scales[:2] != [1.0, 1.0]:
        raise site.error("it resizes along the batch or the channels")
    if found[0] == "nearest-exact" and any(scale != int(scale) for scale in scales):
        raise site.error(f"the scales {scales[2:]} are not whole, and its nearest pixel would be another's")
    return site.call(resize_by, site.value(), tuple(scales[2:]), *found)


def resize_by(x: Tensor, scales: Sequence[float], mode: str, corners: bool | None) -> Tensor:
    """Return the maps enlarged by `scales`."""
    return F.interpolate(x, scale_factor=list(scales), mode=mode, align_corners=corners, recompute_scale_factor=False)


def resize_to(x: Tensor, sizes: Whole, mode: str, corners: bool | None) -> Tensor:
    """Return the maps in the size that the last two of `sizes` name."""
    return F.interpolate(x, size=numbers(sizes)[2:], mode=mode, align_corners=corners)
