"""Tables of papers with the study's own figures beside the cited ones; drawn alike on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from veriquant.report import numbers
from veriquant.report.blocks import Cell, Column, Section, Table, Text
from veriquant.report.canvas import Look
from veriquant.report.cited_chart import by_bits
from veriquant.results import StudyResult, StudyTable, TableColumn, TableFigure, TableRow

PRECISIONS = {"fp32": "FP32", "fixed": "Fixed", "mixed": "Mixed"}
DIFFERENT = (
    "Rows of the source are cited, on its networks and its data; the others are this study's, on other data and after "
    "other training. The two show how figures move with the bits, not which network is better."
)


def section(result: StudyResult, metric: str, look: Look) -> Section | None:
    """Return all tables of a study, each with a chart of its column of `metric`; None where it has none."""
    sections = tuple(
        Section(
            f"cited-{number}",
            table.citation,
            tuple(block for block in (by_bits(table, metric, look), drawn(table)) if block is not None),
        )
        for number, table in enumerate(result.tables, 1)
    )
    return Section("cited", "Beside the source", (Text(DIFFERENT, tone="warn"),), sections) if sections else None


def drawn(table: StudyTable) -> Table:
    """Return a table as it is drawn: a line for each row, the study's behind the one that it stands beside."""
    headings = ["Model", "Precision", "Whose", "Avg. bits", "Size (MB)", "Nominal (MB)", "On disk (MB)"]
    columns = [Column(heading, number=place > 2) for place, heading in enumerate(headings)]
    columns += [Column(f"{column.heading} {_better(column.metric)}") for column in table.columns]
    rows: list[tuple[Cell, ...]] = []
    before: tuple[str, str] = ("", "")
    for row in table.rows:
        group = (row.model, row.precision)
        model = row.model if row.model != before[0] else ""
        precision = PRECISIONS[row.precision] if group != before else ""
        rows.append((Cell(model), Cell(precision), *_cells(row)))
        before = group
    return Table(tuple(columns), tuple(rows), f"{table.citation}: {table.about}; figures in percent", _footnotes(table))


def _better(metric: str) -> str:
    return "(↑)" if numbers.higher_is_better(metric) else "(↓)"


def _cells(row: TableRow) -> list[Cell]:
    sizes = [row.cited_bytes, row.nominal_bytes, row.size_bytes]
    cells = [Cell(row.label), Cell(numbers.number(row.average_bits))]
    cells += [Cell(numbers.NONE if size is None else numbers.megabytes(round(size))) for size in sizes]
    cells += [Cell(_figure(figure)) for figure in row.figures]
    return [Cell(cell.text, tone="muted" if row.cited else "") for cell in cells]


def _figure(figure: TableFigure) -> str:
    if figure.value is None:
        return numbers.NONE
    spread = "" if figure.std is None else f" ± {numbers.percent(figure.std)}"
    return f"{numbers.percent(figure.value)}{spread}{'†' if figure.support == 'weak' else ''}"


def _footnotes(table: StudyTable) -> tuple[str, ...]:
    own = [row for row in table.rows if not row.cited]
    notes = [
        f"Source: {table.source_data}. Size: as it prints it. Nominal: parameters × average bits / 8, of the source's "
        "rows by our own count of parameters; where its average is rounded, the last digit may be another."
    ]
    notes += [f"Ours: {note}." for note in table.notes]
    notes += _measured(table.columns)
    if table.left_out:
        notes.append(f"Not in this table, having no row of the source to stand beside: {', '.join(table.left_out)}.")
    if any(row.folds > 1 for row in own):
        notes.append("±: sample standard deviation over the folds; size, bits and figures are means over them.")
    if any(figure.support == "weak" for row in own for figure in row.figures):
        notes.append("†: rests on fewer impostor comparisons than a firm figure needs (30/f).")
    return (*notes, *_missing(table.columns, own))


def _measured(columns: Sequence[TableColumn]) -> list[str]:
    """Say what our figures of each column are measured on, where the headings alone do not."""
    places: dict[tuple[str, ...], list[str]] = {}
    for column in columns:
        places.setdefault(tuple(column.measured_on), []).append(column.heading)
    told = {names: headings for names, headings in places.items() if names and list(names) != headings}
    return [f"{', '.join(headings)}: ours on {', '.join(names)}." for names, headings in told.items()]


def _missing(columns: Sequence[TableColumn], own: Sequence[TableRow]) -> list[str]:
    """Say why figures of ours are missing: columns with one reason together, with the rows where these are not all."""
    reasons: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for place, column in enumerate(columns):
        rows: dict[str, list[str]] = {}
        for row in own:
            if row.figures[place].value is None:
                rows.setdefault(row.figures[place].note, []).append(row.label)
        for reason, labels in rows.items():
            of = () if len(labels) == len(own) else tuple(labels)
            reasons.setdefault((reason, of), []).append(column.heading)
    return [
        f"{numbers.NONE} {', '.join(headings)}{' of ' + ', '.join(of) if of else ''}: {reason}."
        for (reason, of), headings in reasons.items()
    ]
