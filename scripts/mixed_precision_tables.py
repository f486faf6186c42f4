"""How docs/results/mixed-precision.md was made: the tables and figures of Pandey et al. for face recognition networks.

    export VERIQUANT_REAL=/path/to/real
    python scripts/mixed_precision_tables.py tables mobilefacenet-y1 mobileface-v2 mobilefacenet-foamliu
    python scripts/mixed_precision_tables.py robustness mobilefacenet-y1
    python scripts/mixed_precision_tables.py searches mobileface-v2
    python scripts/mixed_precision_tables.py sizes mobilefacenet-y1 mobileface-v2 mobilefacenet-foamliu
    python scripts/mixed_precision_tables.py markdown mobilefacenet-y1 mobileface-v2 mobilefacenet-foamliu

`all` does all of these in turn. With --toy everything is small, to see that it runs, and the figures say nothing.

Everything runs in the simulation, whose embeddings are those of the packed files (the tests hold them to it); one model
for each way to round serves all rows of a network. Results go to out/mixed-precision/*.json, tables to the screen.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from veriquant.allocation import CostBudget, GreedyPath, build_problem, greedy, kendall_tau
from veriquant.allocation.search import SEARCHES
from veriquant.allocation.sensitivity import SensitivityList
from veriquant.allocation.solvers.budgeted import BudgetConfig, Choice, Chosen, best_within
from veriquant.benchmarks import Benchmark, load_benchmark
from veriquant.caches.sensitivity_store import measure_cached
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.model import CalibratedModel
from veriquant.data.calibration import Calibration, load_calibration
from veriquant.deploy.simulated_embedder import SimulatedEmbedder
from veriquant.evaluation import embed
from veriquant.evaluation.evaluate import protocol_of
from veriquant.evaluation.judge import Judge
from veriquant.files import write_json
from veriquant.metrics import Options, differences, verify
from veriquant.networks import Network, load_network
from veriquant.recipes import load_recipe
from veriquant.recipes.composition import Composition
from veriquant.recipes.pipeline import calibrate
from veriquant.simulation import Precision
from veriquant.simulation.steps import QuantizationConfig

REAL = Path(os.environ["VERIQUANT_REAL"])
NETWORKS = {
    "mobilefacenet-y1": str(REAL / "networks/mobilefacenet-y1/mobilefacenet-y1.onnx"),
    "mobileface-v2": str(REAL / "networks/mobileface-v2/mobileface-v2.onnx"),
    "mobilefacenet-foamliu": f"mobilefacenet-foamliu:{REAL / 'networks/mobilefacenet-foamliu/mobilefacenet.pt'}",
}
FACES = REAL / "faces/lfw-112x112"
OUT = Path("out/mixed-precision")


@dataclass
class Size:
    """How much is measured."""

    images: int = 192
    """Calibration images that ranges and rounding are fitted to."""
    check: int = 64
    """Further ones that choose among plans."""
    listed: int = 64
    """Images or comparisons that a sensitivity list is measured on."""
    lists: int = 5
    """Lists from subsets that are compared with each other."""
    pairs: int = 600
    resamples: int = 1000


SIZE = Size()
#: (table, target, fixed precision, relative BOPs of the mixed rival)
ROWS = (
    ("1", "generic", "W8A8", 0.5),
    ("1", "generic", "W6A8", 0.375),
    ("2", "wide", "W6A6", 0.28125),
    ("2", "wide", "W4A8", 0.25),
)
KEYS = ("accuracy", "tar@far=1e-3", "fnmr@fmr=1e-3")
#: The source's Table 1 chooses among W8A16, W8A8 and W4A8, its Table 4 among these and W6A8: here all rows do, so that
#: every fixed precision is one that mixed may choose.
CANDIDATES = {"generic": ("W8A16", "W8A8", "W6A8", "W4A8"), "wide": ()}


class Faces:
    """LFW's pairs, decoded once for a network, and the figures of embeddings on them against full precision."""

    def __init__(self, network: Network) -> None:
        self.benchmark: Benchmark = load_benchmark(f"lfw:{FACES}")
        self.network = network
        self.options = Options(far=(1e-3,), resamples=SIZE.resamples)
        self.reference: np.ndarray | None = None
        self.last: np.ndarray | None = None

    def embed(self, model: CalibratedModel, change: QuantizationConfig) -> np.ndarray:
        """Return the embeddings of all images under a change."""
        embedder = SimulatedEmbedder(model.simulation, change, dim=self.network.dim, threads=os.cpu_count() or 1)
        return embed(self.benchmark.samples, embedder, batch_size=64).embeddings

    def figures(self, model: CalibratedModel, change: QuantizationConfig) -> dict[str, object]:
        """Return accuracy and TAR@FAR=1e-3, and the differences to full precision with their intervals.

        Also those to whatever was looked at before, which for a mixed plan is its fixed rival.
        """
        if self.reference is None:
            self.reference = self.embed(model, QuantizationConfig())
        before, self.last = self.last, self.embed(model, change)
        found = verify(protocol_of(self.benchmark), self.last, replace(self.options, resamples=0)).metrics
        return {
            **{key: found[key].value for key in KEYS if key in found},
            "differences": self.compared(self.reference, self.last),
            "to the one before": {} if before is None else self.compared(before, self.last),
        }

    def compared(self, one: np.ndarray, other: np.ndarray) -> dict[str, object]:
        """Return the paired differences of two sets of embeddings, with their intervals."""
        found = differences(protocol_of(self.benchmark), one, other, self.options)
        return {d.metric: [d.value, d.ci95] for d in found if d.metric in KEYS}


