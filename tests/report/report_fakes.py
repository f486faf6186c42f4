"""A made-up study with figures that hang together, so that the report can be tested without computing one."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from veriquant.calibration.layer_records import mean_weight_bits
from veriquant.results import (
    Allocation,
    AllocationPoint,
    Compatibility,
    CompatibilityCell,
    Curve,
    Difference,
    Evaluation,
    GroupChoice,
    Latency,
    Layer,
    Metric,
    NetworkStudy,
    ScoreSummary,
    StudyResult,
    Variant,
)

BINS = 200
GalleryVerdict = Literal["keep", "move-threshold", "enrol-again", "undecided"]
Verdict = Literal["no worse", "worse", "undecided", "not supported"]


def histogram(scores: np.ndarray) -> ScoreSummary:
    counts, _ = np.histogram(scores, bins=BINS, range=(-1, 1))
    return ScoreSummary(
        count=len(scores), mean=float(scores.mean()), std=float(scores.std()), histogram=[int(c) for c in counts]
    )


def around(value: float, reach: float) -> tuple[float, float]:
    return value - reach, min(1.0, value + reach)


def evaluation(benchmark: str, shift: float, pairs: int = 3000, seed: int = 0, synthetic: bool = False) -> Evaluation:
    """Scores of a network whose genuine mean is lowered by `shift`, and figures read off them."""
    random = np.random.default_rng(seed)
    genuine = np.clip(random.normal(0.64 - shift, 0.15, pairs), -1, 1)
    impostor = np.clip(random.normal(0.05 + shift / 3, 0.12, pairs), -1, 1)
    threshold = np.quantile(np.concatenate([genuine, impostor]), np.linspace(0, 1, 400))
    fmr = [(impostor >= t).mean() for t in threshold]
    fnmr = [(genuine < t).mean() for t in threshold]
    best = int(np.argmin(np.add(fmr, fnmr)))
    accuracy = 1 - (fmr[best] + fnmr[best]) / 2
    at_1e3 = float(np.sort(impostor)[-3])
    tar = float((genuine >= at_1e3).mean())
    eer = float(fmr[int(np.argmin(np.abs(np.subtract(fmr, fnmr))))])
    auc = 0.9962 - shift / 4
    return Evaluation(
        network={"name": "n", "digest": "ab" * 32},
        benchmark={
            "name": benchmark, "source": f"{benchmark}:/data/{benchmark}", "protocol": "6,000 pairs in 10 folds.",
            "digest": "cd" * 32, "samples": 7701, "persons": 4281, "persons_known": True, "persons_note": "",
            "synthetic": synthetic,
        },
        comparisons={"genuine": pairs, "impostor": pairs, "total": 2 * pairs},
        skipped=["Aaron_Eckhart_0001.jpg"] if benchmark == "cfp-fp" else [],
        metrics={
            "accuracy": Metric(
                value=accuracy, ci95=around(accuracy, 0.0027), std=0.0055, threshold=float(threshold[best])
            ),
            "tar@far=1e-3": Metric(value=tar, ci95=around(tar, 0.011), threshold=at_1e3, support="weak"),
            "tar@far=1e-4": Metric(value=None, support="none", note="too few impostor comparisons"),
            "eer": Metric(value=eer, ci95=around(eer, 0.003), threshold=float(threshold[best])),
            "auc": Metric(value=auc, ci95=around(auc, 0.0012)),
            "mindcf": Metric(value=0.2134, note="too few people"),
        },
        genuine=histogram(genuine),
        impostor=histogram(impostor),
        curve=Curve(threshold=threshold.tolist(), fmr=list(map(float, fmr)), fnmr=list(map(float, fnmr))),
        settings={"flip": False, "seed": 0, "resamples": 1000, "resampled": "people"},
        versions={"onnxruntime": "1.31.0"},
    )  # fmt: skip


def difference(metric: str, value: float | None, reach: float, verdict: Verdict, margin: float = 0.005) -> Difference:
    ci = None if value is None else (value - reach, value + reach)
    return Difference(
        metric=metric, value=value, ci95=ci, margin=margin, verdict=verdict, sentence=f"This is {verdict} in words."
    )


def cell(enrolled: str, probe: str, tar: float, fmr: float, own: float | None = 0.341) -> CompatibilityCell:
    return CompatibilityCell(
        enrolled=enrolled, probe=probe,
        tar_at_old=Metric(value=tar, ci95=around(tar, 0.01)),
        fmr_at_old=Metric(value=fmr, ci95=(fmr * 0.6, fmr * 1.7), support="weak"),
        own_threshold=own, tar_at_own=Metric(value=tar - 0.002, ci95=around(tar - 0.002, 0.01)),
    )  # fmt: skip


def compatibility(reference: str, variant: str, verdict: GalleryVerdict, fmr: float) -> Compatibility:
    return Compatibility(
        far=0.001, old_threshold=0.3367, new_threshold=0.3489 if verdict == "move-threshold" else 0.3367,
        cells=[
            cell(reference, reference, 0.981, 0.001), cell(reference, variant, 0.979, fmr),
            cell(variant, reference, 0.978, fmr), cell(variant, variant, 0.977, fmr),
        ],
        cosine_mean=0.9953, cosine_p01=0.9871, verdict=verdict,
        reasons=[f"The FMR at the old threshold is {100 * fmr:.2f} %.", "The TAR fell by less than the margin."],
    )  # fmt: skip


def latencies(ratio: float | None, reach: float = 0.02, base: float = 7.35) -> list[Latency]:
    found = []
    for batch, scale in ((1, 1.0), (32, 27.0)):
        median = base * scale * (ratio or 1.0)
        found.append(
            Latency(
                batch=batch, threads=1, rounds=60, median_ms=median, p10_ms=0.96 * median, p90_ms=1.09 * median,
                ratio_to_reference=ratio, ratio_ci95=None if ratio is None else (ratio - reach, ratio + reach),
            )
        )  # fmt: skip
    return found


def layers(kept: int, count: int = 30) -> list[Layer]:
    random = np.random.default_rng(3)
    errors = np.sort(10 ** random.uniform(-5, 0, count))[::-1]
    return [
        Layer(
            name=f"/features/block{i}/conv/Conv", operation="Conv", parameters=1000 + 40 * i, macs=10_000 * (i + 1),
            weight_bits=32 if i < kept else 8, activation_bits=32 if i < kept else 8, kept_float=i < kept,
            reason="its error alone lowers the cosine below 0.99" if i < kept else "", error=float(errors[i]),
        )
        for i in range(count)
    ]  # fmt: skip


def variant(name: str, size: int, ratio: float | None = None, **more: Any) -> Variant:
    return Variant(
        name=name, recipe=name.replace("_", "-"), recipe_settings={"method": "minmax"}, runtime="onnxruntime",
        reference=ratio is None, size_bytes=size, artefact=f"artefacts/{name}.onnx", digest="ef" * 32,
        latency=latencies(ratio), average_bits=mean_weight_bits(more.get("layers", [])), **more,
    )  # fmt: skip


def network(name: str, synthetic: bool = False) -> NetworkStudy:
    """A network as the source report has it: dynamic only 3 % smaller; one variant slower and worse; ours."""
    benchmarks = ("lfw", "cfp-fp")

    def measured(shift: float) -> dict[str, Evaluation]:
        return {b: evaluation(b, shift + 0.1 * i, seed=i, synthetic=synthetic) for i, b in enumerate(benchmarks)}

    def compared(value: float, verdict: Verdict, reach: float = 0.0015) -> dict[str, list[Difference]]:
        return {
            b: [
                difference("accuracy", value, reach, verdict),
                difference("tar@far=1e-3", 4 * value, 4 * reach, verdict, 0.02),
                difference("tar@far=1e-4", None, 0, "not supported"),
                difference("eer", -value, reach, verdict),
                difference("auc", value / 10, reach / 10, "no worse", 0.002),
            ]
            for b in benchmarks
        }

    def gallery(variant_name: str, verdict: Any, fmr: float) -> dict[str, Compatibility]:
        return {"lfw": compatibility("fp32", variant_name, verdict, fmr)}

    return NetworkStudy(
        name=name, source=f"networks/{name}.onnx", dim=512, parameters=23_482_624, macs=1_420_000_000,
        input={"size": [160, 160], "order": "rgb", "mean": 127.5, "std": 128.0},
        variants=[
            variant("fp32", 89_610_000, evaluations=measured(0.0), layers=layers(30)),
            variant(
                "int8_dynamic", 86_970_000, 0.98, evaluations=measured(0.002), differences=compared(0.0, "no worse"),
                compatibility=gallery("int8_dynamic", "keep", 0.00104), layers=layers(20),
            ),
            variant(
                "int8_static_qdq", 23_260_000, 1.31, evaluations=measured(0.05),
                differences=compared(-0.0092, "worse", 0.003),
                compatibility=gallery("int8_static_qdq", "enrol-again", 0.0164), layers=layers(0),
                notes=["The U8S8 kernels of this processor saturate: reduce_range was not set."],
            ),
            variant(
                "int8", 25_410_000, 0.53, evaluations=measured(0.004), differences=compared(-0.0007, "no worse"),
                compatibility=gallery("int8", "move-threshold", 0.0017), layers=layers(3),
                notes=["Three operations were left in floating point."],
            ),
        ],
    )  # fmt: skip


def study(*names: str, synthetic: bool = False) -> StudyResult:
    return StudyResult(
        title="INT8 on faces", synthetic=synthetic,
        networks=[network(name, synthetic) for name in names or ("facenet-vggface2", "mobilefacenet-y1")],
        calibration={"source": "lfw, images outside the pairs", "images": 500, "seed": 0, "digest": "01" * 32},
        settings={"seed": 0, "flip": False, "far": 0.001, "margin": 0.005, "verdict_metric": "accuracy"},
        machine={"processor": "Intel Xeon", "cores": 2, "memory_gb": 8, "instruction_sets": ["avx2", "avx512f"]},
        versions={"veriquant": "0.1.0", "onnxruntime": "1.31.0"}, started="2026-02-09T11:15:45+00:00", seconds=754.2,
        command="veriquant study examples/lfw-int8.yaml",
    )  # fmt: skip


NARROW = ("W8A16", "W8A8", "W4A8")
WIDE = ("W8A16", "W8A8", "W6A8", "W8A6", "W6A6", "W4A6", "W6A4", "W4A4")


def groups(count: int, candidates: tuple[str, ...] = NARROW, seed: int = 0) -> list[GroupChoice]:
    """Groups of a network: the first is left in floating point, every tenth adds and has no weights."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        kind = "Add" if i % 10 == 9 else "Conv"
        name = f"/backbone/stage{1 + i // 12}/block{i}/{kind.lower()}/{kind}"
        worst = float(random.uniform(8, 38))
        drops = sorted(random.uniform(0, 20, len(candidates)), reverse=True)
        sqnr = {each: worst + drop for each, drop in zip(candidates, drops, strict=True)}
        operations = [name, f"/backbone/stage{1 + i // 12}/block{i}/bn"] if i % 4 == 0 else [name]
        found.append(
            GroupChoice(
                name=name, operations=operations,
                parameters=0 if kind == "Add" else 900 * (i + 1), macs=20_000 * (i + 1),
                chosen="FP32" if i == 0 else candidates[i % len(candidates)], sqnr=sqnr,
                milliseconds={candidates[0]: 0.2, candidates[-1]: 0.1} if seed == 1 else {},
            )
        )  # fmt: skip
    return found


