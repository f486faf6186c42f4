"""YAML files that people write, checked: every mistake is one line that names the file and the key.

``${NAME}`` is replaced by an environment variable, wherever it stands in a text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from veriquant.checks import cut, explain, quoted
from veriquant.errors import VeriQuantError
from veriquant.files import read_text
from veriquant.yaml_text import load_yaml

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class Checked(BaseModel):
    """Base of what stands in such a file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    short_for: ClassVar[str] = ""
    """The key whose value may stand there alone, as a text, in place of keys and values."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {cls.short_for: value} if cls.short_for and isinstance(value, str) else value


Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(path: str | os.PathLike[str], model: type[Settings], what: str) -> Settings:
    """Read and check a file; `what` is what errors call it, such as 'study'."""
    return parse_settings(read_text(path, what), str(path), model, what)


def parse_settings(
    text: str, origin: str, model: type[Settings], what: str, variables: Mapping[str, str] | None = None
) -> Settings:
    """Check the text of a file called `origin`. `variables` replace ``${NAME}``; without them, the environment's do."""
    told = f"{what} {origin}"
    try:
        content = load_yaml(text)
    except ValueError as error:
        hint = "; inside [ ] or { } a text with ${…} must stand in quotes" if "${" in text else ""
        raise VeriQuantError(f"{told} is not YAML as settings are written: {error}{hint}") from error
    if not isinstance(content, dict):
        raise VeriQuantError(f"{told} must hold keys and values, found {type(content).__name__}")
    content = _expanded(content, os.environ if variables is None else variables, told, "")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        found = _unknown_first(error)
        raise VeriQuantError(f"{told}: {explain(found, _model_at(model, found.errors()[0]['loc']))}") from error


def _expanded(value: Any, variables: Mapping[str, str], told: str, key: str) -> Any:
    if isinstance(value, dict):
        return {k: _expanded(v, variables, told, f"{key}.{k}" if key else str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_expanded(v, variables, told, f"{key}.{i}") for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if not variables.get(name):
            raise VeriQuantError(
                f"{told}: key {quoted(key)} uses the environment variable {quoted(name)}, which is not set; set it "
                f"with: export {cut(name)}=…"
            )
        return variables[name]

    return _VARIABLE.sub(replaced, value)


def _unknown_first(error: ValidationError) -> ValidationError:
    """Return the problems with unknown keys at the front: a key that is misspelt is not also told to be missing."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    details = [
        InitErrorDetails(type=each["type"], loc=each["loc"], input=each["input"], ctx=each.get("ctx", {}))
        for each in problems
    ]
    return ValidationError.from_exception_data(error.title, details)


def _model_at(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model whose key the last of `place` is, for the near name of an unknown one."""
    for key in place[:-1]:
        field = model.model_fields.get(str(key))
        inner = None if field is None else next(_models_in(field.annotation), None)
        model = inner or model
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type such as ``tuple[Entry, ...] | None`` is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
