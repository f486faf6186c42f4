"""The chart of bits a weight by layer, for networks that came out of iterations."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest
from report_fakes import layers, network, study, variant

from veriquant.report.canvas import Look
from veriquant.report.document import build
from veriquant.report.html import render_html
from veriquant.report.layer_bits import MOST_NAMED, by_layer
from veriquant.report.palette import Palette
from veriquant.results import NetworkStudy, StudyResult


def iterated(count: int = 30) -> StudyResult:
    """A study in which two variants came out of iterations, with average bits that differ from layer to layer."""
    result = study("net")
    for iteration, name in ((3, "third"), (4, "fourth")):
        bits = [8 - iteration + 0.37 * (place % 3) for place in range(count)]
        own = [
            layer.model_copy(update={"weight_bits": each}) for layer, each in zip(layers(0, count), bits, strict=True)
        ]
        own.append(own[0].model_copy(update={"name": "/add/Add", "macs": 0, "weight_bits": None}))
        made = variant(name, 300_000, 1.0, layers=own, iteration=iteration)
        result.networks[0].variants.append(made)
    return result


def drawn(of: NetworkStudy) -> go.Figure:
    figure = by_layer(of, Look(Palette([of]), ""))
    assert figure is not None
    return go.Figure(figure)  # refuses unknown properties


def test_a_line_for_every_iteration_over_the_layers_with_weights() -> None:
    of = iterated().networks[0]
    figure = drawn(of)
    assert [trace.name.split(" (")[0] for trace in figure.data] == ["third", "fourth"]
    for trace, made in zip(figure.data, of.variants[-2:], strict=True):
        assert list(trace.y) == pytest.approx([each.weight_bits for each in made.layers if each.weight_bits])
        assert float(trace.name.split("(")[1][:-1]) == pytest.approx(made.average_bits, abs=0.005)
    assert len(figure.layout.xaxis.ticktext) == 30


def test_many_layers_are_named_by_a_hover_alone() -> None:
    figure = drawn(iterated(MOST_NAMED + 1).networks[0])
    assert figure.layout.xaxis.showticklabels is False
    assert all("block" in text for text in figure.data[0].hovertext)


def test_there_is_none_without_iterations() -> None:
    of = network("net")
    assert by_layer(of, Look(Palette([of]), "")) is None


def test_it_stands_in_the_report_and_averages_in_its_tables() -> None:
    written = render_html(build(iterated()))
    assert "Average bits of each layer" in written
    assert ">5.37<" in written
