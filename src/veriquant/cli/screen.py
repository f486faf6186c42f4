"""What verbs print: tables that keep every column when the output is no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from veriquant.frontends.spec import InputSpec

#: Wide enough that no table is cut or wrapped where nobody can widen the window.
_PIPED_WIDTH = 320

Runtime = Annotated[
    str,
    typer.Option(
        "--runtime", metavar="NAME", help="onnxruntime, openvino, pytorch, or auto: time them and take the fastest."
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="SPEC",
        help="What the network takes, where its file does not say: arcface, arcface-128, facenet, imagenet, raw, or "
        "keys as in '{size: [160, 160], std: [128, 128, 128]}'.",
    ),
]


Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="NAME",
        help="The output that is the embedding, where an .onnx file has several and it cannot be told.",
    ),
]


def screen() -> Console:
    """Return a console on stdout."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def table(columns: Sequence[str | tuple[str, str]], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table. A column is its heading, or heading and 'right'; a cell may carry Rich's markup."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        heading, justify = (column, "left") if isinstance(column, str) else column
        drawn.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    screen().print(drawn)


def say(line: str) -> None:
    """Print a line of plain text, as long as it is."""
    print(line)


def literal(text: str) -> str:
    """Return text for a cell, its square brackets not taken for markup."""
    from rich.markup import escape

    return escape(text)


def parse_input(text: str | None) -> InputSpec | None:
    """Return the input specification of ``--input``."""
    from veriquant.study.entries import input_spec

    if text is None or not text.lstrip().startswith("{"):
        return input_spec(text)
    return input_spec(_yaml(text, "--input"))


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Return the settings of ``--set key=value``, values read as YAML."""
    from veriquant.errors import VeriQuantError

    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise VeriQuantError(f"--set {text}: expected key=value, as in --set reduce_range=true")
        settings[key.strip()] = _yaml(value, f"--set {key}")
    return settings


def _yaml(text: str, origin: str) -> Any:
    from veriquant.checks import quoted
    from veriquant.errors import VeriQuantError
    from veriquant.yaml_text import load_yaml

    try:
        return load_yaml(text)
    except ValueError as error:
        raise VeriQuantError(f"{origin}: {quoted(text)} cannot be read ({error})") from error


def check_writable(path: Any) -> None:
    """Raise before long work, not after it, where a file cannot be written; nothing is left behind."""
    import tempfile
    from pathlib import Path

    from veriquant.errors import VeriQuantError

    final = Path(path)
    if final.is_dir():
        raise VeriQuantError(f"cannot write {final}: it is a folder")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=final.parent):
            pass
    except OSError as error:
        raise VeriQuantError(f"cannot write {final}: {error.strerror or error}") from error
