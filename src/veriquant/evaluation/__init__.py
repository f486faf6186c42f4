"""Where an Embedder meets a Benchmark."""
