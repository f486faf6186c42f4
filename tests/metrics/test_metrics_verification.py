from __future__ import annotations

import numpy as np
import pytest
from metrics_populations import everyone, exact_embeddings, implied, listed, population

from veriquant.errors import VeriQuantError
from veriquant.metrics import Options, Protocol, identify, verify
from veriquant.metrics.measure import measure
from veriquant.metrics.resampling import draw_people, interval, list_figures
from veriquant.metrics.sorted_scores import sort_scores

QUICK = Options(resamples=0)


@pytest.fixture(scope="module")
def faces():
    embeddings, persons = population(120, 6, 0.9, seed=1)
    return embeddings, persons, listed(persons, 1500, 6000, seed=2)


def test_all_figures_of_a_list(faces):
    embeddings, _, protocol = faces
    result = verify(protocol, embeddings, Options(resamples=100))
    assert list(result.metrics) == [
        "accuracy", "eer", "auc", "tar@far=1e-2", "fnmr@fmr=1e-2", "tar@far=1e-3", "fnmr@fmr=1e-3", "tar@far=1e-4",
        "fnmr@fmr=1e-4", "mindcf",
    ]  # fmt: skip
    assert (result.genuine.count, result.impostor.count) == (1500, 6000)
    assert sum(result.genuine.histogram) == 1500
    for name, metric in result.metrics.items():
        if metric.value is not None:
            assert metric.ci95 is not None, name
            assert metric.ci95[0] <= metric.value <= metric.ci95[1], name
    assert result.metrics["tar@far=1e-2"].value == 1 - result.metrics["fnmr@fmr=1e-2"].value
    assert result.metrics["accuracy"].std is not None


def test_shuffled_comparisons_give_the_same_figures(faces):
    embeddings, persons, protocol = faces
    order = np.random.default_rng(0).permutation(len(protocol.left))
    shuffled = Protocol(
        persons, protocol.left[order], protocol.right[order], protocol.genuine[order], protocol.folds[order]
    )
    options = Options(resamples=40)
    assert verify(protocol, embeddings, options) == verify(shuffled, embeddings, options)


def test_scale_of_embeddings_does_not_matter(faces):
    embeddings, _, protocol = faces
    scaled = embeddings * np.float32(8)
    assert verify(protocol, embeddings, QUICK) == verify(protocol, scaled, QUICK)


def test_support_guard(faces):
    embeddings, _, protocol = faces
    metrics = verify(protocol, embeddings, Options(far=(1e-2, 1e-3, 1e-4, 5e-4), resamples=0)).metrics
    assert metrics["tar@far=1e-2"].support == "ok"
    assert metrics["tar@far=1e-3"].support == "weak"
    assert "6000 impostor comparisons" in metrics["tar@far=1e-3"].note
    assert "30000 would be enough" in metrics["tar@far=1e-3"].note
    assert metrics["tar@far=5e-4"].support == "weak"
    none = metrics["fnmr@fmr=1e-4"]
    assert (none.value, none.threshold, none.support) == (None, None, "none")
    assert "30000 are needed" in none.note


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_of_comparison_only(faces, kind):
    embeddings, persons, protocol = faces
    keep = protocol.genuine == kind
    half = Protocol(persons, protocol.left[keep], protocol.right[keep], protocol.genuine[keep], protocol.folds[keep])
    result = verify(half, embeddings, Options(resamples=20))
    assert all(m.value is None and m.support == "none" and "comparisons" in m.note for m in result.metrics.values())
    assert result.curve.fmr == []


def test_few_people_get_no_interval():
    embeddings, persons = population(9, 4, 0.5, seed=0)
    for protocol in (implied(persons), everyone(persons)):
        metric = verify(protocol, embeddings, Options(far=(0.1,))).metrics["eer"]
        assert metric.value is not None
        assert metric.ci95 is None
        assert "9 people" in metric.note


@pytest.mark.parametrize(("value", "words"), [(0.0, "is zero"), (np.nan, "NaN"), (np.inf, "NaN or infinity")])
@pytest.mark.parametrize("make", [everyone, implied])
def test_embedding_without_direction_is_named(value, words, make):
    embeddings, persons = population(12, 3, 0.5, seed=0)
    embeddings[7] = value
    with pytest.raises(VeriQuantError, match=rf"sample 7 .*{words}|sample 7 holds {words}"):
        verify(make(persons), embeddings, QUICK)