def calibration(source: Path = FACES, seed: int = 0) -> Calibration:
    """Return unlabelled images, none of LFW's pairs among them."""
    tested = {sample.path for sample in load_benchmark(f"lfw:{FACES}").samples if sample.path is not None}
    return load_calibration(str(source), SIZE.images + SIZE.check, seed, tested)


def model_of(network: Network, images: Calibration, **settings: object) -> tuple[CalibratedModel, Composition]:
    """Return a calibrated network, with the settings of all tables."""
    given = {"images": SIZE.images, "check_images": SIZE.check, **settings}
    composition = load_recipe("mixed", overrides=given).composition
    assert composition is not None
    return calibrate(network, composition, images)[0], composition


def best_of(model: CalibratedModel, composition: Composition, found: SensitivityList, r: float) -> Chosen:
    """Return the best assignment within a budget of relative BOPs."""
    problem = build_problem(model.costs, found)
    assert isinstance(composition.allocation, BudgetConfig)
    choice = Choice("best", model, problem, problem, composition.allocation, QuantizationContext())
    return best_within(choice, CostBudget("bops", r, True), r)


def tables(names: list[str]) -> None:
    """Tables 1, 2 and 4: fixed against mixed at equal cost, weights rounded to the nearest and by AdaRound.

    A name may end in the fixed precisions to compare with, as in mobileface-v2=W8A8,W4A8.
    """
    images = calibration()
    for text in names:
        name, _, only = text.partition("=")
        network = load_network(NETWORKS[name])
        faces = Faces(network)
        rows: list[dict[str, object]] = []
        for rounding in ("nearest", "adaround"):
            for target in ("generic", "wide"):
                settings = {"target": target, "rounding": rounding, "candidates": CANDIDATES[target]}
                model, chosen = model_of(network, images, **settings, bias_correction=rounding == "adaround")
                started = time.perf_counter()
                found = measure_cached(model.quantizers, model.fit[: SIZE.listed], recovery=model.recovery)
                seconds = time.perf_counter() - started
                problem = build_problem(model.costs, found)
                for table, where, precision, r in ROWS:
                    if where != target or (only and precision not in only.split(",")):
                        continue
                    same = dict.fromkeys(model.simulation.groups, Precision.parse(precision))
                    best = best_of(model, chosen, found, r)
                    walked = greedy(problem, "bops")
                    source = walked.assignment(walked.first_within({"bops": r}))
                    row: dict[str, object] = {
                        "table": table, "rounding": rounding, "r": r, "fixed": precision, "chosen": best.label,
                        "candidates": [str(c) for c in model.simulation.table.candidates], "list_seconds": seconds,
                    }  # fmt: skip
                    for label, assignment in (("fixed", same), ("walk", source), ("mixed", best.assignment)):
                        change = model.quantizers.change(assignment, codes=True)
                        row[f"{label}_figures"] = {
                            "sqnr": model.noise_under(change)[1],
                            "r": model.costs.relative_bops(assignment),
                            "nominal_mb": model.costs.nominal_bytes(assignment) / 1e6,
                            **(faces.figures(model, change) if label != "walk" else {}),
                        }
                    rows.append(row)
                    _print(name, row)
                    write_json(OUT / f"tables-{name}.json", _plain({"full": _full(faces), "rows": rows}))
                if target == "generic" and rounding == "nearest":
                    _ranges(name, found)


