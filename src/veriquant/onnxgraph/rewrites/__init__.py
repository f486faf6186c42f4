"""Exact rewrites: the same function in operators that runtimes compute faster or can quantize; one file each."""

from veriquant.onnxgraph.rewrites.batchnorm import fold_batchnorm
from veriquant.onnxgraph.rewrites.clip import merge_clips
from veriquant.onnxgraph.rewrites.constants import fold_constants
from veriquant.onnxgraph.rewrites.gemm import fold_factors
from veriquant.onnxgraph.rewrites.prelu import rewrite_prelu

__all__ = ["fold_batchnorm", "fold_constants", "fold_factors", "merge_clips", "rewrite_prelu"]
