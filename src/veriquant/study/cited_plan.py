"""Which rows of a study stand in which cited table, and what each column is measured on: settled before any work."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veriquant.benchmarks import Benchmark
from veriquant.cited import CitedTable
from veriquant.errors import VeriQuantError
from veriquant.study.cited_entry import CitedTableEntry
from veriquant.study.config import StudyConfig, duplicates
from veriquant.study.inputs import Inputs, NetworkInputs


@dataclass(frozen=True)
class Line:
    """Networks that share rows of a table: one network, or the folds of one model in order."""

    model: str
    networks: tuple[NetworkInputs, ...]
    measured_on: tuple[tuple[str | None, ...], ...]
    """By network, by column of the table: the name of the benchmark, None where there is none."""

    @property
    def label(self) -> str:
        """What the rows are called: by the network, or by the number of folds."""
        if not self.folded:
            return self.networks[0].network.name
        return "1 fold" if len(self.networks) == 1 else f"{len(self.networks)} folds"

    @property
    def folded(self) -> bool:
        """Whether the networks are folds."""
        return self.networks[0].entry.fold is not None


@dataclass(frozen=True)
class PlannedTable:
    """A cited table and the networks of the study that have rows in it."""

    entry: CitedTableEntry
    cited: CitedTable
    lines: tuple[Line, ...]


def without_rows(tables: Sequence[PlannedTable], inputs: Inputs) -> list[str]:
    """Return the recipes that no table shows, because the study does not say beside which rows they stand."""
    return [recipe.name for recipe in inputs.recipes if recipe.name not in inputs.rows] if tables else []


def plan_tables(config: StudyConfig, inputs: Inputs) -> list[PlannedTable]:
    """Return the tables that a study prints; `VeriQuantError` names the key of what does not fit."""
    return [_planned(f"tables.{number}", entry, config, inputs) for number, entry in enumerate(config.tables)]


def _planned(key: str, entry: CitedTableEntry, config: StudyConfig, inputs: Inputs) -> PlannedTable:
    cited = entry.cited
    _check_columns(key, entry, config, inputs)
    members = _members(key, entry, inputs)
    for each in members:
        if each.entry.model not in cited.models:
            raise VeriQuantError(
                f"key '{key}': network {each.network.name!r} is of the model {each.entry.model!r}, which {entry.table} "
                f"does not have; it has: {', '.join(cited.models)}"
            )
    lines = tuple(
        Line(group[0].entry.model or "", group, tuple(_measured_on(key, entry, each) for each in group))
        for group in _grouped(key, members)
    )
    for line in lines:
        _check_folds(key, entry, line)
    return PlannedTable(entry, cited, lines)


def _members(key: str, entry: CitedTableEntry, inputs: Inputs) -> list[NetworkInputs]:
    """Return the networks that a table is about, in the study's order."""
    there = {each.network.name: each for each in inputs.networks}
    if entry.networks is None:
        members = [each for each in inputs.networks if each.entry.model is not None]
        if not members:
            raise VeriQuantError(f"key '{key}': no network of this study has a 'model' that {entry.table} has rows of")
        return members
    for name in entry.networks:
        if name not in there:
            raise VeriQuantError(
                f"key '{key}.networks': this study has no network {name!r}; it has: {', '.join(there)}"
            )
        if there[name].entry.model is None:
            raise VeriQuantError(f"key '{key}.networks': network {name!r} has no 'model', so it has no row to stand by")
    return [each for name, each in there.items() if name in entry.networks]


def _grouped(key: str, members: Sequence[NetworkInputs]) -> list[tuple[NetworkInputs, ...]]:
    """Return networks alone and folds together, by model, in order of the folds."""
    groups: dict[str, list[NetworkInputs]] = {}
    for each in members:
        entry = each.entry
        name = each.network.name if entry.fold is None else f"folds of {entry.model}"
        groups.setdefault(name, []).append(each)
    for group in groups.values():
        folds = Counter(each.entry.fold for each in group)
        if twice := [fold for fold, count in folds.items() if count > 1]:
            names = [each.network.name for each in group if each.entry.fold == twice[0]]
            raise VeriQuantError(
                f"key '{key}': {' and '.join(names)} are both fold {twice[0]} of {group[0].entry.model}; name under "
                "'networks' of the table those that belong together"
            )
    return [tuple(sorted(group, key=lambda each: each.entry.fold or 0)) for group in groups.values()]


def _measured_on(key: str, entry: CitedTableEntry, network: NetworkInputs) -> tuple[str | None, ...]:
    found: list[str | None] = []
    for column in entry.cited.columns:
        wanted = entry.measured_on(column)
        names = [each.name for each in network.benchmarks if wanted in _called(each)]
        if len(names) > 1:
            raise VeriQuantError(
                f"key '{key}': column {column.heading} could be measured on {' or '.join(map(repr, names))}; say which "
                f"under 'columns', as in {{{column.heading!r}: {names[0]!r}}}"
            )
        found.append(names[0] if names else None)
    return tuple(found)


def _called(benchmark: Benchmark) -> set[str]:
    """Return what a column may call a benchmark: its name, its kind, of a packed file its stem: agedb_30 is agedb30."""
    kind, _, argument = benchmark.source.partition(":")
    packed = {Path(argument).stem.replace("_", sign) for sign in ("", "-")} if kind == "bin" else set()
    return {benchmark.name, kind} | packed


def _check_columns(key: str, entry: CitedTableEntry, config: StudyConfig, inputs: Inputs) -> None:
    """Refuse a column that is to be measured on what there is not, or at an operating point that is not asked for."""
    called = set().union(*(_called(each) for each in inputs.benchmarks))
    for name in entry.columns.values():
        if name not in called:
            known = ", ".join(sorted(called))
            raise VeriQuantError(f"key '{key}.columns': this study has no benchmark {name!r}; it has: {known}")
    for column in entry.cited.columns:
        kind, _, point = column.metric.partition("=")
        if kind == "fnmr@fmr" and not any(math.isclose(float(point), far) for far in config.far):
            raise VeriQuantError(
                f"key 'far': {entry.table} has a column {column.heading}, so {point} must be among the operating points"
            )


def _check_folds(key: str, entry: CitedTableEntry, line: Line) -> None:
    """Refuse folds of which only some are measured, or two on the same benchmark."""
    for number, column in enumerate(entry.cited.columns):
        names = [measured[number] for measured in line.measured_on]
        without = [each.network.name for each, name in zip(line.networks, names, strict=True) if name is None]
        if without and len(without) < len(names):
            raise VeriQuantError(
                f"key '{key}': network {without[0]!r} has no benchmark for column {column.heading}, other folds have"
            )
        if without:
            continue
        places = {each.network.name: _digest(each, name) for each, name in zip(line.networks, names, strict=True)}
        if twice := duplicates(places.values()):
            same = [network for network, digest in places.items() if digest == twice[0]]
            raise VeriQuantError(
                f"key '{key}': {' and '.join(same)} are folds of {line.model} and are measured on the same test data "
                f"(column {column.heading}); give each network its own fold's under 'benchmarks'"
            )


def _digest(network: NetworkInputs, benchmark: str | None) -> str:
    return next(each.digest for each in network.benchmarks if each.name == benchmark)
