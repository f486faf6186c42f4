"""The tables of a study: the paper's rows, and behind each of them what the study has to stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from veriquant.cited import CitedModel, CitedRow, CitedTable
from veriquant.cited.table import PrecisionKind
from veriquant.metrics import fold_summary
from veriquant.networks.families import FAMILIES
from veriquant.results import NetworkStudy, StudyTable, TableColumn, TableFigure, TableRow, Variant
from veriquant.study.cited_plan import Line, PlannedTable, without_rows
from veriquant.study.inputs import Inputs

#: How far average bits of a fixed width may be from the paper's to be the same width.
_SAME_BITS = 0.05


def study_tables(planned: Sequence[PlannedTable], inputs: Inputs, networks: Sequence[NetworkStudy]) -> list[StudyTable]:
    """Return the tables; `networks` are the study's, evaluated, in the order of `inputs`."""
    by_name = {network.name: network for network in networks}
    return [_table(each, inputs, by_name) for each in planned]


def _table(planned: PlannedTable, inputs: Inputs, networks: dict[str, NetworkStudy]) -> StudyTable:
    cited = planned.cited
    parameters = {name: _parameters(model) for name, model in cited.models.items()}
    sources = [_cited_row(row, parameters[row.model]) for row in cited.rows]
    behind: dict[int, list[TableRow]] = {}
    for line in planned.lines:
        studies = [networks[each.network.name] for each in line.networks]
        for recipe in inputs.recipes:
            if recipe.name in inputs.rows:
                variants = [next(v for v in study.variants if v.name == recipe.name) for study in studies]
                row = _own_row(line, cited, inputs.rows[recipe.name], studies, variants)
                behind.setdefault(_beside(row, variants[0], cited), []).append(row)
    rows = []
    for place, source in enumerate(sources):
        rows += [source, *behind.get(place, [])]
    return StudyTable(
        name=cited.name,
        citation=cited.citation,
        about=cited.about,
        source_data=cited.data,
        columns=[
            TableColumn(heading=column.heading, metric=column.metric, measured_on=_places(planned.lines, number))
            for number, column in enumerate(cited.columns)
        ],
        rows=rows,
        notes=[note for line in planned.lines for note in _told(line, networks)],
        left_out=without_rows([planned], inputs),
    )


def _parameters(model: CitedModel) -> int:
    return FAMILIES.get(model.family).parameters(**model.arguments)


def _cited_row(row: CitedRow, parameters: int) -> TableRow:
    return TableRow(
        cited=True,
        whose="source",
        label="source",
        model=row.model,
        precision=row.precision,
        average_bits=row.average_bits,
        cited_bytes=row.size * 1e6,
        nominal_bytes=parameters * row.average_bits / 8,
        figures=[TableFigure(value=figure / 100) for figure in row.figures],
    )


def _own_row(
    line: Line,
    cited: CitedTable,
    precision: PrecisionKind,
    studies: Sequence[NetworkStudy],
    variants: Sequence[Variant],
) -> TableRow:
    bits = [variant.average_bits for variant in variants if variant.average_bits is not None]
    known = len(bits) == len(variants)
    return TableRow(
        cited=False,
        whose=line.label,
        label=f"{line.label} · {variants[0].name}",
        model=line.model,
        precision=precision,
        average_bits=fmean(bits) if known else None,
        nominal_bytes=fmean(s.learned * b / 8 for s, b in zip(studies, bits, strict=True)) if known else None,
        size_bytes=fmean(variant.size_bytes for variant in variants),
        folds=len(variants),
        figures=[_figure(line, number, column.metric, variants) for number, column in enumerate(cited.columns)],
    )


def _figure(line: Line, number: int, metric: str, variants: Sequence[Variant]) -> TableFigure:
    """Return column `number` of one row: a figure, or the mean over folds that each have their own benchmark."""
    names = [name for measured in line.measured_on if (name := measured[number]) is not None]
    if not names:
        return TableFigure(value=None, support="none", note="not measured here")
    evaluations = [variant.evaluations[name] for variant, name in zip(variants, names, strict=True)]
    if line.folded:
        summary = fold_summary(evaluations).get(metric)
        if summary is not None:
            return TableFigure(value=summary.mean, std=summary.std, support=summary.support, note=summary.note)
    else:
        found = evaluations[0].metrics.get(metric)
        if found is not None:
            return TableFigure(value=found.value, support=found.support, note=found.note)
    return TableFigure(value=None, support="none", note=f"{names[0]} gives no {metric}")


def _beside(row: TableRow, variant: Variant, cited: CitedTable) -> int:
    """Return the place of the paper's row that a row stands behind: the same iteration or width, else the nearest.

    A fixed width that the paper does not have stands behind the paper's last one.
    """
    places = [n for n, each in enumerate(cited.rows) if (each.model, each.precision) == (row.model, row.precision)]
    if not places:
        return max(n for n, each in enumerate(cited.rows) if each.model == row.model)
    if variant.iteration is not None and _iterations(variant) == len(places):
        return places[variant.iteration - 1]
    bits = row.average_bits
    if bits is None:
        return places[-1]
    nearest = min(places, key=lambda place: abs(cited.rows[place].average_bits - bits))
    if row.precision == "fixed" and abs(cited.rows[nearest].average_bits - bits) > _SAME_BITS:
        return places[-1]
    return nearest


def _iterations(variant: Variant) -> int | None:
    """Return how many iterations a recipe goes through, where its allocation goes in iterations."""
    found = variant.recipe_settings.get("allocation", {}).get("iterations")
    return None if found is None else int(found)


def _places(lines: Sequence[Line], number: int) -> list[str]:
    """Return the benchmarks that a column is measured on, in the study's order."""
    names = (measured[number] for line in lines for measured in line.measured_on)
    return list(dict.fromkeys(name for name in names if name is not None))


def _told(line: Line, networks: dict[str, NetworkStudy]) -> list[str]:
    """Return what a reader must know of one network's rows: where it comes from, what it was quantized with."""
    told = []
    for each in line.networks:
        name = each.network.name
        fold = "" if each.entry.fold is None else f", fold {each.entry.fold} of {line.model}"
        images = [f"trained with labels on {each.training_set.note}"] if each.training_set is not None else []
        if each.calibrations:
            images.append(f"unlabelled images: {each.calibrations[max(each.calibrations)].note}")
        tested = ", ".join(f"{b.name} ({len(b.samples)} images)" for b in each.benchmarks)
        source = f"{name}{fold}: {each.network.source}, {networks[name].learned:,} parameters"
        told.append("; ".join([source, *images, f"measured on {tested}"]).replace(".;", ";"))
    return told
