from __future__ import annotations

import html as html_module
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from report_fakes import network, study

from veriquant.errors import VeriQuantError
from veriquant.report import ReportPaths, write_report
from veriquant.report.document import HOW_TO_READ
from veriquant.report.html import embedded_json
from veriquant.report.markdown import escape
from veriquant.report.recommendation import RULES
from veriquant.results import StudyResult

CHARTS = 2 * (2 * 6 + 3)
"""Two networks: on each of two benchmarks forest, histograms, DET, ROC, size and time; three variants' layers."""
SOURCE_COLUMNS = (
    "Accuracy (%)", "TAR@FAR=1e-3 (%)", "TAR@FAR=1e-4 (%)", "ROC AUC", "Size (MB)", "Latency (ms), batch 1, 1 thread",
    "Genuine mean", "Genuine std", "Impostor mean", "Impostor std", "Threshold, Accuracy",
)  # fmt: skip
OUR_COLUMNS = (
    "EER (%)", "Latency (ms), batch 32, 1 thread", "95 % interval", "Verdict", "FMR now at the old threshold",
)  # fmt: skip


class Page(HTMLParser):
    """What a browser would load, which scripts it would run, and what a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: dict[str, int] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._open: dict[str, str | None] | None = None
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self._hidden = tag in ("script", "style")
        self._open = dict(attrs) if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._hidden, self._open = False, None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts.append((self._open, data))
        elif not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        # A place where a long word may be broken is no space.
        return " ".join(" ".join(self.words).replace("@ ", "@").split())

    @property
    def figures(self) -> list[dict[str, Any]]:
        return [json.loads(data) for attrs, data in self.scripts if attrs.get("type") == "application/json"]


@pytest.fixture(scope="module")
def page(paths: ReportPaths) -> Page:
    return Page(paths.html.read_text())


@pytest.fixture(scope="module")
def markdown(paths: ReportPaths) -> str:
    """The Markdown as a reader sees it: without escapes, marks and tags."""
    text = html_module.unescape(re.sub(r"<[^>]*>", " ", paths.markdown.read_text()))
    return " ".join(re.sub(r"\\(.)|\*\*|\|", r"\1", text).split())


def test_both_files_stand_in_the_folder_and_nothing_else(paths: ReportPaths) -> None:
    assert sorted(path.name for path in paths.html.parent.iterdir()) == ["report.html", "report.md"]
    assert (paths.html.name, paths.markdown.name) == ("report.html", "report.md")


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    assert page.addresses
    assert all(address.startswith(("#", "data:")) for address in page.addresses), page.addresses
    assert page.tags.get("link") == 1
    assert "iframe" not in page.tags


def test_plotly_is_inside_once(page: Page) -> None:
    assert sum("plotly.js v" in data[:500] for _, data in page.scripts) == 1


@pytest.mark.parametrize("column", [*SOURCE_COLUMNS, *OUR_COLUMNS])
def test_every_column_is_in_both(column: str, page: Page, markdown: str) -> None:
    assert column in page.text
    assert column in markdown


def test_both_say_the_same(page: Page, markdown: str) -> None:
    """Every figure of the page's text stands in the Markdown as often, and the other way round."""
    figures = re.compile(r"[−+]?\d[\d,]*\.?\d*(?:e[−-]?\d+)?")
    said = page.text.partition("How to read this")[2]  # the contents come first and hold headings only

    def found(text: str) -> dict[str, int]:
        counted: dict[str, int] = {}
        for figure in figures.findall(text):
            counted[figure] = counted.get(figure, 0) + 1
        return counted

    on_page, in_markdown = found(said), found(markdown)
    for number in range(1, len(RULES) + 1):  # the numbers of the list of rules are drawn by the browser
        in_markdown[f"{number}."] = in_markdown.get(f"{number}.", 0) - 1
    assert {k for k, v in in_markdown.items() if v > 0} - set(on_page) == set()
    assert set(on_page) - set(in_markdown) == set()


def test_figures_come_with_intervals_and_guards(page: Page, markdown: str) -> None:
    for text in (page.text, markdown):
        assert re.search(r"98\.\d\d ± 0\.55 \[98\.\d\d, 98\.\d\d\]", text)
        assert "not supported (3,000 impostor comparisons; 30,000 needed)" in text
        assert "† weak: TAR@FAR=1e-3" in text
        assert "No interval for minDCF: too few people." in text


def test_what_a_customer_asks_is_answered(page: Page, markdown: str) -> None:
    for text in (page.text, markdown):
        assert "Use int8: 3.53× smaller (size fell by 71.6 %), faster than FP32" in text
        assert "size fell by 2.9 %" in text
        assert "slower than FP32" in text
        assert "keep the gallery, set the threshold to 0.3489" in text
        assert "enrol again" in text
        assert "FMR 1.64 %† [0.98, 2.79]" in text
        assert "Left in floating point: 3 of 30 operations." in text
        assert "its error alone lowers the cosine below 0.99" in text
        assert "Aaron_Eckhart_0001.jpg" in text
        assert "veriquant study examples/lfw-int8.yaml" in text
        assert "reduce_range was not set" in text
        assert "Intel Xeon" in text
        assert "ISO/IEC 19795-1" in text
        for told in (*HOW_TO_READ, *(rule.text for rule in RULES)):
            assert told in text


def test_no_factor_is_promised_that_was_not_computed(page: Page, markdown: str) -> None:
    for text in (page.text, markdown):
        assert not re.search(r"\d\s*[-–]\s*\d+\s*[x×]", text)


