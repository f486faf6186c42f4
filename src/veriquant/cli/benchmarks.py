"""`veriquant benchmarks`: the protocols that can be read, and what must lie on disk for each."""

from __future__ import annotations

from veriquant.cli.app import app
from veriquant.cli.screen import literal, table


@app.command(short_help="What can be written as --benchmark.")
def benchmarks() -> None:
    """List the kinds of benchmark and what each expects on disk.

    \b
    Examples of what can be written as --benchmark:
      lfw:lfw-112x112        a folder with the people's folders and pairs.txt
      bin:agedb_30.bin       a file of InsightFace's
      folder:my-photos       a folder of people's folders, every image against every other
      ufpr:eyes:open_world:1 the first fold of one of UFPR-Periocular's protocols
    """  # noqa: D301
    from veriquant.benchmarks import BENCHMARKS

    kinds = [BENCHMARKS.get(name) for name in BENCHMARKS]
    rows = [(kind.usage, literal(kind.summary), literal(kind.layout)) for kind in kinds]
    table(("benchmark", "what", "expected on disk"), rows)
