"""The benchmark `demo:` and its calibration set: their shape, their people, their digests."""

import io

import numpy as np
import pytest
from PIL import Image

from veriquant.benchmarks import BENCHMARKS, load_benchmark, synthetic
from veriquant.demo.faces import SPLIT_PEOPLE, draw, identity_seed
from veriquant.errors import VeriQuantError


@pytest.fixture(scope="module")
def small():
    return load_benchmark("demo:small")


def test_it_is_registered_and_says_that_it_is_synthetic(small) -> None:
    assert "demo" in BENCHMARKS
    assert small.synthetic
    assert small.persons_known
    assert "ynthetic" in small.protocol
    assert (small.name, small.source) == ("demo-small", "demo:small")


@pytest.mark.parametrize("location", ["", "small"])
def test_folds_are_balanced_and_disjoint_in_people(location, monkeypatch) -> None:
    monkeypatch.setattr(synthetic, "draw", lambda identity, image: np.full((2, 2, 3), 7, dtype=np.uint8))
    benchmark = load_benchmark(f"demo:{location}")
    size = synthetic.SIZES[location]
    assert len(benchmark.samples) == len(benchmark.persons) == size.people * size.images
    assert len(benchmark.left) == 2 * size.folds * size.pairs
    same = benchmark.persons[benchmark.left] == benchmark.persons[benchmark.right]
    np.testing.assert_array_equal(same, benchmark.genuine)
    assert np.all(benchmark.left != benchmark.right)
    seen: set[int] = set()
    for fold in range(size.folds):
        inside = benchmark.folds == fold
        assert benchmark.genuine[inside].sum() == (~benchmark.genuine[inside]).sum() == size.pairs
        people = set(benchmark.persons[benchmark.left[inside]]) | set(benchmark.persons[benchmark.right[inside]])
        assert not people & seen
        seen |= people
    pairs = {tuple(sorted(pair)) for pair in zip(benchmark.left.tolist(), benchmark.right.tolist(), strict=True)}
    assert len(pairs) == len(benchmark.left)


def test_samples_hold_the_drawn_pixels_losslessly(small) -> None:
    sample = small.samples[17]
    pixels = np.asarray(Image.open(io.BytesIO(sample.read())).convert("RGB"))
    np.testing.assert_array_equal(pixels, draw(identity_seed("evaluation", 3), 2))


def test_loading_again_gives_the_same_digest(small) -> None:
    again = load_benchmark("demo:small")
    assert again.digest == small.digest
    np.testing.assert_array_equal(again.left, small.left)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(VeriQuantError, match=r"demo:small"):
        load_benchmark("demo:huge")


def test_calibration_is_reproducible_and_of_other_people(monkeypatch) -> None:
    monkeypatch.setitem(synthetic.SIZES, "small", synthetic.Size(people=6, images=3, folds=2, pairs=5))
    drawn: list[int] = []

    def recorded(identity: int, image: int):
        drawn.append(identity)
        return draw(identity, image)

    monkeypatch.setattr(synthetic, "draw", recorded)
    first = synthetic.demo_calibration(images=20, seed=1)
    assert min(drawn) >= identity_seed("calibration", 0)
    assert max(drawn) <= identity_seed("calibration", SPLIT_PEOPLE - 1)
    assert len(set(drawn)) == 20
    assert len(first.samples) == first.requested == 20
    assert first.seed == 1
    assert synthetic.demo_calibration(images=20, seed=1).digest == first.digest
    assert synthetic.demo_calibration(images=20, seed=2).digest != first.digest
    drawn.clear()
    load_benchmark("demo:small")
    assert min(drawn) >= identity_seed("evaluation", 0)


@pytest.mark.parametrize("wrong", [{"images": 0}, {"seed": -1}])
def test_impossible_calibration_sets_are_refused(wrong) -> None:
    with pytest.raises(VeriQuantError):
        synthetic.demo_calibration(**wrong)
