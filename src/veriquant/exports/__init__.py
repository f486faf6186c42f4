"""What a recipe's file is laid out for: one file a strategy; importing this package registers them."""

from veriquant.exports import packed, runtime_kernels
from veriquant.exports.export import EXPORTS, Export

__all__ = ["EXPORTS", "Export", "packed", "runtime_kernels"]