def test_settings_and_shapes_are_checked():
    embeddings, persons = population(12, 3, 0.5, seed=0)
    with pytest.raises(VeriQuantError, match="one row per sample"):
        verify(implied(persons), embeddings[:-1], QUICK)
    with pytest.raises(VeriQuantError, match="between 0 and 1"):
        Options(far=(0.0,))
    with pytest.raises(VeriQuantError, match="one length"):
        Protocol(persons, np.arange(3), np.arange(2), np.ones(3, bool))
    with pytest.raises(VeriQuantError, match="index the 36 samples"):
        Protocol(persons, np.asarray([36]), np.asarray([0]), np.ones(1, bool))
    with pytest.raises(VeriQuantError, match="widths"):
        verify(implied(persons), embeddings, QUICK, probes=embeddings[:, :5])


@pytest.mark.parametrize("seed", range(3))
def test_implied_comparisons_equal_listed_ones_exactly(seed):
    """Every score is tied many times over; 40 is no multiple of the group sizes, one person has a single sample."""
    embeddings = exact_embeddings(203, seed)
    persons = np.random.default_rng(seed).integers(0, 40, 203)
    persons[11] = 99
    options = Options(far=(0.1, 1e-2, 2e-3, 1e-4), resamples=0)
    one, other = verify(implied(persons), embeddings, options), verify(everyone(persons), embeddings, options)
    for name, metric in one.metrics.items():
        assert other.metrics[name] == metric, name
    assert one.curve == other.curve
    assert one.genuine == other.genuine
    assert one.impostor.histogram == other.impostor.histogram
    assert one.impostor.mean == pytest.approx(other.impostor.mean, abs=1e-9)
    assert one.impostor.std == pytest.approx(other.impostor.std, abs=1e-9)
    grouped = verify(everyone(persons), embeddings, Options(far=options.far, resamples=20))
    assert {n: m.value for n, m in grouped.metrics.items()} == {n: m.value for n, m in other.metrics.items()}


def test_several_tiles_and_another_network(monkeypatch):
    monkeypatch.setattr("veriquant.metrics.allpairs_templates._TILE", 37)
    enrolled, probes = exact_embeddings(150, 1), exact_embeddings(150, 2)
    probes[::3] = enrolled[::3]
    persons = np.arange(150) // 4
    one, other = (part[~np.eye(150, dtype=bool)] for part in np.indices((150, 150)))
    explicit = Protocol(persons, one, other, persons[one] == persons[other])
    options = Options(far=(0.1, 1e-2), resamples=0)
    want = verify(explicit, enrolled, options, probes=probes)
    for resamples in (0, 10):
        found = verify(everyone(persons), enrolled, Options(far=(0.1, 1e-2), resamples=resamples), probes=probes)
        for name, metric in want.metrics.items():
            assert (found.metrics[name].value, found.metrics[name].threshold) == (metric.value, metric.threshold), name
        assert found.impostor.count == want.impostor.count
        assert found.impostor.std == pytest.approx(want.impostor.std, abs=1e-9)


def brute_ranks(embeddings, persons):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    ranks = []
    for row, person in zip(scores, persons, strict=True):
        mates, others = row[persons == person], row[persons != person]
        ranks.append(1 + int((others >= mates.max()).sum()) if np.isfinite(mates.max()) else 0)
    return np.asarray(ranks)


def test_ranks_count_ties_against_the_system(monkeypatch):
    embeddings = exact_embeddings(180, 3)
    embeddings[1::3] = embeddings[::3]
    embeddings[5] = embeddings[0]
    persons = np.arange(180) // 3
    persons[179] = 1000
    want = brute_ranks(embeddings, persons)
    found = identify(embeddings, persons)
    assert found.ranks.tolist() == want.tolist()
    assert want[0] == 2
    assert (found.probes, found.unmated) == (179, 1)
    assert found.cmc[0] == found.rank(1) == np.mean(want[want > 0] <= 1)
    assert np.all(np.diff(found.cmc) >= 0)
    monkeypatch.setattr("veriquant.metrics.allpairs_templates._TILE", 41)
    for resamples in (0, 20):
        metrics = verify(everyone(persons), embeddings, Options(resamples=resamples)).metrics
        assert metrics["rank-1"].value == found.rank(1)
        assert metrics["rank-5"].value == found.rank(5)
        assert "1 samples without a mate" in metrics["rank-1"].note


