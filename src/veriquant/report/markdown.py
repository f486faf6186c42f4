"""A `Document` as GitHub Markdown: the same sentences and tables as the page, without its charts."""

from __future__ import annotations

import html
import re

from veriquant.report.blocks import Block, Bullets, Cell, Chart, Document, Folded, Row, Section, Table, Text, Tiles

SPECIAL = re.compile(r"([\\`*|#~]|(?<!\w)_|_(?!\w)|(?<=\])[(\[:])")
"""What could start markup; an underscore inside a word and the brackets of an interval cannot."""


def escape(text: str) -> str:
    """Make text harmless in Markdown: no markup, no HTML, no broken table."""
    return SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def render_markdown(document: Document) -> str:
    """Write the document."""
    parts = [f"# {escape(document.title)}", escape(document.subtitle)]
    if document.warning:
        parts.insert(0, f"> **{escape(document.warning)}**")
    for section in document.sections:
        parts += _section(section, 2)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, depth: int) -> list[str]:
    parts = [f"{'#' * depth} {escape(section.title)}"]
    for block in section.blocks:
        parts += _block(block)
    for inner in section.sections:
        parts += _section(inner, min(6, depth + 1))
    return parts


def _block(block: Block) -> list[str]:
    match block:
        case Table():
            return _table(block)
        case Text():
            return [_text(block)]
        case Bullets():
            marks = (f"{i}." if block.numbered else "-" for i in range(1, len(block.items) + 1))
            return ["\n".join(f"{mark} {escape(item)}" for mark, item in zip(marks, block.items, strict=True))]
        case Tiles():
            return ["\n".join(f"- {t.label} **{escape(t.value)}** {escape(t.sub)}".rstrip() for t in block.tiles)]
        case Chart():
            return []
        case Row():
            return [part for inner in block.blocks for part in _block(inner)]
        case Folded():
            inner_parts = [part for inner in block.blocks for part in _block(inner)]
            summary = html.escape(" ".join(block.summary.split()), quote=False)
            return [f"<details><summary>{summary}</summary>", *inner_parts, "</details>"]


def _text(block: Text) -> str:
    lead = f"**{escape(block.lead)}**" if block.lead else ""
    if block.tone and not lead:
        return f"**{escape(block.text)}**"
    return f"{lead} {escape(block.text)}".strip()


def _table(table: Table) -> list[str]:
    heads = [escape(column.title) for column in table.columns]
    lines = [heads, ["---:" if column.number else "---" for column in table.columns]]
    lines += [[_cell(cell) for cell in row] for row in table.rows]
    parts = [f"**{escape(table.caption)}**"] if table.caption else []
    parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return parts + [escape(note) for note in table.footnotes]


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.tone in ("good", "bad", "warn"):
        text = f"**{text}**" if text else ""
    return "<br>".join([text, *(escape(line) for line in cell.sub)])
