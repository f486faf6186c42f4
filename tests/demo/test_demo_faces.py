"""Drawing depends on the seeds alone, gives whole pictures, and keeps training, calibration and evaluation apart."""

import hashlib
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from veriquant.demo import faces
from veriquant.demo.faces import SIDE, SPLIT_PEOPLE, draw, identity_seed, uniform


def _digest() -> str:
    return hashlib.sha256(b"".join(draw(5 * i, i).tobytes() for i in range(20))).hexdigest()


def test_equal_seeds_give_equal_pixels_whatever_was_drawn_before() -> None:
    first = _digest()
    draw(123, 4)
    faces._identity.cache_clear()
    faces._grain.cache_clear()
    assert _digest() == first


def test_another_process_draws_the_same_pixels() -> None:
    code = f"import runpy; print(runpy.run_path({__file__!r})['_digest']())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == _digest()


def test_pictures_are_those_of_this_version() -> None:
    """Block means, so that another Pillow's edges may differ by a hair; whoever changes the drawing raises VERSION."""
    means = np.stack([draw(2_000_000 + i, i).reshape(4, 28, 4, 28, 3).mean(axis=(1, 3, 4)) for i in range(3)])
    assert faces.VERSION == 1
    np.testing.assert_allclose(means.reshape(3, 16), EXPECTED, atol=1.5)


EXPECTED = [
    [154.9, 165.5, 124.3, 117.9, 175.0, 221.1, 205.0, 142.4, 162.1, 248.2, 230.2, 154.7, 182.0, 216.9, 212.7, 153.8],
    [151.1, 167.3, 178.0, 143.8, 152.5, 145.4, 147.4, 146.6, 143.9, 140.5, 131.4, 134.0, 134.3, 114.7, 112.1, 128.9],
    [200.1, 127.1, 108.1, 175.2, 153.8, 138.0, 145.6, 141.7, 94.3, 136.2, 126.8, 136.3, 115.8, 104.4, 100.2, 103.7],
]


def test_random_numbers_are_those_of_pcg64() -> None:
    np.testing.assert_allclose(uniform(3, 9, 9), UNIFORM, atol=1e-12)
    assert uniform(1000, 1).min() >= 0.0
    assert uniform(1000, 1).max() < 1.0


UNIFORM = [0.09904665987329231, 0.8725011073473954, 0.21262849682892382]


def test_a_picture_is_rgb_bytes_of_an_arcface_crop() -> None:
    picture = draw(1, 2)
    assert picture.shape == (SIDE, SIDE, 3) == (112, 112, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 15


def test_many_seeds_draw_without_failing() -> None:
    people = (uniform(150, 77) * 3 * SPLIT_PEOPLE).astype(int).tolist()
    for image, person in enumerate(people):
        picture = draw(person, image)
        assert picture.std() > 5, (person, image)


def test_pictures_of_one_person_differ_and_people_differ() -> None:
    assert not np.array_equal(draw(1, 0), draw(1, 1))
    assert not np.array_equal(draw(1, 0), draw(2, 0))


def test_splits_never_share_a_person() -> None:
    ranges = [
        (identity_seed(split, 0), identity_seed(split, SPLIT_PEOPLE - 1))
        for split in ("training", "calibration", "evaluation")
    ]
    for (_, last), (first, _) in pairwise(ranges):
        assert last < first
    for index in (-1, SPLIT_PEOPLE):
        with pytest.raises(ValueError, match="index"):
            identity_seed("training", index)
