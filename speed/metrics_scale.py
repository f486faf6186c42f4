"""How fast and how lean the all-against-all metrics are: one large synthetic run, and the ratio to scikit-learn.

(a) `--templates` embeddings of 512 numbers, persons with noise: wall time, peak memory and the figures themselves, EER,
AUC and FNMR down to FMR 1e-6. (b) EER and AUC of `--peer-templates` by scikit-learn's `roc_curve` on the scores of one
float32 matrix product, and by this package, in one process: the whole path from embeddings to figures, best of
`--repeats` for both.

    python speed/metrics_scale.py --templates 33660 --peer-templates 6000
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from veriquant.metrics import Options, Protocol, verify

WIDTH = 512


def synthetic(templates: int, per_person: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Draw persons on the sphere and noisy templates of each: float32 (n, 512), int64 (n,)."""
    rng = np.random.default_rng(seed)
    persons = np.arange(templates) // per_person
    centres = rng.standard_normal((int(persons[-1]) + 1, WIDTH), dtype=np.float32)
    embeddings = rng.standard_normal((templates, WIDTH), dtype=np.float32)
    embeddings *= rng.uniform(0.8, 3.0, size=(templates, 1)).astype(np.float32)
    embeddings += centres[persons]
    return embeddings, persons


def all_against_all(persons: npt.NDArray[np.int64]) -> Protocol:
    """Every template against every other."""
    none = np.zeros(0, dtype=np.int64)
    return Protocol(persons, none, none, none.astype(bool), all_pairs=True)


def peak_gigabytes() -> float:
    """Return the peak resident memory of this process so far, in 10^9 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def by_scikit_learn(embeddings: npt.NDArray[np.float32], persons: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return (EER, AUC) the usual way: all scores, then roc_curve."""
    from sklearn.metrics import auc, roc_curve

    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    upper = np.tri(len(unit), k=-1, dtype=bool).T
    scores = (unit @ unit.T)[upper]
    genuine = (persons[:, None] == persons)[upper]
    fmr, tar, _ = roc_curve(genuine, scores)
    gap = fmr + tar - 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(fmr[before] + share * (fmr[after] - fmr[before])), float(auc(fmr, tar))


def by_veriquant(embeddings: npt.NDArray[np.float32], persons: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return (EER, AUC); FNMR, minDCF, rank-k, curve and histograms are reckoned too."""
    metrics = verify(all_against_all(persons), embeddings, Options(resamples=0)).metrics
    eer, auc = metrics["eer"].value, metrics["auc"].value
    assert eer is not None
    assert auc is not None
    return eer, auc


def timed(work: Callable[[], tuple[float, float]], repeats: int) -> tuple[float, tuple[float, float]]:
    """Return the least seconds of some repeats, and the answer."""
    least, answer = float("inf"), (0.0, 0.0)
    for _ in range(repeats):
        start = time.perf_counter()
        answer = work()
        least = min(least, time.perf_counter() - start)
    return least, answer


def main() -> None:
    """Measure and print one line per result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--templates", type=int, default=33660, help="templates of the large run (default 33660); 0: none"
    )
    parser.add_argument(
        "--peer-templates", type=int, default=6000, help="templates of the comparison with scikit-learn"
    )
    parser.add_argument("--per-person", type=int, default=30, help="templates of each person (default 30)")
    parser.add_argument("--resamples", type=int, default=0, help="resamples of people in the large run (default 0)")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of the comparison, the best counts (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic templates (default 0)")
    args = parser.parse_args()
    print(f"cores: {os.cpu_count()}")
    if args.templates:
        embeddings, persons = synthetic(args.templates, args.per_person, args.seed)
        options = Options(far=(1e-2, 1e-3, 1e-4, 1e-5, 1e-6), resamples=args.resamples, seed=args.seed)
        start = time.perf_counter()
        result = verify(all_against_all(persons), embeddings, options)
        seconds = time.perf_counter() - start
        total = result.genuine.count + result.impostor.count
        print(f"large: {args.templates} templates x {WIDTH}, {total} comparisons, {args.resamples} resamples")
        print(f"large: {seconds:.2f} s, {total / seconds / 1e6:.0f} million comparisons a second")
        print(f"large: peak memory {peak_gigabytes():.2f} GB, templates included")
        for name, metric in result.metrics.items():
            interval = "" if metric.ci95 is None else f"  [{metric.ci95[0]:.6f}, {metric.ci95[1]:.6f}]"
            print(f"large: {name} = {metric.value if metric.value is None else f'{metric.value:.9f}'}{interval}")
        del embeddings, result
    embeddings, persons = synthetic(args.peer_templates, args.per_person, args.seed)
    by_veriquant(embeddings[:300], persons[:300])
    ours, (eer, auc) = timed(lambda: by_veriquant(embeddings, persons), args.repeats)
    theirs, (their_eer, their_auc) = timed(lambda: by_scikit_learn(embeddings, persons), args.repeats)
    print(f"peer: {args.peer_templates} templates, {args.peer_templates * (args.peer_templates - 1) // 2} comparisons")
    print(f"peer: scikit-learn {theirs:.3f} s, EER {their_eer:.9f}, AUC {their_auc:.9f}")
    print(f"peer: veriquant {ours:.3f} s, EER {eer:.9f}, AUC {auc:.9f}")
    print(f"peer: veriquant is {theirs / ours:.1f} times as fast")


if __name__ == "__main__":
    main()
