"""Time per face of FP32, of the quantization tool's INT8 and of ours, interleaved in one run.

    python speed/int8_latency.py NETWORK --calibration DIR                # ONNX Runtime, 1 thread, batch 1 and 32
    python speed/int8_latency.py NETWORK --calibration DIR --runtime openvino

Prints a line for each variant: median and spread in milliseconds, and the ratio to FP32 in the same rounds with a 95 %
interval. `NETWORK` is what `veriquant networks` lists or an .onnx file; `--calibration demo:` takes drawn faces.
"""

from __future__ import annotations

import argparse

from veriquant.calibration.context import QuantizationContext
from veriquant.deploy import machine, measure_latency, open_embedder
from veriquant.networks import load_network
from veriquant.recipes import load_recipe
from veriquant.study.inputs import calibration_set

RECIPES = ("fp32", "fp32-fast", "int8-dynamic", "int8-static", "int8")


def main() -> None:
    """Quantize by every recipe, then time all files in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--calibration", required=True, help="a folder of images, or demo:")
    parser.add_argument("--images", type=int, default=200, help="calibration images (default 200)")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    options = parser.parse_args()

    network = load_network(options.network)
    calibration = calibration_set(options.calibration, options.images, seed=0)
    target = QuantizationContext(options.runtime, options.threads)
    files = {name: load_recipe(name).apply(network, calibration, target).onnx for name in RECIPES}
    embedders = {
        name: open_embedder(file, network.spec, runtime=options.runtime, threads=options.threads)
        for name, file in files.items()
    }
    found = measure_latency(embedders, reference="fp32", batches=options.batches, rounds=options.rounds)
    computer = machine()
    print(f"{network.name} in {options.runtime}, {options.threads} thread(s), {computer['processor']}, "
          f"{' '.join(computer['instruction_sets'])}, {options.rounds} rounds")  # fmt: skip
    for name, rows in found.items():
        for row in rows:
            ratio = ""
            if row.ratio_to_reference is not None and row.ratio_ci95 is not None:
                low, high = row.ratio_ci95
                ratio = f"  {row.ratio_to_reference:5.2f} × FP32 [{low:.2f}, {high:.2f}]"
            print(
                f"{name:14s} batch {row.batch:3d} {row.median_ms:8.2f} ms  p10 {row.p10_ms:8.2f}  p90 {row.p90_ms:8.2f}"
                f"  {len(files[name]) / 1e6:6.2f} MB{ratio}"
            )


if __name__ == "__main__":
    main()
