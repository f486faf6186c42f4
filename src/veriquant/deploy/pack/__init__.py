"""Quantized networks on disk, as small as their bits say: a standard ONNX file, a safetensors pack for PyTorch."""

from veriquant.deploy.pack.module import PackedModule, load_module, save_module
from veriquant.deploy.pack.packed_tensors import PackedActivation, PackedWeight
from veriquant.deploy.pack.planned import pack_planned
from veriquant.deploy.pack.write_onnx import pack_onnx

__all__ = [
    "PackedActivation",
    "PackedModule",
    "PackedWeight",
    "load_module",
    "pack_onnx",
    "pack_planned",
    "save_module",
]
