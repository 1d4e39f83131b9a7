"""How one figure is printed: the same in Markdown and in a terminal. Null is "-", never 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

NULL = "-"


def number(value: float | None, decimals: int = 2) -> str:
    """A number without a sign of its own.

    Example:
        >>> number(91.4666), number(None), number(-0.0004)
        ('91.47', '-', '0.00')
    """
    if value is None:
        return NULL
    return f"{_no_negative_zero(value, decimals):.{decimals}f}"


def signed(value: float | None) -> str:
    """A gap or difference in percentage points, with its sign.

    Example:
        >>> signed(0.35), signed(-1.2), signed(0.0), signed(None)
        ('+0.35', '-1.20', '0.00', '-')
    """
    if value is None:
        return NULL
    rounded = _no_negative_zero(value, 2)
    return f"{rounded:+.2f}" if rounded else "0.00"


def interval(ends: Sequence[float] | None) -> str:
    """Both ends of an interval.

    Example:
        >>> interval([-1.2, 0.349]), interval(None)
        ('[-1.20, 0.35]', '-')
    """
    return NULL if ends is None else f"[{number(ends[0])}, {number(ends[1])}]"


def percent(share: float | None) -> str:
    """A share of queries, 0 to 1, as a percentage; only all and none print as all and none.

    Example:
        >>> percent(0.1734), percent(0.99999), percent(None)
        ('17.34', '99.99', '-')
    """
    if share is None:
        return NULL
    printed = number(100.0 * share)
    if printed == "100.00" and share < 1.0:
        return "99.99"
    return "0.01" if printed == "0.00" and share > 0.0 else printed


def count(value: int | None) -> str:
    """Rows or bytes, exact.

    Example:
        >>> count(11534336)
        '11,534,336'
    """
    return NULL if value is None else f"{value:,}"


def size(value: int) -> str:
    """Bytes in the unit that fits, three digits (1 kB is 1,000 bytes).

    Example:
        >>> size(999), size(1500), size(4933632), size(999_999), size(2 * 10**12)
        ('999 B', '1.50 kB', '4.93 MB', '1.00 MB', '2,000 GB')
    """
    if value < 1000:
        return f"{value} B"
    for power, unit in enumerate(("kB", "MB", "GB"), start=1):
        scaled = value / 1000**power
        if scaled < 999.5 or unit == "GB":
            break
    decimals = max(0, 2 - (scaled >= 9.995) - (scaled >= 99.95))
    return f"{scaled:,.{decimals}f} {unit}"


def epsilon(value: float | str | None) -> str:
    """A privacy parameter; "-" makes no claim, "inf" claims nothing can be said.

    Example:
        >>> epsilon(8), epsilon(0.999999), epsilon(10054.6), epsilon("inf"), epsilon(None)
        ('8', '1', '10,055', 'inf', '-')
    """
    if value is None or isinstance(value, str):
        return value or NULL
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def plain(text: str) -> str:
    r"""Text from elsewhere on one line, without control characters: it may come from a client.

    Example:
        >>> plain("no\x1b[31m\nparameters")
        'no [31m parameters'
    """
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(shown.split())


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of all values; None where one is None or there are none."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _no_negative_zero(value: float, decimals: int) -> float:
    return round(value, decimals) + 0.0