def point(label: str, cost: float, better: float = 0.0, score: float | None = None) -> AllocationPoint:
    predicted = 14 + 30 * cost + better
    return AllocationPoint(
        label=label, relative_bops=cost, nominal_bytes=24e6 * cost, predicted_sqnr=predicted,
        measured_sqnr=predicted - 0.8, score=score,
    )  # fmt: skip


def allocation(
    count: int = 24, candidates: tuple[str, ...] = NARROW, budget: str = "bops=0.4", better: float = 0.0, seed: int = 0
) -> Allocation:
    """An allocation whose figures hang together; a budget with a target gives its points the score of a search."""
    scored = ">=" in budget
    widths = [tuple(int(bits) for bits in each[1:].split("A")) for each in candidates]
    tried = [point("searched", 0.25 * i, better, score=0.9 + 0.02 * i) for i in range(1, 5)] if scored else []
    return Allocation(
        target="simulated", budget=budget, search="walk", metric="sqnr", samples=256,
        groups=groups(count, candidates, seed),
        front=[*(point("walk", 1 - 0.075 * i, better) for i in range(11)), point("optimum", 0.39, better + 1), *tried],
        fixed=[
            point(f"fixed {name}", weight * activation / 128, better - 1.5)
            for name, (weight, activation) in zip(candidates, widths, strict=True)
        ],
        chosen=point("chosen", 0.4, better, score=0.975 if scored else None), average_bits=5.27, file_bytes=15_870_000,
        additivity=f"Layers add up: noise measured together 0.0031, singly 0.0029 (ratio {1.07 + seed:.2f}).",
        rounding="adaround" if better else "nearest", plan={"groups": {}},
        seconds={"preparation": 3.2, "sensitivity": 81.0, "search": 4.5},
    )  # fmt: skip


def mixed_study(*names: str, synthetic: bool = False) -> StudyResult:
    """The study with mixed precision: two variants of its first network, one of many groups of its second."""
    result = study(*names, synthetic=synthetic)
    found = [
        ("mixed", allocation()),
        ("mixed_adaround", allocation(budget="tar@far=1e-3>=0.975", better=2.5, seed=1)),
    ]
    many = [("mixed", allocation(130, WIDE))]
    for each, allocations in zip(result.networks, (found, many), strict=False):
        for name, allocated in allocations:
            benchmarks = {b: evaluation(b, 0.006, seed=2, synthetic=synthetic) for b in ("lfw", "cfp-fp")}
            differences = {
                b: [
                    difference("accuracy", -0.0011, 0.002, "no worse"),
                    difference("tar@far=1e-3", -0.0124, 0.0033, "no worse", 0.02),
                ]
                for b in benchmarks
            }
            each.variants.append(
                variant(
                    name, allocated.file_bytes, 0.9, evaluations=benchmarks, differences=differences,
                    allocation=allocated,
                )
            )  # fmt: skip
    return result
