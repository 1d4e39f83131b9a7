"""Benchmarks: one file each, found by its file name, with `measure(repeats) -> Measurement`.

No test asserts a time; these figures are ratios, or stand beside one, measured in one run on one
machine: figures of different machines are not to be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measurement:
    """What one benchmark found.

    Args:
        name: the benchmark.
        what: what the figure is, a few words.
        figure: the median over repetitions.
        unit: of the figure.
        goal: what it should be, in words.
        met: whether it is.
        values: every repetition's figure.
        details: other figures of the same run.
    """

    name: str
    what: str
    figure: float
    unit: str
    goal: str
    met: bool
    values: list[float]
    details: dict[str, float] = field(default_factory=dict)


def sentence(found: Measurement) -> str:
    """A measurement in a few lines of text.

    Example:
        >>> found = Measurement("x", "time", 1.024, "of direct", "under 1.05", True, [1.024])
        >>> print(sentence(found))
        x: time: 1.024 of direct (goal: under 1.05; met)
    """
    verdict = "met" if found.met else "NOT met"
    lines = [
        f"{found.name}: {found.what}: {rounded(found.figure)} {found.unit} "
        f"(goal: {found.goal}; {verdict})"
    ]
    if len(found.values) > 1:
        low, high = rounded(min(found.values)), rounded(max(found.values))
        lines.append(f"  from {low} to {high} over {len(found.values)} repetitions")
    lines += [f"  {name}: {rounded(value)}" for name, value in found.details.items()]
    return "\n".join(lines)


def rounded(value: float) -> str:
    """A figure with the digits that matter.

    Example:
        >>> rounded(61234.5), rounded(1.0237), rounded(0.00012)
        ('61,234', '1.024', '0.00012')
    """
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
