"""Reports: a StudyResult as one HTML file and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from veriquant.files import write_text
from veriquant.report.document import build
from veriquant.report.html import render_html
from veriquant.report.markdown import render_markdown
from veriquant.report.recommendation import Recommendation, recommend, verdict_metric
from veriquant.results import StudyResult

__all__ = ["Recommendation", "ReportPaths", "recommend", "verdict_metric", "write_report"]


class ReportPaths(NamedTuple):
    """Where the two forms of a report were written."""

    html: Path
    markdown: Path


def write_report(result: StudyResult, folder: Path) -> ReportPaths:
    """Write `report.html` (one file, needs no network) and `report.md` into `folder`, each atomically."""
    document = build(result)
    paths = ReportPaths(folder / "report.html", folder / "report.md")
    page, text = render_html(document), render_markdown(document)
    write_text(paths.html, page)
    write_text(paths.markdown, text)
    return paths