def test_charts_are_valid_plotly_with_titles_and_units(page: Page) -> None:
    assert len(page.figures) == CHARTS
    for figure in page.figures:
        layout = go.Figure(figure).layout  # refuses unknown properties
        assert layout.title.text
        assert layout.xaxis.title.text
        assert len(figure["data"]) >= 1


def test_a_variant_looks_alike_in_all_charts(page: Page) -> None:
    looks: dict[str, set[str]] = {}
    for figure in page.figures:
        for trace in figure["data"]:
            for variant in ("fp32", "int8_dynamic", "int8_static_qdq", "int8"):
                if trace["name"] in (variant, f"{variant} genuine", f"{variant} impostor"):
                    colour = (trace.get("line") or trace["marker"])["color"]
                    looks.setdefault(variant, set()).add(colour)
    assert {len(colours) for colours in looks.values()} == {1}
    assert len({next(iter(colours)) for colours in looks.values()}) == 4


def test_worse_layers_come_first(page: Page) -> None:
    figure = next(f for f in page.figures if f["data"][0]["type"] == "bar")
    errors = {name: x for trace in figure["data"] for name, x in zip(trace["y"], trace["x"], strict=True)}
    ordered = [errors[name] for name in figure["layout"]["yaxis"]["categoryarray"]]
    assert ordered == sorted(ordered)
    assert figure["layout"]["xaxis"]["type"] == "log"


def test_synthetic_data_are_called_that_everywhere(hostile: ReportPaths, page: Page, markdown: str) -> None:
    text = hostile.html.read_text()
    synthetic = Page(text)
    assert '<div class="banner" role="alert">SYNTHETIC DATA: ' in text
    assert hostile.markdown.read_text().startswith("> **SYNTHETIC DATA: ")
    assert all("SYNTHETIC DATA" in figure["layout"]["title"]["text"] for figure in synthetic.figures)
    assert "SYNTHETIC" not in page.text + markdown


def test_a_hostile_name_stays_a_name(hostile: ReportPaths, page: Page) -> None:
    text = hostile.html.read_text()
    written = Page(text)
    assert "window.hacked = true" in written.text
    assert "img" not in written.tags
    runs = [attrs for attrs, _ in written.scripts if attrs.get("type") != "application/json"]
    assert len(runs) == 2
    assert not any("hacked" in data for attrs, data in written.scripts if attrs.get("type") != "application/json")
    assert all("<script" not in figure["layout"]["title"]["text"] for figure in written.figures)
    markdown = hostile.markdown.read_text()
    assert "<script" not in markdown
    assert "<img" not in markdown


def test_json_in_a_page_cannot_end_its_script() -> None:
    text = embedded_json({"</script>": "a\u2028&<!--"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script>": "a\u2028&<!--"}
    with pytest.raises(ValueError, match="JSON"):
        embedded_json(float("nan"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int8_static_qdq", "int8_static_qdq"),
        ("[98.3, 98.9]", "[98.3, 98.9]"),
        ("a|b\nc", "a\\|b c"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[x](javascript:y)", "[x]\\(javascript:y)"),
        ("_x_ *y* `z` ~~s~~", "\\_x\\_ \\*y\\* \\`z\\` \\~\\~s\\~\\~"),
    ],
)
def test_markdown_is_escaped(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_tables_of_the_markdown_are_whole(paths: ReportPaths) -> None:
    cells = re.compile(r"(?<!\\)\|")
    tables = re.findall(r"(?:^\|.*\n)+", paths.markdown.read_text(), re.MULTILINE)
    assert tables
    for table in tables:
        assert len({len(cells.findall(line)) for line in table.splitlines()}) == 1


def bare(result: StudyResult) -> StudyResult:
    """The least that a study may hold: nothing optional was measured."""
    for network_study in result.networks:
        network_study.input = {}
        for variant in network_study.variants:
            variant.latency, variant.layers, variant.notes = [], [], []
            variant.compatibility, variant.differences = {}, {}
            for evaluation in variant.evaluations.values():
                evaluation.metrics = {"eer": evaluation.metrics["eer"].model_copy(update={"ci95": None})}
                evaluation.genuine.histogram, evaluation.impostor.histogram = [], []
                evaluation.curve.threshold, evaluation.curve.fmr, evaluation.curve.fnmr = [], [], []
                evaluation.comparisons, evaluation.benchmark = {}, {}
    return result.model_copy(update={"calibration": {}, "settings": {}, "machine": {}, "started": "yesterday"})


def test_whatever_is_optional_may_be_missing(tmp_path: Path) -> None:
    page = Page(write_report(bare(study("net")), tmp_path).html.read_text())
    assert "net" in page.text
    assert len(page.figures) == 0
    assert "No interval for EER" in page.text


@pytest.mark.parametrize("cut", ["evaluations", "variants", "networks"])
def test_empty_studies_are_written_too(cut: str, tmp_path: Path) -> None:
    result = study("net")
    if cut == "networks":
        result.networks = []
    elif cut == "variants":
        result.networks = [network("net").model_copy(update={"variants": []})]
    else:
        for variant in result.networks[0].variants:
            variant.evaluations, variant.differences, variant.compatibility = {}, {}, {}
    assert write_report(result, tmp_path).markdown.read_text().startswith("# INT8 on faces")


def test_a_benchmark_only_some_variants_have(tmp_path: Path) -> None:
    result = study("net")
    del result.networks[0].variants[3].evaluations["cfp-fp"]
    text = write_report(result, tmp_path).markdown.read_text()
    assert "not measured" in text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VeriQuantError, match=r"report\.html"):
        write_report(study("net"), tmp_path / "file")
