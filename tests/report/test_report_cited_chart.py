"""The chart of what the bits cost, a paper's networks and the study's each against its own full precision."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest
from report_fakes import study

from veriquant.report.blocks import Chart
from veriquant.report.canvas import Look
from veriquant.report.cited_chart import by_bits
from veriquant.report.document import build
from veriquant.report.html import render_html
from veriquant.report.palette import Palette
from veriquant.results import StudyTable, TableColumn, TableFigure, TableRow


def row(
    label: str, precision: str, bits: float, auc: float | None, eer: float | None, model: str = "Small"
) -> TableRow:
    return TableRow.model_validate(
        {
            "cited": label == "source", "whose": label.partition(" · ")[0], "label": label,
            "model": model, "precision": precision, "average_bits": bits,
            "figures": [TableFigure(value=value) for value in (auc, eer)],
        }
    )  # fmt: skip


def table(*rows: TableRow) -> StudyTable:
    own = [
        row("net · fp32", "fp32", 32, None, 0.10),
        row("net · fixed", "fixed", 4, None, 0.13),
        row("net · m · 1", "mixed", 6, None, 0.09),
        row("net · m2", "mixed", 2, None, 0.12),
    ]
    cited = [
        row("source", "fp32", 32, 0.99, 0.04),
        row("source", "fixed", 8, 0.99, 0.05),
        row("source", "fixed", 4, 0.60, 0.50),
        row("source", "mixed", 2, 0.98, 0.03),
        row("source", "fp32", 32, 0.99, 0.04, model="Large"),
        row("source", "mixed", 2, 0.99, 0.02, model="Large"),
    ]
    columns = [TableColumn(heading="AUC", metric="auc"), TableColumn(heading="EER", metric="eer")]
    return StudyTable(
        name="t", citation="A paper, Table 1", about="", source_data="", columns=columns, rows=[*cited, *own, *rows]
    )


def chart(of: StudyTable, metric: str = "auc") -> Chart:
    found = by_bits(of, metric, Look(Palette([]), ""))
    assert found is not None
    return found


def lines(of: Chart) -> dict[str, tuple[list[float], list[float]]]:
    figure = go.Figure(of.figure)  # refuses unknown properties
    return {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}


def test_each_network_is_drawn_against_its_own_full_precision() -> None:
    found = lines(chart(table()))  # of EER: the study has no AUC
    assert found.keys() == {"Small, source: fixed", "Small, source: mixed", "Small, net: fixed", "Small, net: mixed"}
    assert found["Small, source: fixed"] == ([8], [pytest.approx(1)])
    assert found["Small, source: mixed"] == ([2], [pytest.approx(-1)])
    assert found["Small, net: fixed"] == ([4], [pytest.approx(3)])
    assert found["Small, net: mixed"] == ([6, 2], pytest.approx([-1, 2]))


def test_what_lies_beyond_the_chart_is_said() -> None:
    assert "Small of the source at 4.00 bits everywhere (+46.00 points)" in chart(table()).about


def test_the_column_of_the_verdict_is_drawn_where_the_study_has_it() -> None:
    own = [row("other · fp32", "fp32", 32, 0.9, 0.1), row("other · m", "mixed", 3, 0.8, 0.1)]
    drawn = chart(table(*own))
    assert lines(drawn)["Small, other: mixed"] == ([3], [pytest.approx(-10)])
    assert "up is better" in drawn.figure["layout"]["yaxis"]["title"]["text"]
    assert "down is better" in chart(table(*own), "eer").figure["layout"]["yaxis"]["title"]["text"]


def test_without_figures_or_without_full_precision_there_is_none() -> None:
    for rows in ([], [row("net · m", "mixed", 2, 0.9, 0.1)], [row("net · fp32", "fp32", 32, 0.9, 0.1)]):
        empty = table().model_copy(update={"rows": [*[each for each in table().rows if each.cited], *rows]})
        assert by_bits(empty, "auc", Look(Palette([]), "")) is None


def test_it_stands_above_its_table_in_the_report() -> None:
    result = study("net")
    result.tables.append(table())
    written = render_html(build(result))
    assert 0 < written.index("what the bits cost") < written.index("A paper, Table 1:")
