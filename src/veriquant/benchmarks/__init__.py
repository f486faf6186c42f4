"""Benchmarks: one file a protocol."""
