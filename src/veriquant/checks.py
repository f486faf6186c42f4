"""Turning a failed check of user-written data into one line that names the key."""

from __future__ import annotations

import difflib

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return one line for the first problem: its key's path, what is wrong, and how many more there are.

    With `model`, an unknown key at the top is answered with the near name among the model's fields.
    """
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"]) or "(whole document)"
    if first["type"] == "extra_forbidden":
        line = f"unknown key {key!r}"
        names = [field.alias or name for name, field in model.model_fields.items()] if model is not None else []
        near = difflib.get_close_matches(str(first["loc"][-1]), names, n=1)
        if near:
            line += f" (did you mean {near[0]!r}?)"
        elif len(first["loc"]) == 1 and names:
            line += f"; the keys are: {', '.join(names)}"
    elif first["type"] == "missing":
        line = f"key {key!r} is missing"
    else:
        line = f"key {key!r}: {first['msg']}, found {first['input']!r}"
    more = len(problems) - 1
    return line + (f" (and {more} more)" if more else "")
