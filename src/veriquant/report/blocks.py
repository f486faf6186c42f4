"""What a report is made of, before it becomes HTML or Markdown: sections of tables, texts, tiles and charts.

Both outputs are drawn from one `Document`, so that no figure can stand in one and be missing in the other.
All strings are plain text; escaping is the business of the two renderers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Tone = Literal["", "good", "bad", "warn", "muted"]


@dataclass(frozen=True)
class Cell:
    """One cell: the figure, smaller lines under it (its interval, its reason), and the colour of a variant."""

    text: str
    sub: tuple[str, ...] = ()
    tone: Tone = ""
    colour: str = ""


@dataclass(frozen=True)
class Column:
    """A heading; numbers stand to the right. `unit` is the smaller line under the title; long texts are `wide`."""

    title: str
    number: bool = True
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings, with footnotes."""

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    footnotes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Text:
    """A paragraph; `lead` opens it in bold; with a tone it becomes a marked box."""

    kind: ClassVar[str] = "text"
    text: str
    lead: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Bullets:
    """A list; numbered where its items are referred to by number."""

    kind: ClassVar[str] = "bullets"
    items: tuple[str, ...]
    numbered: bool = False


@dataclass(frozen=True)
class Tile:
    """One answer in large letters: what was asked, the figure, and what it rests on."""

    label: str
    value: str
    sub: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Tiles:
    """A row of tiles."""

    kind: ClassVar[str] = "tiles"
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Chart:
    """A Plotly figure as plain data (`data`, `layout`); only the HTML page draws it. `about` says how to read it.

    `least_width`: pixels below which it scrolls sideways instead of shrinking; 0 where it fits any page.
    """

    kind: ClassVar[str] = "chart"
    figure: dict[str, Any]
    about: str = ""
    least_width: int = 0


@dataclass(frozen=True)
class Row:
    """Blocks that stand side by side where the page is wide enough."""

    kind: ClassVar[str] = "row"
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them."""

    kind: ClassVar[str] = "folded"
    summary: str
    blocks: tuple[Block, ...]


Block = Table | Text | Bullets | Tiles | Chart | Row | Folded


@dataclass(frozen=True)
class Section:
    """A heading with blocks under it, then sections of the next depth. `anchor` never comes from user data."""

    anchor: str
    title: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Document:
    """The whole report. `warning` is the banner of synthetic data, empty where the data are real."""

    title: str
    subtitle: str
    warning: str
    sections: tuple[Section, ...]