def robustness(names: list[str]) -> None:
    """Figures 2 and 4: lists from five random subsets, by SQNR and by the task; faces against other images."""
    for name in names:
        network = load_network(NETWORKS[name])
        faces = Faces(network)
        judge = Judge(faces.benchmark)
        model, _ = model_of(network, calibration())
        lists = []
        for seed in range(SIZE.lists):
            sampled = judge.sample(network.spec, SIZE.listed, seed=seed)
            pixels = torch.from_numpy(sampled.images)
            lists.append(measure_cached(model.quantizers, pixels, score=sampled.score, metric="eer"))
        agreement = {
            "sqnr": _agreement([{(e.group, e.precision): e.sqnr for e in one.entries} for one in lists]),
            "eer": _agreement([{(e.group, e.precision): float(e.score or 0) for e in one.entries} for one in lists]),
        }
        print(name, "Kendall's tau between subsets", agreement)
        domains: dict[str, object] = {}
        for label, images in (
            ("faces (LFW, not in pairs)", calibration()),
            ("faces (CFP)", calibration(REAL / "faces/cfp-112x112")),
            ("eyes (cfp-eyes)", calibration(REAL / "periocular/cfp-eyes")),
            ("noise (1/f, drawn)", noise()),
        ):
            other, settings = model_of(network, images)
            found = measure_cached(other.quantizers, other.fit[: SIZE.listed], recovery=other.recovery)
            best = best_of(other, settings, found, 0.5)
            figures = faces.figures(other, other.quantizers.change(best.assignment, codes=True))
            domains[label] = {"chosen": best.label, **figures}
            print(name, label, best.label, figures["accuracy"], figures["tar@far=1e-3"], flush=True)
        write_json(OUT / f"robustness-{name}.json", _plain({"agreement": agreement, "domains": domains}))


def searches(names: list[str]) -> None:
    """Table 5: evaluations and seconds of the three searches for a target of accuracy, on 600 pairs of LFW."""
    for name in names:
        network = load_network(NETWORKS[name])
        model, _ = model_of(network, calibration())
        found = measure_cached(model.quantizers, model.fit[: SIZE.listed])
        path = greedy(build_problem(model.costs, found), "bops")
        judge = Judge(_fewer(load_benchmark(f"lfw:{FACES}")))

        full = judged(judge, model, QuantizationConfig())
        # Searches of one walk ask for the same positions: each is evaluated, and timed, once.
        known: dict[int, tuple[float, float]] = {}
        rows = []
        for drop in (0.01, 0.05):
            for search in ("sequential", "binary", "binary+interpolation"):
                result = SEARCHES.get(search)(path.last, partial(_at, judge, model, path, known), full - drop)
                seconds = sum(known[position][1] for position in result.scores)
                r = None if result.position is None else path.costs("bops")[result.position]
                rows.append([drop, search, len(result.scores), seconds, r, result.monotone, result.note])
                print(name, full, *rows[-1], flush=True)
        write_json(OUT / f"searches-{name}.json", _plain({"full": full, "positions": path.last, "rows": rows}))


