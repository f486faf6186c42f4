"""What happens to an input before the network sees it."""

from veriquant.frontends.images import FrontEndStats, decode, image_batches, mirror, normalise
from veriquant.frontends.sample import Sample
from veriquant.frontends.spec import CONVENTIONS, InputSpec

__all__ = ["CONVENTIONS", "FrontEndStats", "InputSpec", "Sample", "decode", "image_batches", "mirror", "normalise"]
