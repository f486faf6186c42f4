"""Whole evaluation over bare runtime: reading, decoding, normalising and embedding images against embedding alone.

    python speed/evaluate_overhead.py NETWORK --benchmark lfw:DIR --images 1000
    python speed/evaluate_overhead.py demo-mobilefacenet --benchmark demo:

The peer is the same runtime fed with batches that lie in memory already. Both are run in turn, `--repeats` times; the
ratio is printed for each pair of runs, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time

from veriquant.benchmarks import load_benchmark
from veriquant.deploy import open_embedder
from veriquant.evaluation import embed
from veriquant.frontends.images import image_batches
from veriquant.networks import load_network


def main() -> None:
    """Time both in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--benchmark", required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    network = load_network(options.network)
    samples = load_benchmark(options.benchmark).samples[: options.images]
    embedder = open_embedder(
        network.onnx, network.spec, runtime=options.runtime, threads=options.threads, module=network.module
    )
    size = embed(samples[:16], embedder).batch_size
    batches = list(image_batches(samples, network.spec, size))
    embedder(batches[0])
    ratios = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        for batch in batches:
            embedder(batch)
        bare = time.perf_counter() - start
        whole = embed(samples, embedder).seconds_total
        ratios.append(whole / bare)
        print(f"bare runtime {bare:6.2f} s, whole evaluation {whole:6.2f} s, ratio {whole / bare:.3f}")
    print(
        f"{network.name} in {options.runtime}, {options.threads} thread(s), {len(samples)} images: "
        f"median ratio {statistics.median(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
