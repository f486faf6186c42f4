from __future__ import annotations

import time

import pytest

from veriquant.yaml_text import load_yaml

HOSTILE = {
    "impossible date with a tag": "a: !!timestamp 2001-13-45",
    "empty tag": "a: !!int",
    "empty float": "a: !!float ''",
    "python": "a: !!python/object/apply:os.system [id]",
    "any tag": "a: !mine {b: 1}",
    "binary": "a: !!binary '*'",
    "set": "a: !!set {b, c}",
    "recursion": "a: &a [*a]",
    "recursion in a mapping": "&a {b: *a}",
    "recursion of a key": "? &a [*a]\n: 1",
    "brackets": "a: " + "[" * 1000,
    "braces": "{a: " * 1000,
    "dashes": "- " * 1000,
    "aliases that multiply": "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{n}: &{n} [{', '.join(['*' + p] * 9)}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)),
    "merges that multiply": "a: &a {x: 1}\n"
    + "".join(f"{n}: &{n} {{<<: [{', '.join(['*' + p] * 9)}]}}\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)),
    "digits": "a: " + "9" * 5000,
    "digits in base 60": "a: " + "1:" * 5000 + "1",
    "hexadecimal": "a: 0x" + "f" * 5000,
    "digits of a float": "a: " + "9" * 5000 + ".0",
    "infinity": "a: .inf",
    "overflow": "a: 1.0e+999",
    "NaN": "a: .nan",
    "twice": "a: 1\na: 2",
    "list as key": "? [a]\n: 1",
    "map as key": "? {a: 1}\n: 1",
    "half a character": 'a: "\\ud800"',
    "NUL": 'a: "\\0"',
    "control character": "a: \x07",
    "two documents": "a: 1\n---\nb: 2",
    "unclosed": "a: [",
    "unknown alias": "a: *b",
    "many values": "[" + "1," * 200_000 + "1]",
    "many characters": "a: " + "x" * (2 << 20),
    "directive": "%YAML 9.9\n---\na: 1",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_one_short_line_at_once(text):
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"^[^\n]{5,300}$"):
        load_yaml(text)
    assert time.monotonic() - begun < 20


def test_what_people_write_is_read():
    text = """
a: 2001-13-45
b: 2001-01-01
c: [1, 0x1f, -3, 1_000, 010, 1.5, 1.0e-3, 1e-3]
d: &d {x: yes, y: null, z: ~}
e: {<<: *d, x: no}
1: one
f: '='
"""
    assert load_yaml(text) == {
        "a": "2001-13-45",
        "b": "2001-01-01",
        "c": [1, 31, -3, 1000, 8, 1.5, 1e-3, "1e-3"],
        "d": {"x": True, "y": None, "z": None},
        "e": {"x": False, "y": None, "z": None},
        1: "one",
        "f": "=",
    }
    assert load_yaml("") is None
    assert load_yaml("7") == 7
