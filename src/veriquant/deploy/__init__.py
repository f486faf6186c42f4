"""Runtimes behind Embedder, latency, the processor, inspection of ONNX files."""