def judged(judge: Judge, model: CalibratedModel, change: QuantizationConfig) -> float:
    """Return the accuracy of a network under a change."""
    dim = model.network.dim
    return judge(SimulatedEmbedder(model.simulation, change, dim=dim, threads=os.cpu_count() or 1), "accuracy")


def _at(
    judge: Judge, model: CalibratedModel, path: GreedyPath, known: dict[int, tuple[float, float]], position: int
) -> float:
    if position not in known:
        started = time.perf_counter()
        score = judged(judge, model, model.quantizers.change(path.assignment(position), codes=True))
        known[position] = score, time.perf_counter() - started
    return known[position][0]


def sizes(names: list[str]) -> None:
    """Print what fixed precisions take on disk: nominal bytes, the ONNX file, the safetensors file for PyTorch."""
    images = calibration()
    packed = OUT / "size.safetensors"
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names:
        model, _ = model_of(load_network(NETWORKS[name]), images, target="wide")
        for precision in ("W8A8", "W6A6", "W4A8"):
            same = dict.fromkeys(model.simulation.groups, Precision.parse(precision))
            plan, nominal = model.plan(same), model.costs.nominal_bytes(same)
            model.pack_saver(plan)(packed)
            found = (len(model.file(plan)), packed.stat().st_size)
            over = [f"{size:,} | {(size / nominal - 1) * 100:.1f} %" for size in found]
            print(f"| {name} | {precision} | {nominal:,.0f} | {' | '.join(over)} |", flush=True)


def markdown(names: list[str]) -> None:
    """Print the tables as they stand in the page."""
    for name in names:
        content = json.loads((OUT / f"tables-{name}.json").read_text(encoding="utf-8"))
        accuracy, rate = content["full"]["accuracy"], content["full"]["tar@far=1e-3"]
        print(f"\n**{name}**: full precision LFW {_percent(accuracy[0])}, TAR@FAR=1e-3 {_percent(rate[0])}\n")
        print("| r | weights | what | accuracy | change (95 %) | TAR@1e-3 | change (95 %) | SQNR | nominal |")
        print("|---|---|---|---:|---:|---:|---:|---:|---:|")
        for row in content["rows"]:
            for label, what in (("fixed", row["fixed"]), ("mixed", f"mixed ({row['chosen']})")):
                figures = row[f"{label}_figures"]
                changes = [_change(figures["differences"].get(key)) for key in ("accuracy", "tar@far=1e-3")]
                print(
                    f"| {figures['r']:.3f} | {row['rounding']} | {what} | {_percent(figures['accuracy'])} | "
                    f"{changes[0]} | {_percent(figures['tar@far=1e-3'])} | {changes[1]} | {figures['sqnr']:.1f} dB | "
                    f"{figures['nominal_mb']:.2f} MB |"
                )
            walked = row["walk_figures"]["sqnr"]
            print(f"| {row['r']:.3f} | {row['rounding']} | the walk alone | | | | | {walked:.1f} dB | |")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.2f}"


def _change(difference: list[object] | None) -> str:
    if difference is None or difference[0] is None:
        return "–"
    value, interval = difference
    assert isinstance(value, float)
    low, high = interval if isinstance(interval, list) else (float("nan"), float("nan"))
    return f"{value * 100:+.2f} ({low * 100:+.2f} … {high * 100:+.2f})"


