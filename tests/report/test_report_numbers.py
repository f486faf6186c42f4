from __future__ import annotations

import pytest

from veriquant.report import numbers


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.number(-1234.5, 1), "−1,234.5"),
        (numbers.number(-0.0001, 2, signed=True), "0.00"),
        (numbers.number(float("nan")), "–"),
        (numbers.percent(0.99201), "99.20"),
        (numbers.percent_interval((0.9894, 0.9942)), "[98.94, 99.42]"),
        (numbers.percent_interval((0.9312, 0.9618)), "[93.1, 96.2]"),
        (numbers.percent_interval(None), ""),
        (numbers.rate(0.000123), "0.012 %"),
        (numbers.rate(0.0164), "1.64 %"),
        (numbers.rate(0.0), "0.00 %"),
        (numbers.one_in(0.00012), "1 in 8,300"),
        (numbers.one_in(0.0), "0.00 %"),
        (numbers.megabytes(89_610_000), "89.61"),
        (numbers.megabytes(2_345), "0.0023"),
        (numbers.milliseconds(7.354), "7.35"),
        (numbers.milliseconds(198.4), "198"),
        (numbers.milliseconds(0.04567), "0.0457"),
        (numbers.ratio(0.531, (0.51, 0.55)), "0.53× [0.51, 0.55]"),
        (numbers.ratio(None), "–"),
        (numbers.difference("accuracy", -0.0007, (-0.002, 0.0005)), "−0.07 points [−0.20, +0.05]"),
        (numbers.difference("auc", -0.0003, (-0.001, 0.0004)), "−0.0003 [−0.0010, +0.0004]"),
        (numbers.label("tar@far=1e-3"), "TAR@FAR=1e-3"),
        (numbers.label("eer"), "EER"),
        (numbers.label("rank-1"), "Rank-1"),
        (numbers.label("auc"), "ROC AUC"),
        (numbers.duration(12.34), "12.3 s"),
        (numbers.duration(754), "12 min 34 s"),
        (numbers.duration(7800), "2 h 10 min"),
        (numbers.plural(1, "thread"), "1 thread"),
        (numbers.plural(1000, "sample"), "1,000 samples"),
    ],
)
def test_figures_are_written_as_agreed(written: str, expected: str) -> None:
    assert written == expected


def test_directions() -> None:
    assert all(map(numbers.higher_is_better, ["accuracy", "tar@far=1e-3", "auc", "rank-1"]))
    assert not any(map(numbers.higher_is_better, ["eer", "fnmr@fmr=1e-3", "mindcf"]))


def test_an_operating_point_is_read_from_the_name() -> None:
    assert numbers.operating_point("tar@far=1e-4") == 1e-4
    assert numbers.operating_point("accuracy") is None
