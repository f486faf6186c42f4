"""Phase 1 (the sensitivity list) against the plain way, and against AIMET's.

Plain: the whole simulated network, all samples in one batch, on all threads, once for every entry. The same network,
samples, candidates, quantizers and threads; the order of the two lists is compared by Kendall's tau. AIMET (aimet-onnx)
runs in a process of its own where an interpreter is named that has it; it finds its own groups, so seconds an entry are
compared too.

    python speed/sensitivity.py NETWORK.onnx SAMPLES_DIR [--images 64] [--rounds 3] [--aimet-python PYTHON]

Rounds take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import torch

from veriquant.allocation import kendall_tau
from veriquant.allocation.sensitivity import measure
from veriquant.calibration.prepare import fit_and_check
from veriquant.data.calibration import load_calibration
from veriquant.metrics.sqnr import noise_ratios, sqnr_db
from veriquant.networks import Network, load_network
from veriquant.simulation import TARGETS, Precision, QuantizerCache, observe, simulate
from veriquant.simulation.simulation import as_images

Entries = Mapping[tuple[str, Precision], float]


def main() -> None:
    """Time both, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("samples")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--aimet-python", help="an interpreter that has aimet-onnx")
    options = parser.parse_args()
    network = load_network(options.network)
    images, _ = fit_and_check(load_calibration(options.samples, images=options.images + 1), network, options.images, 1)
    images = images[: options.images]
    torch.set_num_threads(options.threads)
    # Quantizers on both sides of every activation function: the most groups, and nearest to what AIMET finds.
    table = replace(TARGETS.get("generic"), name="nothing fused", fused=())
    simulation = simulate(network, table)
    fitted = QuantizerCache(simulation, observe(simulation, as_images(images)))
    candidates = {name: group.candidates[1:] for name, group in simulation.groups.items()}
    for name, widths in candidates.items():  # rounding weights is no part of either
        for precision in widths:
            fitted.change({name: precision})
    count = sum(len(each) for each in candidates.values())
    print(
        f"{network.name}: {len(simulation.groups)} groups, {count} entries, {len(images)} images, "
        f"{options.threads} threads"
    )
    ours_seconds, plain_seconds, ratios = [], [], []
    for _ in range(options.rounds):
        start = time.perf_counter()
        found = measure(fitted, as_images(images), candidates, threads=options.threads)
        ours_seconds.append(time.perf_counter() - start)
        ours = {(e.group, Precision.parse(e.precision)): e.sqnr for e in found.entries}
        plain, seconds = plainly(fitted, images, candidates)
        plain_seconds.append(seconds)
        ratios.append(seconds / ours_seconds[-1])
        agreement = kendall_tau(ours, plain)
        each, beside = ours_seconds[-1] / count * 1e3, seconds / count * 1e3
        print(
            f"veriquant {ours_seconds[-1]:.1f} s ({each:.0f} ms an entry), plain {seconds:.1f} s ({beside:.0f} ms), "
            f"ratio {ratios[-1]:.2f}; Kendall's tau of the lists {agreement.tau:.4f}",
            flush=True,
        )
    print(f"plain / veriquant: median {median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    if options.aimet_python:
        against_aimet(options.aimet_python, network, images, options.threads, median(ours_seconds), count)


def plainly(
    fitted: QuantizerCache, images: np.ndarray, candidates: Mapping[str, tuple[Precision, ...]]
) -> tuple[Entries, float]:
    """Return the list measured by running everything for every entry, and the seconds that it took."""
    steps = fitted.simulation.steps
    pixels = torch.from_numpy(images)
    start = time.perf_counter()
    found = {}
    with torch.inference_mode():
        reference = steps.run(pixels).numpy()
        for group, widths in candidates.items():
            for precision in widths:
                embeddings = steps.run(pixels, fitted.change({group: precision})).numpy()
                found[group, precision] = sqnr_db(noise_ratios(reference, embeddings))
    return found, time.perf_counter() - start


def against_aimet(
    python: str, network: Network, images: np.ndarray, threads: int, ours_seconds: float, count: int
) -> None:
    """Run AIMET's phase 1 and print the ratios, as a whole and an entry."""
    with tempfile.TemporaryDirectory() as folder:
        model, samples, out = (str(Path(folder) / name) for name in ("network.onnx", "samples.npy", "out.json"))
        onnx.save(onnx.load_from_string(network.onnx), model)
        np.save(samples, images)
        command = [python, str(Path(__file__).with_name("aimet_phase1.py")), model, samples, str(threads), out]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        result = json.loads(Path(out).read_text(encoding="utf-8"))
    theirs, entries = result["seconds"], len(result["entries"])
    print(f"aimet-onnx      {theirs:8.1f} s  {theirs / entries * 1e3:7.1f} ms an entry ({result['groups']} groups)")
    each = (theirs / entries) / (ours_seconds / count)
    print(f"aimet / veriquant: {theirs / ours_seconds:.2f} as a whole, {each:.2f} an entry")


if __name__ == "__main__":
    main()
