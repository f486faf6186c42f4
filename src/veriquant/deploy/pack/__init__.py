"""Quantized networks on disk, as small as their bits say: a standard ONNX file, a safetensors pack for PyTorch."""

from veriquant.deploy.pack.levels import ActivationLevels, PackedWeight
from veriquant.deploy.pack.module import PackedModule, load_module, save_module
from veriquant.deploy.pack.onnx_file import pack_onnx
from veriquant.deploy.pack.planned import pack_planned

__all__ = [
    "ActivationLevels",
    "PackedModule",
    "PackedWeight",
    "load_module",
    "pack_onnx",
    "pack_planned",
    "save_module",
]
