"""`veriquant study`: networks × recipes × benchmarks, with a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriquant.cli.app import app
from veriquant.cli.screen import literal, say, table

if TYPE_CHECKING:
    from veriquant.report.blocks import Cell
    from veriquant.results import StudyResult, Variant


@app.command(short_help="Networks × recipes × benchmarks, with a report.")
def study(
    file: Annotated[Path, typer.Argument(help="The study's YAML file.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where results go; else out/<name>.")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the report again from the results there.")
    ] = False,
) -> None:
    """Run every network under every recipe on every benchmark, and write a report.

    \b
    Example of FILE (examples/lfw-int8.yaml in the repository explains every key):
      networks: [face.onnx]
      recipes: [int8-static, int8]
      benchmarks: [lfw:lfw-112x112]
      calibration: photos

    \b
    Examples:
      veriquant study study.yaml
      veriquant study study.yaml --out results/monday
      veriquant study study.yaml --report-only

    Everything computed is kept under the hash of what it was computed from: stopped at any moment, the same command
    goes on from there, and a changed network, recipe or image never meets a stale figure. The full-precision network is
    always part of it. Results: report.html, report.md, results.json, artefacts/*.onnx.
    """  # noqa: D301
    from veriquant.report import write_report
    from veriquant.study import load_study, read_result, run_study
    from veriquant.study.run import keep_apart, output_folder

    config = load_study(file)
    folder = output_folder(config, file, out)
    keep_apart(config, file, folder)
    result = read_result(folder) if report_only else run_study(file, out=folder, command=command())
    paths = write_report(result, folder)
    summary(result)
    say(f"report: {paths.html}")
    say(f"        {paths.markdown}")


def command() -> str:
    """Return what the user typed, for the record."""
    return shlex.join(["veriquant", *sys.argv[1:]])


def summary(result: StudyResult) -> None:
    """Print size, time and recognition of every variant, and what the report recommends."""
    from veriquant.report import numbers, recommend, verdict_metric

    metric = verdict_metric(result)
    for network in result.networks:
        benchmarks = list(network.variants[0].evaluations)
        columns: list[str | tuple[str, str]] = [
            "variant",
            ("MB", "right"),
            ("ms, batch 1", "right"),
            ("× time", "right"),
        ]
        columns += [(f"{name}: {numbers.label(metric)}{numbers.unit(metric)}", "right") for name in benchmarks]
        columns += [f"{name}: verdict" for name in benchmarks]
        rows = [_row(variant, benchmarks, metric) for variant in network.variants]
        say("")
        table(columns, rows, title=literal(network.name))
        say(f"{network.name}: {recommend(network, metric).headline}")
    cited_tables(result)
    if result.synthetic:
        say("SYNTHETIC DATA: the faces are drawn by VeriQuant itself; these figures say nothing about real people.")


def cited_tables(result: StudyResult) -> None:
    """Print the papers' tables that the study asked for, its own rows beside the cited ones."""
    from veriquant.report import cited

    for each in result.tables:
        drawn = cited.drawn(each)
        columns: list[str | tuple[str, str]] = [
            (literal(column.title), "right") if column.number else literal(column.title) for column in drawn.columns
        ]
        say("")
        table(columns, [[_shown(cell) for cell in row] for row in drawn.rows], title=literal(drawn.caption))
        for note in drawn.footnotes:
            say(note)
        say(cited.DIFFERENT)


def _shown(cell: Cell) -> str:
    return f"[dim]{literal(cell.text)}[/dim]" if cell.tone == "muted" and cell.text else literal(cell.text)


def _row(variant: Variant, benchmarks: list[str], metric: str) -> list[str]:
    from veriquant.report import numbers

    time = min(variant.latency, key=lambda latency: latency.batch, default=None)
    ratio = "1" if variant.reference else numbers.ratio(time.ratio_to_reference) if time else "–"
    row = [literal(variant.name), f"{variant.size_bytes / 1e6:.2f}", f"{time.median_ms:.2f}" if time else "–", ratio]
    for name in benchmarks:
        found = variant.evaluations[name].metrics.get(metric)
        value = None if found is None else found.value
        interval = "" if found is None else f" {numbers.metric_interval(metric, found.ci95)}"
        row.append(literal(f"{numbers.metric_value(metric, value)}{interval}" if value is not None else "–"))
    for name in benchmarks:
        verdicts = [each.verdict for each in variant.differences.get(name, []) if each.metric == metric]
        row.append("reference" if variant.reference else verdicts[0] if verdicts else "–")
    return row
