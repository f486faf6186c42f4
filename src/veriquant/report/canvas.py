"""What all charts share: looks of variants, titles, axes and frames, and how names and figures are put into them."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from veriquant.report.palette import Palette

Figure = dict[str, Any]
MARGIN_COLOUR = "#d0342c"
SHADE = "rgba(128,134,145,0.14)"
LONGEST_NAME = 42


@dataclass(frozen=True)
class Look:
    """What all charts share: the variants' looks and what stands under each title."""

    palette: Palette
    warning: str
    """Put under every title: the data are synthetic; empty where they are real."""

    def title(self, text: str, context: str) -> Figure:
        """Return a title with its context, and the warning where there is one."""
        line = " · ".join(filter(None, [context, self.warning]))
        return {"text": f"<b>{plain(text)}</b><br><sub>{plain(line)}</sub>", "x": 0, "xref": "paper", "xanchor": "left"}


def plain(text: str) -> str:
    """Make text harmless where Plotly reads markup: tags lose their meaning, template braces too."""
    return html.escape(text, quote=False).replace("%{", "%\u200b{")


def axis(title: str, **more: Any) -> Figure:
    """Return an axis with its title."""
    return {"title": {"text": title}, "automargin": True, **more}


def frame(title: Figure, xaxis: Figure, yaxis: Figure, height: int = 430, **more: Any) -> Figure:
    """Return a chart's layout; `height` in pixels; whatever else is given replaces what is usual."""
    legend = {"orientation": "h", "y": -0.27, "yanchor": "top", "x": 0}
    margin = {"l": 60, "r": 20, "t": 70, "b": 60}
    return {"title": title, "xaxis": xaxis, "yaxis": yaxis, "height": height, "legend": legend, "margin": margin} | more


def rounded(value: float) -> float:
    """Shorten a float for the page: six significant digits are more than a screen shows."""
    return float(f"{value:.6g}")


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """Keep the end of a long name, where its parts differ."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"