def test_gallery_and_probes():
    gallery = np.eye(4, dtype=np.float32)
    probes = np.asarray([[1, 0.5, 0, 0], [1, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]], np.float32)
    found = identify(probes, np.asarray([0, 1, 2, 9]), gallery, np.arange(4), max_rank=3)
    assert found.ranks.tolist() == [1, 2, 2, 0]
    assert found.cmc.tolist() == [1 / 3, 1, 1]
    assert found.unmated == 1


def test_resampling_with_every_person_once_is_the_point(faces):
    embeddings, _, protocol = faces
    point = measure(protocol, embeddings, None, QUICK)
    from veriquant.metrics.scores import pair_cosines

    scores = pair_cosines(embeddings, embeddings, protocol.left, protocol.right)
    one, other = protocol.persons[protocol.left], protocol.persons[protocol.right]
    ordered = sort_scores(scores, protocol.genuine, one, other, protocol.folds)
    figures = list_figures(ordered, np.ones((1, 120), int), QUICK, (0.3,), True)
    for name in ("eer", "auc", "mindcf", "accuracy"):
        assert figures[name][0] == pytest.approx(point.estimates[name].value, abs=1e-12)
    for far, name in ((1e-2, "fnmr@fmr=1e-2"), (1e-3, "fnmr@fmr=1e-3")):
        assert figures[f"fnmr:{far}"][0] == point.estimates[name].value
    assert figures["fmr@0"][0] == np.mean(scores[~protocol.genuine] >= 0.3)
    assert figures["tar@0"][0] == np.mean(scores[protocol.genuine] >= 0.3)


def test_drawing_people():
    drawn = draw_people(30, 50, seed=4)
    assert drawn.shape == (50, 30)
    assert set(drawn.sum(axis=1).tolist()) == {30}
    assert np.array_equal(drawn, draw_people(30, 50, seed=4))


def test_lost_resamples_are_told_of():
    values = np.r_[np.linspace(0, 1, 90), np.full(10, np.nan)]
    ci95, note = interval(values, 50, 100)
    assert ci95 == pytest.approx((0.025, 0.975))
    assert note.startswith("10 of 100 resamples")
    assert interval(np.full(100, np.nan), 50, 100)[0] is None


def test_intervals_cover_the_truth_where_pairwise_ones_do_not():
    """Many small populations whose people differ in how well they are recognised."""
    rng = np.random.default_rng(5)

    def world(people):
        """Draw people of their own noise, six samples each: all genuine pairs, as many impostor pairs."""
        persons = np.repeat(np.arange(people), 6)
        noise = np.repeat(rng.choice([0.5, 1.6], size=people), 6)[:, None]
        centres = rng.normal(size=(people, 16))
        embeddings = (centres[persons] + noise * rng.normal(size=(6 * people, 16))).astype(np.float32)
        left, right = (np.concatenate([side + 6 * k for k in range(people)]) for side in np.triu_indices(6, 1))
        stranger = (left + 6 * rng.integers(1, people, len(left))) % (6 * people)
        both = np.concatenate([right, stranger])
        left = np.tile(left, 2)
        return embeddings, Protocol(persons, left, both, persons[left] == persons[both])

    names = ("eer", "tar@far=1e-1")
    embeddings, protocol = world(4000)
    truth = {n: verify(protocol, embeddings, Options(far=(0.1,), resamples=0)).metrics[n].value for n in names}
    runs, covered, by_pair = 150, dict.fromkeys(names, 0), 0
    for seed in range(runs):
        embeddings, protocol = world(40)
        metrics = verify(protocol, embeddings, Options(far=(0.1,), resamples=200, seed=seed)).metrics
        for name in names:
            low, high = metrics[name].ci95
            covered[name] += low <= truth[name] <= high
        tar = metrics["tar@far=1e-1"].value
        half = 1.96 * np.sqrt(tar * (1 - tar) / (len(protocol.left) // 2))
        by_pair += abs(tar - truth["tar@far=1e-1"]) <= half
    assert all(count / runs >= 0.88 for count in covered.values()), covered
    assert by_pair / runs < 0.8, by_pair


def test_intervals_by_group_agree_with_those_by_person():
    embeddings, persons = population(64, 4, 1.0, seed=8)
    options = Options(far=(1e-2,), resamples=400)
    by_person = verify(implied(persons), embeddings, options).metrics
    by_group = verify(everyone(persons), embeddings, options).metrics
    assert "32 random groups of the 64 people" in by_group["eer"].note
    for name in ("eer", "auc", "tar@far=1e-2", "mindcf"):
        one, other = by_person[name].ci95, by_group[name].ci95
        assert 0.6 < (other[1] - other[0]) / (one[1] - one[0]) < 1.7, name
