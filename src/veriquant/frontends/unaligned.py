"""Whether images look like photographs rather than aligned crops, told from their sizes alone, without a detector.

The rule: an aligned set has the network's own shape. An image counts against it where its sides stand in another
proportion than the input's (by more than 5 %), or where it is more than 1.75 times as large as the input. A set looks
unaligned where more than half of its images do, or where more than half are larger than the input and come in many
sizes (more than one in ten images has one of its own). Crops smaller than the input count for nothing: eyes cut out of
faces are of many sizes, and that is right.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

from PIL import Image

from veriquant.frontends.images import FORMATS, stored_upright
from veriquant.frontends.sample import Sample
from veriquant.frontends.spec import InputSpec

#: So many images tell enough; only their first bytes are read.
_LOOKED_AT = 200


def looks_unaligned(samples: Sequence[Sample], spec: InputSpec) -> str:
    """Return one line that says why `samples` look unaligned for a network with `spec`, empty where they do not."""
    some = samples[:: max(1, -(-len(samples) // _LOOKED_AT))]
    sizes = [size for sample in some if (size := _size(sample)) is not None]
    if not sizes:
        return ""
    height, width = spec.size
    off = [(h, w) for h, w in sizes if _off(h, w, height, width)]
    larger = [(h, w) for h, w in sizes if h > height and w > width]
    varied = len(larger) > len(sizes) / 2 and len(set(larger)) > max(1, len(larger) / 10)
    if len(off) <= len(sizes) / 2 and not varied:
        return ""
    most = Counter(off or larger).most_common(1)[0][0]
    kinds = f"{len(set(off or larger))} sizes, such as" if len(set(off or larger)) > 1 else "all of"
    return (
        f"images look unaligned: of {len(sizes)} looked at, {len(off or larger)} are no crops of {width}×{height} "
        f"({kinds} {most[1]}×{most[0]}); face networks take aligned faces: veriquant align makes them"
    )


def _off(height: int, width: int, wanted_height: int, wanted_width: int) -> bool:
    stretch = (width / height) / (wanted_width / wanted_height)
    return not 0.95 <= stretch <= 1 / 0.95 or min(height / wanted_height, width / wanted_width) > 1.75


def _size(sample: Sample) -> tuple[int, int] | None:
    """Return height and width of an image as it stands upright, from its header; None where that cannot be read."""
    try:
        source = io.BytesIO(sample.content) if sample.content is not None else sample.path
        if source is None:
            return None
        with Image.open(source, formats=FORMATS) as image:
            width, height = image.size
            return (height, width) if stored_upright(image) else (width, height)
    except Exception:  # whoever decodes the image complains of it
        return None
