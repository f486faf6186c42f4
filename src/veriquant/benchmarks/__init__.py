"""Benchmarks: one file a protocol, registered by being imported here."""

from veriquant.benchmarks import agedb, calfw, cfp, folder, insightface, lfw, synthetic, ufpr  # noqa: F401
from veriquant.benchmarks.base import Benchmark, Sample
from veriquant.benchmarks.kinds import BENCHMARKS, BenchmarkKind, load_benchmark

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkKind", "Sample", "load_benchmark"]
