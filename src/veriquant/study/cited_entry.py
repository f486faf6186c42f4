"""`CitedTableEntry`: which cited table a study prints, with which of its networks, each column measured on what."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from veriquant.cited import CitedColumn, CitedTable, load_cited
from veriquant.errors import VeriQuantError
from veriquant.settings_file import Checked


class CitedTableEntry(Checked):
    """One table of a paper, by the name that its data have in the package, such as ``kolf-1``."""

    short_for: ClassVar[str] = "table"
    table: str
    networks: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of the study's networks that it is about; without it, all that have a `model`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """What columns are measured on, a kind of benchmark or a benchmark's name: by heading, by metric, and by '*' for
    the rest. Without it, on the kind that the table names."""

    @model_validator(mode="after")
    def _of_this_table(self) -> CitedTableEntry:
        try:
            columns = self.cited.columns
        except VeriQuantError as error:
            raise ValueError(str(error)) from error
        known = dict.fromkeys(["*", *(c.heading for c in columns), *(c.metric for c in columns)])
        if unknown := [key for key in self.columns if key not in known]:
            raise ValueError(f"{self.table} has no column {unknown[0]!r}; there are: {', '.join(known)}")
        return self

    @property
    def cited(self) -> CitedTable:
        """The table itself."""
        return load_cited(self.table)

    def measured_on(self, column: CitedColumn) -> str:
        """Return the kind or the name of the benchmark that a column is measured on."""
        keys = (column.heading, column.metric, "*")
        return next((self.columns[key] for key in keys if key in self.columns), column.benchmark)
