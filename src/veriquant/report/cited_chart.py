"""How far figures move with the bits: a paper's networks and the study's, each against its own full precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from veriquant.report import numbers
from veriquant.report.blocks import Chart
from veriquant.report.canvas import Figure, Look, axis, frame, plain, rounded
from veriquant.report.palette import COLOURS, REFERENCE
from veriquant.results import StudyTable, TableRow

BIT_TICKS = (2, 3, 4, 5, 6, 8)
#: Points of the source's fixed widths further away than so many times the span of all others are left out, and named.
_FAR = 0.5


@dataclass(frozen=True)
class _Point:
    row: TableRow
    bits: float
    change: float
    """Figure minus that of full precision, in points."""


def by_bits(table: StudyTable, metric: str, look: Look) -> Chart | None:
    """Draw the change over average bits, of the models that the study has; None where it has no figure to draw.

    Of the columns the first one of `metric` in which the study has figures, otherwise the first with any.
    """
    measured = [
        place
        for place in range(len(table.columns))
        if any(row.figures[place].value is not None for row in table.rows if not row.cited and row.precision != "fp32")
    ]
    if not measured:
        return None
    place = next((each for each in measured if table.columns[each].metric == metric), measured[0])
    models = {row.model for row in table.rows if not row.cited}
    points = _changes([row for row in table.rows if row.model in models], place)
    if not any(not point.row.cited for point in points):
        return None
    shown, far = _apart(points)
    column = table.columns[place]
    up = numbers.higher_is_better(column.metric)
    title = look.title(f"{column.heading}: what the bits cost", "change against the same network in full precision")
    figure = {
        "data": list(_traces(shown)),
        "layout": frame(
            title,
            axis("average bits a weight", type="log", autorange="reversed", tickvals=list(BIT_TICKS)),
            axis(f"change in points; {'up' if up else 'down'} is better", zeroline=True),
            showlegend=True,
        ),
    }
    return Chart(figure, " ".join(["Lines: mixed precision. Squares: one width for all weights.", *_told(far)]))


def _changes(rows: Sequence[TableRow], place: int) -> list[_Point]:
    full = {_network(row): row.figures[place].value for row in rows if row.precision == "fp32"}
    found = []
    for row in rows:
        value, reference = row.figures[place].value, full.get(_network(row))
        if row.precision != "fp32" and row.average_bits is not None and value is not None and reference is not None:
            found.append(_Point(row, row.average_bits, 100 * (value - reference)))
    return found


def _network(row: TableRow) -> tuple[str, str]:
    return row.whose, row.model


def _apart(points: Sequence[_Point]) -> tuple[list[_Point], list[_Point]]:
    """Part what is drawn from the source's widths that would press all else into a line."""
    kept = [point.change for point in points if not (point.row.cited and point.row.precision == "fixed")] + [0.0]
    low, high = min(kept), max(kept)
    room = _FAR * max(high - low, 0.1)
    far = [point for point in points if not low - room <= point.change <= high + room]
    return [point for point in points if point not in far], far


def _told(far: Sequence[_Point]) -> list[str]:
    if not far:
        return []
    told = ", ".join(
        f"{point.row.model} of the {point.row.whose} at {numbers.number(point.bits)} bits everywhere "
        f"({numbers.number(point.change, signed=True)} points)"
        for point in far
    )
    return [f"Beyond the chart: {told}."]


def _traces(points: Sequence[_Point]) -> Iterable[Figure]:
    series: dict[tuple[str, str, str], list[_Point]] = {}
    for point in points:
        series.setdefault((*_network(point.row), point.row.precision), []).append(point)
    looks: dict[tuple[str, str], str] = {}
    for (whose, model, precision), members in series.items():
        cited = members[0].row.cited
        colour = REFERENCE if cited else looks.setdefault((whose, model), COLOURS[len(looks) % len(COLOURS)])
        mixed = precision == "mixed"
        yield {
            "type": "scatter", "mode": "lines+markers" if mixed else "markers",
            "x": [rounded(point.bits) for point in members], "y": [rounded(point.change) for point in members],
            "name": plain(f"{model}, {whose}: {'mixed' if mixed else 'fixed'}"),
            "line": {"color": colour, "dash": "dot" if cited else "solid"},
            "marker": {"color": colour, "size": 7 if mixed else 10, "symbol": "circle" if mixed else "square-open"},
            "hovertext": [_hover(point) for point in members], "hoverinfo": "text",
        }  # fmt: skip


def _hover(point: _Point) -> str:
    size = point.row.size_bytes if point.row.size_bytes is not None else point.row.cited_bytes
    told = [f"<b>{plain(point.row.model)}</b>, {plain(point.row.label)}", f"{numbers.number(point.bits)} bits a weight"]
    told += [] if size is None else [f"{numbers.megabytes(round(size))} MB"]
    return "<br>".join([*told, f"{numbers.number(point.change, signed=True)} points"])
