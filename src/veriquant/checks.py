"""Reading what users and files say, and turning a failed check into one line that names the key.

Whatever a message shows of its input is cut: a file may hold a line, a key or a number of any length.
"""

from __future__ import annotations

import difflib
import json
import math
from reprlib import Repr
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

#: Characters of its input that a message quotes at most.
QUOTED = 200
#: Digits of the longest whole number that any input may hold: what 64 bits hold.
_DIGITS = 18
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, QUOTED, QUOTED


def cut(text: str, most: int = QUOTED) -> str:
    """Return `text`, or its beginning and '…' where it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def quoted(value: object) -> str:
    """Return what was found as a message shows it: its `repr`, cut."""
    if isinstance(value, str):
        return cut(repr(value[: QUOTED + 1]))
    try:
        return cut(_SHORT.repr(value))
    except ValueError:  # a whole number of thousands of digits, which Python does not write out
        return f"a {type(value).__name__} too large to show"


def whole_number(text: str) -> int | None:
    """Return the whole number, 0 or more, that `text` writes in plain digits; None where it does not, or has 19."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def parse_json(text: str | bytes) -> Any:
    """Return the plain data of a JSON text; raise ValueError for whatever is none that everybody can read.

    NaN and infinity are refused, numbers of thousands of digits too, and nesting beyond what a reader can follow.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{cut(text, 40)} is too large a number")
    return value


def explain(error: ValidationError, model: type[BaseModel] | None = None, under: str = "") -> str:
    """Return one line for the first problem: its key's path, what is wrong, and how many more there are.

    With `model`, an unknown key at the top is answered with the near name among the model's fields. `under`: the key
    that all of it stands under.
    """
    problems = error.errors()
    first = problems[0]
    key = ".".join([*([under] if under else []), *(cut(str(part)) for part in first["loc"])])
    key = quoted(key) if key else ""
    if first["type"] == "extra_forbidden":
        line = f"unknown key {key}"
        names = [field.alias or name for name, field in model.model_fields.items()] if model is not None else []
        near = difflib.get_close_matches(str(first["loc"][-1])[:QUOTED], names, n=1)
        if near:
            line += f" (did you mean {near[0]!r}?)"
        elif len(first["loc"]) == 1 and names:
            line += f"; the keys are: {', '.join(names)}"
    elif first["type"] == "missing":
        line = f"key {key} is missing"
    else:
        message = first["msg"].removeprefix("Value error, ")
        line = f"key {key}: {message}" if key else message
        if first["loc"] and isinstance(first["input"], str | int | float | bool | None):
            line += f", found {quoted(first['input'])}"
    more = len(problems) - 1
    return line + (f" (and {more} more)" if more else "")
