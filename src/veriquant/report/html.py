"""A `Document` as one HTML page that needs nothing else: Plotly, styles and figures are inside, nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from veriquant.report.blocks import Document

# What a browser would read as the end of a script, and the two line ends that JavaScript knows and JSON does not.
ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def embedded_json(content: Any) -> Markup:
    """Return JSON that may stand inside a script tag, whatever strings it holds; NaN is refused."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate({ord(sign): code for sign, code in ESCAPED.items()}))


def render_html(document: Document) -> str:
    """Draw the page."""
    environment = Environment(
        loader=PackageLoader("veriquant.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded_json"] = embedded_json
    scripts = [_script(get_plotlyjs()), _script(_source(environment, "report.js"))]
    return environment.get_template("report.html.j2").render(
        document=document,
        style=Markup(_source(environment, "report.css")),
        scripts=[Markup(script) for script in scripts],
        script_sources=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        figure_numbers=_numbers(),
    )


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _script(text: str) -> str:
    """Make a script's text stand unchanged in a page, so that its digest in the page's own policy holds."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _numbers() -> Iterator[int]:
    """Count the charts of a page."""
    number = 0
    while True:
        number += 1
        yield number
