from __future__ import annotations

import numpy as np
import pytest

from veriquant.metrics.directions import has_direction, likeness, unit_rows

STRANGE = {
    "zeros": np.zeros(3, "f"),
    "NaN": np.array([1, np.nan, 0], "f"),
    "infinity": np.array([np.inf, 1, 1], "f"),
}


@pytest.mark.parametrize("row", STRANGE.values(), ids=STRANGE)
def test_strange_rows_have_no_direction_and_no_figure_is_nan(row):
    good = np.array([[1, 0, 0], [0, 2, 0]], "f")
    rows = np.vstack([good, row])
    assert has_direction(rows).tolist() == [True, True, False]
    lost = likeness(np.vstack([good, good[:1]]), rows)
    assert (lost.mean, lost.least, lost.images, lost.lost) == (pytest.approx(2 / 3), 0.0, 3, 1)
    assert "1 of them without a direction" in lost.remark
    unknown = likeness(rows, np.vstack([good, good[:1]]))
    assert (unknown.mean, unknown.images, unknown.left_out) == (1.0, 2, 1)
    assert "1 others left out" in unknown.remark
    nothing = likeness(row[None], row[None])
    assert (nothing.mean, nothing.least, nothing.images) == (None, None, 0)


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1.0, 1e38])
def test_length_does_not_matter_however_small_or_large(scale):
    rows = (np.array([[3, 4], [-4, 3]]) * scale / 4).astype("f")
    assert np.allclose(unit_rows(rows), [[0.6, 0.8], [-0.8, 0.6]], atol=1e-4)
    assert likeness(rows, np.float32([[3, 4], [-4, 3]])).mean == pytest.approx(1, abs=1e-6)


def test_equal_networks_have_no_remark():
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype("f")
    found = likeness(rows, rows)
    assert (found.mean, found.remark) == (pytest.approx(1), "")
