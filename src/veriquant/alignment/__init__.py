"""Face alignment: photographs become crops in which eyes, nose and mouth stand where a network expects them."""

from veriquant.alignment.detector import Detector, Face, YuNet
from veriquant.alignment.folder import Alignment, align_folder
from veriquant.alignment.settings import AlignSettings
from veriquant.alignment.similarity import similarity_transform
from veriquant.alignment.template import template

__all__ = [
    "AlignSettings",
    "Alignment",
    "Detector",
    "Face",
    "YuNet",
    "align_folder",
    "similarity_transform",
    "template",
]
