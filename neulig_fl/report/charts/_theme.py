"""Colours and type of figures, on a light and on a dark ground, as Vega-Lite's `config`.

The colours are those of Paul Tol's scheme "vibrant" (personal.sron.nl/~pault), which colour-blind
people tell apart; on a dark ground, the blue and the red are lighter.
"""

from __future__ import annotations

from typing import Any

_ON_LIGHT = ["#0077BB", "#EE7733", "#009988", "#CC3311", "#EE3377", "#33BBEE", "#777777"]
_ON_DARK = ["#56A9DD", "#EE7733", "#1FB5A3", "#FF7A66", "#EE3377", "#33BBEE", "#BBBBBB"]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


def light() -> dict[str, Any]:
    """For paper and for a light page."""
    return _config("#1b1f24", "#5b6570", "#d9dee3", _ON_LIGHT)


def dark() -> dict[str, Any]:
    """For a dark page."""
    return _config("#e8eaed", "#a9b1bb", "#3a4149", _ON_DARK)


def _config(ink: str, faint: str, grid: str, category: list[str]) -> dict[str, Any]:
    words = {"labelColor": faint, "titleColor": ink, "labelLimit": 220, "titleFontWeight": 600}
    words["aria"] = False  # a page's figures have words of their own for those who do not see them
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": grid},
        "axis": {**words, "gridColor": grid, "domainColor": faint, "tickColor": faint},
        "legend": {
            **words,
            "orient": "bottom",
            "columns": 3,
            "symbolBaseFillColor": faint,
            "symbolBaseStrokeColor": faint,
        },
        "header": {"labelColor": ink, "titleColor": ink, "labelFontWeight": 600},
        "text": {"color": ink},
        "rule": {"color": ink},
        "mark": {"color": category[0], "aria": False},
        "range": {"category": category},
    }
