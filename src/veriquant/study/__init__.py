"""Studies: networks × recipes × benchmarks, kept by content, resumed after a kill."""
