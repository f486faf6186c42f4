from collections import Counter

from veriquant.study.units import Units, duration


def test_durations_in_words():
    assert [duration(s) for s in (0.42, 9.96, 61, 240, 7500)] == ["0.4 s", "10 s", "61 s", "4 min", "2 h 05 min"]


def test_time_left_follows_from_what_was_computed():
    said: list[str] = []
    units = Units(Counter({"network": 2, "embeddings": 2, "latency": 1}), said.append)
    units.finished("network", "a", 0.0)
    assert units.time_left() is None
    units.expect("latency", 30.0)
    units.finished("embeddings", "a", 10.0)
    assert units.time_left() == 0.0 + 10.0 + 30.0
    assert said == ["[1/5] network: a (0.0 s)", "[2/5] embeddings: a (10 s; about 40 s left)"]


def test_what_was_there_already_takes_no_time():
    said: list[str] = []
    units = Units(Counter({"embeddings": 2}), said.append)
    units.finished("embeddings", "a", None)
    assert units.time_left() is None
    assert said == ["[1/2] embeddings: a (already there)"]
    assert units.computed == []
