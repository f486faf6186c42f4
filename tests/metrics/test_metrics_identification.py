from __future__ import annotations

import statistics

import numpy as np
import pytest
from metrics_populations import exact_embeddings, listed, population

from veriquant.errors import VeriQuantError
from veriquant.metrics import Options, Protocol, compatibility, differences, fold_summary, identify, verify
from veriquant.metrics.fold_summary import FoldFigure
from veriquant.results import Curve, Evaluation, Metric, ScoreSummary


@pytest.fixture(scope="module")
def searched():
    embeddings, persons = population(20, 4, 1.4, 3)
    found = listed(persons, 60, 60, 5, folds=False)
    return embeddings, Protocol(persons, found.left, found.right, found.genuine, search=True)


def test_a_list_that_is_searched_too_has_ranks(searched) -> None:
    embeddings, protocol = searched
    metrics = verify(protocol, embeddings, Options(resamples=200)).metrics
    found = identify(embeddings, protocol.persons)
    for k in (1, 5):
        metric = metrics[f"rank-{k}"]
        assert metric.value == found.rank(k)
        low, high = metric.ci95
        assert low <= metric.value <= high
        assert low < high
    assert 0 < metrics["rank-1"].value < metrics["rank-5"].value < 1
    plain = Protocol(protocol.persons, protocol.left, protocol.right, protocol.genuine)
    without = verify(plain, embeddings, Options(resamples=200)).metrics
    assert {name: metrics[name] for name in without} == without
    assert set(metrics) - set(without) == {"rank-1", "rank-5"}


def test_a_search_among_all_is_not_only_among_those_listed(searched) -> None:
    embeddings, protocol = searched
    few = Protocol(protocol.persons, protocol.left[:8], protocol.right[:8], protocol.genuine[:8], search=True)
    options = Options(far=(0.1,), resamples=0)
    assert verify(few, embeddings, options).metrics["rank-1"] == verify(protocol, embeddings, options).metrics["rank-1"]


def test_ties_count_against_the_system() -> None:
    embeddings = exact_embeddings(60, 3)
    embeddings[1::3] = embeddings[::3]
    embeddings[5] = embeddings[0]
    persons = np.arange(60) // 3
    protocol = Protocol(persons, np.array([0, 0]), np.array([1, 3]), np.array([True, False]), search=True)
    rank = verify(protocol, embeddings, Options(far=(0.1,), resamples=0)).metrics["rank-1"].value
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -2)
    same = persons[:, None] == persons
    strictly = np.where(same, scores, -2).max(axis=1) > np.where(same, -2, scores).max(axis=1)
    assert rank == strictly.mean()
    assert not strictly[0]  # its copy is its own person's, and another copy is somebody else's


def test_differences_of_ranks_are_paired(searched) -> None:
    embeddings, protocol = searched
    options = Options(resamples=200)
    noise = np.random.default_rng(1).normal(size=embeddings.shape)
    worse = (embeddings + 3 * noise).astype(np.float32)
    same = {each.metric: each for each in differences(protocol, embeddings, embeddings, options)}
    assert (same["rank-1"].value, same["rank-1"].ci95, same["rank-1"].verdict) == (0, (0, 0), "no worse")
    found = {each.metric: each for each in differences(protocol, embeddings, worse, options)}
    assert found["rank-1"].value < 0
    assert found["rank-1"].ci95[1] < 0
    assert found["rank-1"].verdict == "worse"


def test_a_searched_list_can_be_compared_across_networks(searched) -> None:
    embeddings, protocol = searched
    found = compatibility(protocol, embeddings, embeddings, Options(resamples=50), far=0.1)
    assert len(found.cells) == 4


def evaluation(fold: int, **metrics: Metric) -> Evaluation:
    nothing = ScoreSummary(count=0, mean=0, std=0)
    return Evaluation(
        network={}, benchmark={"name": f"eyes fold {fold}", "digest": f"digest {fold}"}, comparisons={},
        metrics=metrics, genuine=nothing, impostor=nothing, curve=Curve(threshold=[], fmr=[], fnmr=[]), settings={},
        versions={},
    )  # fmt: skip


def test_mean_and_sample_deviation_over_folds() -> None:
    eers, aucs = (0.05, 0.07, 0.03), (0.9, 0.9, 0.9)
    folds = [
        evaluation(fold, eer=Metric(value=eer), auc=Metric(value=auc))
        for fold, (eer, auc) in enumerate(zip(eers, aucs, strict=True), 1)
    ]
    found = fold_summary(folds)
    assert list(found) == ["eer", "auc"]
    assert found["eer"].values == eers
    assert found["eer"].mean == pytest.approx(statistics.mean(eers))
    assert found["eer"].std == pytest.approx(statistics.stdev(eers))
    assert found["auc"].std == pytest.approx(0, abs=1e-15)
    assert (found["eer"].support, found["eer"].note) == ("ok", "")
    turned = fold_summary(folds[::-1])["eer"]
    assert (turned.mean, turned.std) == pytest.approx((found["eer"].mean, found["eer"].std))


def test_a_figure_that_a_fold_cannot_support_has_no_mean() -> None:
    weak, none = Metric(value=0.1, support="weak", note="weak: few"), Metric(value=None, support="none", note="too few")
    one = evaluation(1, weak=weak, gone=Metric(value=0.1), own=Metric(value=1))
    other = evaluation(2, weak=Metric(value=0.3), gone=none)
    found = fold_summary([one, other])
    assert found["weak"].mean == pytest.approx(0.2)
    assert (found["weak"].support, found["weak"].note) == ("weak", "eyes fold 1: weak: few")
    assert found["gone"] == FoldFigure(None, None, (0.1, None), "none", "eyes fold 2: too few")
    assert found["own"] == FoldFigure(None, None, (1, None), "none", "eyes fold 2: no own")


def test_one_fold_has_no_deviation() -> None:
    assert fold_summary([evaluation(1, eer=Metric(value=0.1))])["eer"] == FoldFigure(0.1, None, (0.1,), "ok", "")


def test_a_fold_does_not_count_twice() -> None:
    with pytest.raises(VeriQuantError, match=r"expected each fold once, found the test data of 'eyes fold 2' twice$"):
        fold_summary([evaluation(1), evaluation(2), evaluation(2)])
    with pytest.raises(VeriQuantError, match="at least one"):
        fold_summary([])
