"""`CitedTable`: a table of a paper as data: its rows, what its columns measure, and the networks it is of."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import Field, model_validator

from veriquant.errors import VeriQuantError
from veriquant.settings_file import Checked, parse_settings

PrecisionKind = Literal["fp32", "fixed", "mixed"]


class CitedModel(Checked):
    """The registered family that a paper's network is of, with the arguments that give its number of parameters."""

    family: str
    arguments: dict[str, int | float] = Field(default_factory=dict)


class CitedColumn(Checked):
    """A column of figures: its heading, the metric as we name it, and the kind of benchmark that it is measured on."""

    heading: str
    metric: str
    benchmark: str


class CitedRow(Checked):
    """One row: a network at a precision. `size` is in MB of 10^6 bytes, `figures` are in percent, as printed."""

    model: str
    precision: PrecisionKind
    average_bits: float = Field(gt=0)
    size: float = Field(gt=0)
    figures: tuple[float, ...]

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if not isinstance(value, list) or len(value) < 5:
            return value
        model, precision, bits, size, *figures = value
        return {"model": model, "precision": precision, "average_bits": bits, "size": size, "figures": figures}


class CitedTable(Checked):
    """A whole table. `data` says in a phrase what the source's networks were trained and tested on."""

    name: str
    paper: str
    number: int
    about: str
    data: str
    models: dict[str, CitedModel]
    columns: tuple[CitedColumn, ...]
    rows: tuple[CitedRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> CitedTable:
        for row in self.rows:
            if row.model not in self.models:
                raise ValueError(f"row {row.model} {row.average_bits}: 'models' has no {row.model!r}")
            if len(row.figures) != len(self.columns):
                raise ValueError(
                    f"row {row.model} {row.average_bits}: {len(row.figures)} figures for {len(self.columns)} columns"
                )
        return self

    @property
    def citation(self) -> str:
        """Paper and number, as a heading gives them."""
        return f"{self.paper}, Table {self.number}"

    def rows_of(self, model: str, precision: PrecisionKind) -> list[CitedRow]:
        """Return the rows of one network at one kind of precision, as they stand in the table."""
        return [row for row in self.rows if row.model == model and row.precision == precision]


def _shipped() -> tuple[str, ...]:
    names = (entry.name for entry in resources.files("veriquant.cited").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


#: The names of the tables that there are.
CITED = _shipped()


@cache
def load_cited(name: str) -> CitedTable:
    """Return a table by name, such as ``kolf-1``; `VeriQuantError` for an unknown one lists those there are."""
    if name not in CITED:
        raise VeriQuantError(f"unknown cited table {name!r}; there are: {', '.join(CITED)}")
    text = resources.files("veriquant.cited").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return parse_settings(text, f"{name}.yaml", CitedTable, "cited table", {})
