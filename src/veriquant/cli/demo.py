"""`veriquant demo`: the main job from end to end, on faces that the package draws itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veriquant.cli.app import app
from veriquant.cli.screen import say


@app.command(short_help="A whole study on synthetic faces, in a minute or two.")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where results go.")] = Path("demo-report"),
    small: Annotated[
        bool, typer.Option("--small", help="A quarter of the faces and one recipe: half a minute, wider intervals.")
    ] = False,
) -> None:
    """Quantize a small network with four recipes, prove what it lost on synthetic faces, and write the report.

    \b
    Examples:
      veriquant demo
      veriquant demo --out /tmp/demo
      veriquant demo --small

    Takes a minute or two on two cores and needs nothing but the package: the faces are drawn by it, the network ships
    with it. The figures show how the report works; they say nothing about real faces. Nothing is opened.
    """  # noqa: D301
    from importlib import resources

    from veriquant.cli.study import command, summary
    from veriquant.report import write_report
    from veriquant.study import parse_study, run_study

    file = resources.files("veriquant.demo").joinpath("small.yaml" if small else "study.yaml")
    text = file.read_text(encoding="utf-8")
    result = run_study(parse_study(text, "the demo"), out=out, command=command())
    paths = write_report(result, out)
    summary(result)
    say(f"report: {paths.html.resolve()}")
    say(f"        {paths.markdown.resolve()}")
