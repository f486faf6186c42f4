from __future__ import annotations

import numpy as np
import pytest

from veriquant.metrics import Options, Protocol, verify
from veriquant.metrics.folds import fold_accuracies
from veriquant.metrics.sorted_scores import sort_scores


def arrays(scores, genuine, folds):
    people = np.arange(len(scores))
    return sort_scores(
        np.asarray(scores, np.float32), np.asarray(genuine, bool), people, people + 100, np.asarray(folds)
    )


def test_by_hand():
    # Fold 0: genuine .75 .25, impostor .5 0; fold 1: genuine .875 .625, impostor .375 .125.
    found = arrays([0.75, 0.25, 0.5, 0, 0.875, 0.625, 0.375, 0.125], [1, 1, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1])
    accuracy, thresholds = fold_accuracies(found, np.ones((1, 8)))
    # Fold 1 alone is parted by (.375, .625]: .5, which accepts the tie .5: fold 0 has .75, .5, 0 -> accept .75 and .5:
    # genuine .75 right, .25 wrong, impostor .5 wrong, 0 right.
    # Fold 0 alone: best is 3 of 4, on (0, .25] and on (.5, .75]; the lowest plateau's middle is .125, which accepts
    # .125: both genuine right, both impostors wrong.
    assert thresholds.tolist() == [[0.5, 0.125]]
    assert accuracy.tolist() == [[0.5, 0.5]]


def test_the_fold_itself_does_not_choose():
    scores, genuine, folds = [0.9, 0.1, 0.8, 0.2], [1, 0, 1, 0], [0, 0, 1, 1]
    one = fold_accuracies(arrays(scores, genuine, folds), np.ones((1, 4)))[1]
    scores[0] = 0.55
    other = fold_accuracies(arrays(scores, genuine, folds), np.ones((1, 4)))[1]
    assert one[0, 0] == other[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    genuine = rng.integers(0, 2, 200).astype(bool)
    scores = (np.round((rng.normal(size=200) + genuine) * 4) / 16).clip(-1, 1).astype(np.float32)
    folds = rng.integers(0, 5, 200)
    weights = rng.integers(0, 3, size=(4, 200)).astype(float)
    sorted_levels = arrays(scores, genuine, folds)
    order = np.argsort(scores, kind="stable")
    accuracy, _ = fold_accuracies(sorted_levels, weights[:, order])
    for row in range(4):
        for fold in range(5):
            rest, test = folds != fold, folds == fold
            candidates = np.unique(scores).astype(float)
            candidates = np.r_[-1, (candidates[1:] + candidates[:-1]) / 2, 2]
            right = [(((scores >= t) == genuine) * weights[row])[rest].sum() for t in candidates]
            first = int(np.argmax(right))
            last = first
            while last + 1 < len(right) and right[last + 1] == right[first]:
                last += 1
            # The plateau's ends in terms of scores of the whole set, then its middle.
            values = np.unique(scores).astype(float)
            low = values[first - 1] if first else min(-1.0, values[0])
            high = values[last] if last < len(values) else 1.0
            chosen = (low + high) / 2
            want = (((scores >= chosen) == genuine) * weights[row])[test].sum() / weights[row][test].sum()
            assert accuracy[row, fold] == pytest.approx(want, abs=1e-12)


def test_separable_and_hopeless():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 0.2, 80)
    embeddings = np.c_[np.cos(angle), np.sin(angle)].astype(np.float32)
    embeddings[40:] *= -1
    persons = np.r_[np.zeros(40, int), np.ones(40, int)]
    left, right = np.arange(40), np.r_[np.arange(1, 21), np.arange(40, 60)]
    protocol = Protocol(persons, left, right, persons[left] == persons[right], np.arange(40) % 10)
    metric = verify(protocol, embeddings, Options(resamples=0)).metrics["accuracy"]
    assert (metric.value, metric.std) == (1.0, 0.0)
    assert metric.threshold == pytest.approx(0, abs=0.2)
