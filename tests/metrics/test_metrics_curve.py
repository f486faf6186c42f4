from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from veriquant.metrics import Options, curve
from veriquant.metrics.protocol import rate_name
from veriquant.metrics.scores import histogram_counts, summary

# Few distinct values, so that almost every score is tied.
coarse = st.integers(-8, 8).map(lambda k: k / 8)
some = st.lists(coarse, min_size=1, max_size=60)


def build(genuine, impostor):
    return curve.trials_from_scores(np.asarray(genuine, np.float32), np.asarray(impostor, np.float32))


def thresholds_of(*scores):
    values = np.unique(np.concatenate([np.asarray(s, np.float32) for s in scores]))
    return [*values, *np.nextafter(values, np.float32(2)), np.float32(-1)]


@settings(max_examples=150, deadline=None)
@given(some, some, st.sampled_from([0.5, 0.2, 0.1, 0.03]))
def test_against_brute_force_and_scikit_learn(genuine, impostor, far):
    trials = build(genuine, impostor)
    gen, imp = np.asarray(genuine, np.float32), np.asarray(impostor, np.float32)
    rates = {float(t): (float(np.mean(imp >= t)), float(np.mean(gen < t))) for t in thresholds_of(gen, imp)}
    labels = np.r_[np.ones(len(gen)), np.zeros(len(imp))]
    scores = np.r_[gen, imp]
    assert curve.auc(trials) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    # FNMR at an FMR: the lowest of all thresholds that keep to it.
    fnmr, threshold = curve.operating_point(trials, far)
    assert np.mean(imp >= np.float64(threshold)) <= far
    assert fnmr == np.mean(gen < np.float64(threshold))
    assert fnmr == min(miss for rate, miss in rates.values() if rate <= far)
    assert threshold == min(t for t, (rate, _) in rates.items() if rate <= far)
    # EER: scikit-learn's polyline.
    eer, where = curve.equal_error(trials)
    fmr, tar, _ = roc_curve(labels, scores)
    gap = fmr + tar - 1
    after = int(np.argmax(gap >= 0))
    step = -gap[after - 1] / (gap[after] - gap[after - 1])
    assert eer == pytest.approx(fmr[after - 1] + step * (fmr[after] - fmr[after - 1]), abs=1e-12)
    assert 0 <= eer <= 1
    assert np.mean(gen < np.float64(where)) >= np.mean(imp >= np.float64(where))
    # minDCF
    options = Options(p_target=0.2, c_miss=2.0)
    cost, at = curve.min_dcf(trials, options)
    costs = {t: (0.4 * miss + 0.8 * rate) / 0.4 for t, (rate, miss) in rates.items()}
    assert cost == pytest.approx(min(*costs.values(), 1.0), abs=1e-12)
    found = (0.4 * np.mean(gen < np.float64(at)) + 0.8 * np.mean(imp >= np.float64(at))) / 0.4
    assert found == pytest.approx(cost, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(some, some, st.randoms(use_true_random=False))
def test_order_of_trials_changes_nothing(genuine, impostor, random):
    before = build(genuine, impostor)
    random.shuffle(genuine)
    random.shuffle(impostor)
    after = build(genuine, impostor)
    assert curve.equal_error(before) == curve.equal_error(after)
    assert curve.auc(before) == curve.auc(after)
    assert curve.operating_point(before, 0.1) == curve.operating_point(after, 0.1)
    assert curve.min_dcf(before, Options()) == curve.min_dcf(after, Options())
    assert curve.thinned(before) == curve.thinned(after)


@settings(max_examples=60, deadline=None)
@given(some, some, st.integers(8, 40))
def test_curve_is_monotonic_and_thin(genuine, impostor, points):
    thin = curve.thinned(build(genuine, impostor), points)
    assert np.all(np.diff(thin.threshold) >= 0)
    assert np.all(np.diff(thin.fmr) <= 0)
    assert np.all(np.diff(thin.fnmr) >= 0)
    assert (thin.fmr[0], thin.fnmr[0], thin.fmr[-1], thin.fnmr[-1]) == (1, 0, 0, 1)
    assert len(thin.fmr) <= points


def test_threshold_above_the_highest_impostor():
    trials = build([0.5, 0.9], [0.5] * 10)
    fnmr, threshold = curve.operating_point(trials, 0.05)
    assert threshold == np.nextafter(np.float32(0.5), np.float32(1))
    assert fnmr == 0.5


def test_tail_points_survive_thinning():
    rng = np.random.default_rng(0)
    trials = build(rng.normal(0.5, 0.2, 5000).clip(-1, 1), rng.normal(0, 0.1, 100_000).clip(-1, 1))
    thin = curve.thinned(trials)
    assert len(thin.fmr) <= 400
    inside = [f for f in thin.fmr if 1e-5 <= f <= 1e-3]
    assert len(inside) > 50


def test_names_of_rates():
    assert [rate_name(r) for r in (1e-2, 1e-3, 1e-4, 5e-4, 0.025, 0.1)] == [
        "1e-2", "1e-3", "1e-4", "5e-4", "2.5e-2", "1e-1",
    ]  # fmt: skip


def test_summary_counts_every_score():
    scores = np.asarray([-1, -0.5, 0, 0.5, 1], np.float32)
    found = summary(scores, 4)
    assert found.histogram == [1, 1, 1, 2]
    assert (found.count, found.mean) == (5, 0.0)
    assert found.std == pytest.approx(np.sqrt(0.5))
    assert histogram_counts(scores, 0).tolist() == []
