from __future__ import annotations

import numpy as np
import pytest
from metrics_populations import everyone, listed, population

from veriquant.errors import VeriQuantError
from veriquant.metrics import Options, compatibility, differences
from veriquant.metrics.difference import margin_of

OPTIONS = Options(far=(1e-2, 1e-4), resamples=200)


@pytest.fixture(scope="module")
def faces():
    return population(150, 6, 0.6, seed=1)


@pytest.fixture(scope="module", params=["listed", "everyone"])
def protocol(request, faces):
    return listed(faces[1], 1500, 8000, seed=2) if request.param == "listed" else everyone(faces[1])


def rotation(width: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0].astype(np.float32)


def test_identical_embeddings_differ_by_exactly_nothing(faces, protocol):
    found = differences(protocol, faces[0], faces[0].copy(), OPTIONS, {"*": 0.001})
    supported = [d for d in found if d.value is not None]
    assert len(supported) >= 5
    for difference in supported:
        assert (difference.value, difference.ci95, difference.verdict) == (0, (0, 0), "no worse"), difference.metric
        assert "difference exactly 0" in difference.sentence


def test_the_same_space_rotated_is_no_worse(faces, protocol):
    found = differences(protocol, faces[0], faces[0] @ rotation(32), OPTIONS, {"tar": 0.005})
    assert next(d for d in found if d.metric == "tar@far=1e-2").verdict == "no worse"


def test_much_noise_is_worse_and_each_direction_is_known(faces, protocol):
    rng = np.random.default_rng(0)
    variant = faces[0] + rng.normal(size=faces[0].shape).astype(np.float32)
    found = {d.metric: d for d in differences(protocol, faces[0], variant, OPTIONS, {"*": 0.005})}
    for name in ("eer", "tar@far=1e-2", "fnmr@fmr=1e-2", "mindcf", "auc"):
        assert found[name].verdict == "worse", found[name]
    assert found["eer"].value > 0 > found["tar@far=1e-2"].value
    assert "rose by" in found["eer"].sentence
    assert "fell by" in found["tar@far=1e-2"].sentence
    assert "worse than FP32 by more than 0.5 points" in found["tar@far=1e-2"].sentence
    back = {d.metric: d for d in differences(protocol, variant, faces[0], OPTIONS, {"*": 0.005})}
    assert back["eer"].verdict == back["tar@far=1e-2"].verdict == "no worse"
    assert back["eer"].value == -found["eer"].value


def test_pairing_makes_the_interval_narrow(faces):
    protocol = listed(faces[1], 1500, 8000, seed=2)
    rng = np.random.default_rng(0)
    variant = faces[0] + 0.02 * rng.normal(size=faces[0].shape).astype(np.float32)
    from veriquant.metrics import verify

    alone = verify(protocol, faces[0], OPTIONS).metrics["auc"].ci95
    paired = next(d for d in differences(protocol, faces[0], variant, OPTIONS, {}) if d.metric == "auc").ci95
    assert paired[1] - paired[0] < (alone[1] - alone[0]) / 2


def test_unsupported_and_without_interval(faces):
    protocol = listed(faces[1], 1500, 8000, seed=2)
    found = {d.metric: d for d in differences(protocol, faces[0], faces[0], Options(resamples=0), {})}
    assert found["tar@far=1e-4"].verdict == "not supported"
    assert "8000 impostor comparisons" in found["tar@far=1e-4"].sentence
    assert found["eer"].verdict == "not supported"
    assert "no resamples" in found["eer"].sentence
    assert found["eer"].value == 0


def test_margins():
    margins = {"tar@far=1e-3": 0.1, "tar": 0.2, "*": 0.3}
    assert [margin_of(n, margins) for n in ("tar@far=1e-3", "tar@far=1e-2", "rank-1")] == [0.1, 0.2, 0.3]
    assert margin_of("eer", {}) == 0.005
    with pytest.raises(VeriQuantError, match="margin of tar"):
        differences(everyone(np.zeros(2, int)), np.eye(2), np.eye(2), OPTIONS, {"tar": -1})


def test_identical_networks_keep(faces, protocol):
    found = compatibility(protocol, faces[0], faces[0].copy(), OPTIONS, far=1e-2, margin=0.005)
    assert found.verdict == "keep", found.reasons
    assert [(c.enrolled, c.probe) for c in found.cells] == [
        ("FP32", "FP32"), ("FP32", "INT8"), ("INT8", "FP32"), ("INT8", "INT8"),
    ]  # fmt: skip
    assert found.cosine_mean == pytest.approx(1)
    assert found.cells[1].fmr_at_old.value == pytest.approx(found.cells[0].fmr_at_old.value, abs=2e-4)
    assert found.cells[0].fmr_at_old.value <= 1e-2
    assert found.cells[0].fmr_at_old.ci95 is not None
    assert found.cells[0].own_threshold <= found.old_threshold <= found.cells[0].own_threshold + 1e-4
    assert found.new_threshold == pytest.approx(found.old_threshold, abs=1e-3)


def test_little_noise_keeps(faces, protocol):
    rng = np.random.default_rng(3)
    variant = faces[0] + 0.01 * rng.normal(size=faces[0].shape).astype(np.float32)
    assert compatibility(protocol, faces[0], variant, OPTIONS, far=1e-2, margin=0.005).verdict == "keep"


def test_a_rotated_space_must_enrol_again(faces, protocol):
    found = compatibility(protocol, faces[0], faces[0] @ rotation(32), OPTIONS, far=1e-2, margin=0.005)
    assert found.verdict == "enrol-again", found.reasons
    assert "old gallery loses" in found.reasons[0]
    assert found.cells[3].tar_at_own.value == pytest.approx(found.cells[0].tar_at_own.value, abs=1e-3)
    assert abs(found.cosine_mean) < 0.3


def test_cross_scores_shifted_up_move_the_threshold(faces, protocol):
    def with_common(size):
        """All templates share one more direction; the variant has more of it."""
        return np.c_[faces[0], np.full(len(faces[0]), size, np.float32)]

    found = compatibility(protocol, with_common(3), with_common(8), OPTIONS, far=1e-2, margin=0.01)
    assert found.verdict == "move-threshold", found.reasons
    assert found.new_threshold > found.old_threshold
    assert found.cells[1].fmr_at_old.ci95[0] > 2e-2
    assert f"{found.new_threshold:.4f}" in found.reasons[0]


def test_no_verdict_without_support(faces):
    protocol = listed(faces[1], 1500, 8000, seed=2)
    found = compatibility(protocol, faces[0], faces[0], OPTIONS, far=1e-4, margin=0.005)
    assert (found.verdict, found.old_threshold) == ("undecided", None)
    assert "8000 impostor comparisons" in found.reasons[0]
    assert all(c.tar_at_old.value is None and c.tar_at_own.value is None for c in found.cells)
    found = compatibility(protocol, faces[0], faces[0], Options(resamples=0), far=1e-2, margin=0.005)
    assert found.verdict == "undecided"
    with pytest.raises(VeriQuantError, match="one shape"):
        compatibility(protocol, faces[0], faces[0][:, :4], OPTIONS, far=1e-2, margin=0.005)
