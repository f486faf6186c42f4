"""Network families, checkpoints, ONNX files."""

from veriquant.networks.describe import Description, describe
from veriquant.networks.families import FAMILIES, Family
from veriquant.networks.load import load_network
from veriquant.networks.network import Network
from veriquant.networks.pretrained import PRETRAINED, Pretrained

__all__ = [
    "FAMILIES",
    "PRETRAINED",
    "Description",
    "Family",
    "Network",
    "Pretrained",
    "describe",
    "load_network",
]
