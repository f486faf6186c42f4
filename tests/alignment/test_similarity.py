from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veriquant.alignment.similarity import inverse, scale_of, similarity_transform, transformed
from veriquant.alignment.template import template

NUMBERS = st.floats(-200, 200)


@given(st.floats(-3.1, 3.1), st.floats(0.05, 20), NUMBERS, NUMBERS)
def test_a_similarity_is_found_again(angle: float, scale: float, x: float, y: float) -> None:
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wanted = np.column_stack([rotation, [x, y]])
    found = similarity_transform(template(), transformed(template(), wanted))
    np.testing.assert_allclose(found, wanted, atol=1e-8)
    assert scale_of(found) == pytest.approx(scale)
    np.testing.assert_allclose(transformed(transformed(template(), wanted), inverse(wanted)), template(), atol=1e-6)


@given(st.integers(0, 1000))
def test_no_neighbouring_similarity_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))

    def error(matrix: np.ndarray) -> float:
        return float(((transformed(source, matrix) - target) ** 2).sum())

    found = similarity_transform(source, target)
    a, b = found[0, 0], found[1, 0]
    np.testing.assert_allclose(found[:, :2], [[a, -b], [b, a]], atol=1e-9)  # no reflection, no shear
    for _ in range(20):
        da, db, dx, dy = rng.normal(size=4) * 1e-3
        other = found + np.array([[da, -db, dx], [db, da, dy]])
        assert error(found) <= error(other) + 1e-12


def test_a_mirror_image_is_not_reached_by_mirroring() -> None:
    mirrored = template() * [-1, 1]
    assert np.linalg.det(similarity_transform(mirrored, template())[:, :2]) > 0


def test_points_that_are_all_one() -> None:
    with pytest.raises(ValueError, match="all one"):
        similarity_transform(np.ones((5, 2)), template())


def test_the_template_of_other_sizes() -> None:
    np.testing.assert_allclose(template()[0], [38.2946, 51.6963])
    np.testing.assert_allclose(template((112, 96))[:, 0], template()[:, 0] - 8)  # SphereFace's
    np.testing.assert_allclose(template((224, 224)) + 0.5, 2 * (template() + 0.5))
