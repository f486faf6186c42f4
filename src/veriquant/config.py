"""`Config`: the base of every part's settings, and how a part is written: its name, or its name with settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from veriquant.checks import explain
from veriquant.errors import VeriQuantError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of a part's settings: frozen, checked, and an unknown key is refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return self.model_dump(mode="json")


class NoSettings(Config):
    """There is nothing to set."""


def split_part(value: Any, key: str, what: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of a part that is written as ``name`` or as ``{name: {settings}}``.

    `key`: where it stands, for the error. Raises `VeriQuantError` for anything else.
    """
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, settings),) = value.items()
        if isinstance(name, str) and (settings is None or isinstance(settings, Mapping)):
            return name, dict(settings or {})
    raise VeriQuantError(
        f"key {key!r}: expected the name of a {what}, or its name with settings as in {{name: {{key: value}}}}, found "
        f"{str(value)[:100]!r}"
    )


def checked(model: type[C], settings: Mapping[str, Any], key: str) -> C:
    """Return settings checked against their model; `VeriQuantError` names the key, `key` before it."""
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        raise VeriQuantError(explain(error, model, under=key)) from error
