from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from veriquant.checks import QUOTED, explain, parse_json, quoted, whole_number


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    words: tuple[bool, bool] = (True, True)


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, [["x" * 999] * 999] * 999, {"k" * 9999: 1}, 10**6000, b"\0" * 10**6, [10**6000], "\n" * 999, None],
    ids=["text", "lists", "key", "number", "bytes", "number in a list", "lines", "nothing"],
)
def test_a_message_quotes_little_of_anything(value):
    assert len(quoted(value)) <= QUOTED
    assert "\n" not in quoted(value)
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"words": value})
    assert len(explain(caught.value, Settings)) < 3 * QUOTED


def test_an_unknown_key_of_any_length_is_told_shortly():
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"numbr" * 9999: 1})
    assert len(explain(caught.value, Settings)) < 3 * QUOTED


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("9" * 5000, None), ("", None), ("-1", None)],
)
def test_whole_numbers(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["+1", "1_0", " 1", "²", "١", "1.0", "x", "0x1"])
def test_what_is_no_whole_number(text):
    assert whole_number(text) is None


@pytest.mark.parametrize(
    "text",
    ["9" * 5000, "[" * 10**5, '{"a":' * 10**5, "NaN", "-Infinity", "1e999", "", "{", '"\\ud8', b"\xff", "1 2"],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_json_for_everybody_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


def test_json_is_read():
    assert parse_json(b'{"a": [1, 2.5, null, "\xc3\xa9"]}') == {"a": [1, 2.5, None, "é"]}