def noise() -> Calibration:
    """Return drawn images whose spectrum falls as 1/f, as that of photographs does, and that show nothing."""
    from PIL import Image

    folder = OUT / "noise"
    folder.mkdir(parents=True, exist_ok=True)
    count = SIZE.images + SIZE.check
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(112), np.fft.fftfreq(112)))
    frequency[0, 0] = 1 / 112
    for index in range(count):
        planes = [np.fft.ifft2(np.fft.fft2(rng.standard_normal((112, 112))) / frequency).real for _ in range(3)]
        shared = np.fft.ifft2(np.fft.fft2(rng.standard_normal((112, 112))) / frequency).real
        picture = np.stack([0.3 * plane + shared for plane in planes], axis=-1)
        picture = (picture - picture.mean()) / picture.std() * 55 + 120
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{index:04d}.png")
    return load_calibration(str(folder), count)


def _fewer(benchmark: Benchmark) -> Benchmark:
    """Return the first and the last pairs of every fold, so that each keeps genuine and impostor comparisons."""
    assert benchmark.folds is not None
    each = SIZE.pairs // (int(benchmark.folds.max()) + 1) // 2
    kept: list[int] = []
    for fold in range(int(benchmark.folds.max()) + 1):
        for genuine in (True, False):
            kept += np.flatnonzero((benchmark.folds == fold) & (benchmark.genuine == genuine))[:each].tolist()
    pairs = np.array(sorted(kept))
    used, places = np.unique(np.concatenate([benchmark.left[pairs], benchmark.right[pairs]]), return_inverse=True)
    return replace(
        benchmark,
        samples=tuple(benchmark.samples[index] for index in used),
        persons=benchmark.persons[used],
        left=places[: len(pairs)],
        right=places[len(pairs) :],
        genuine=benchmark.genuine[pairs],
        folds=benchmark.folds[pairs],
    )


def _agreement(lists: list[Mapping[tuple[str, str], float]]) -> list[float]:
    pairs = [(a, b) for i, a in enumerate(lists) for b in lists[i + 1 :]]
    return [round(kendall_tau(a, b).tau or 0.0, 4) for a, b in pairs]


def _full(faces: Faces) -> dict[str, object]:
    assert faces.reference is not None
    found = verify(protocol_of(faces.benchmark), faces.reference, faces.options).metrics
    return {key: [found[key].value, found[key].ci95] for key in ("accuracy", "tar@far=1e-3")}


def _ranges(name: str, found: SensitivityList) -> None:
    eight = [entry.sqnr for entry in found.entries if entry.precision == "W8A8"]
    print(f"{name}: W8A8 from {min(eight):.1f} to {max(eight):.1f} dB, median {np.median(eight):.1f}", flush=True)
    write_json(OUT / f"ranges-{name}.json", {"min": min(eight), "max": max(eight), "median": float(np.median(eight))})


def _print(name: str, row: Mapping[str, object]) -> None:
    told = []
    for label in ("fixed", "walk", "mixed"):
        figures = row[f"{label}_figures"]
        assert isinstance(figures, dict)
        rates = [f"{value:.4f}" for key in ("accuracy", "tar@far=1e-3") if (value := figures.get(key)) is not None]
        told.append(" ".join([label, *rates, f"{figures['sqnr']:.2f} dB"]))
    print(name, row["table"], row["rounding"], row["fixed"], row["r"], "; ".join(told), row["chosen"], flush=True)


def _plain(content: object) -> object:
    return json.loads(json.dumps(content, default=float))


if __name__ == "__main__":
    VERBS = {"tables": tables, "robustness": robustness, "searches": searches, "sizes": sizes, "markdown": markdown}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=[*VERBS, "all"])
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--toy", action="store_true", help="run at toy size")
    options = parser.parse_args()
    if options.toy:
        SIZE = Size(images=6, check=3, listed=4, lists=2, pairs=24, resamples=20)
    for verb in VERBS if options.verb == "all" else [options.verb]:
        VERBS[verb](options.networks)
