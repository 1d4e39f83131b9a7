"""The question that a run answers, and its answer in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neulig_fl.report import figures, timeline
from neulig_fl.report.timeline import StageLine


def question(report: Mapping[str, Any]) -> str:
    """What a run asks, from what its stages release."""
    lines = timeline.stage_lines(report)
    first, last = _ends(lines)
    if first is last:
        return (
            f"What does the joint model reach where each client shares {_shared(first)}, "
            "and what does each give away?"
        )
    return (
        f"When the partners' rules move from {figures.plain(first.name)} ({_shared(first)}) to "
        f"{figures.plain(last.name)} ({_shared(last)}), what does the joint model lose or gain, "
        "and what does each client give away?"
    )


def answer(report: Mapping[str, Any]) -> str:
    """The answer, with its interval where two stages answer the same queries.

    It compares the last stage that has an accuracy and the first, of the first's group.
    """
    spoken = [line for line in timeline.stage_lines(report) if line.row]
    if not spoken:
        return "No stage has an accuracy: the reasons stand below."
    first, last = _ends(spoken)
    cost = f"each client gave away {last.released}"
    if first is last:
        return figures.plain(
            f"{timeline.headline_words(last)}{_missing(last)}{_gap(last)}; {cost}."
        )
    found = timeline.joint_difference(report, last.name, first.name)
    both = f"{_accuracy(last)}, {_accuracy(first)}"
    gave = f"Up to {last.name}, {cost} in all; up to {first.name}, {first.released}."
    gave += _between(spoken, first, last)
    if found is None:
        return figures.plain(
            f"{both}; the two do not answer the same queries, so no interval is given. {gave}"
        )
    value, (low, high) = found["difference"], found["ci95"]
    verdict = "No difference is shown"
    if low > 0 or high < 0:
        verdict = f"{figures.number(abs(value))} points {'gained' if value > 0 else 'lost'}"
    change = f"{figures.signed(value)} points, 95 % interval {figures.interval((low, high))}"
    return figures.plain(f"{verdict}: {both} ({change}). {gave}")


def _ends(lines: list[StageLine]) -> tuple[StageLine, StageLine]:
    """The first line, and the last of its group."""
    return lines[0], [line for line in lines if line.group == lines[0].group][-1]


def _shared(line: StageLine) -> str:
    return "; ".join(line.given) or "nothing"


def _accuracy(line: StageLine) -> str:
    merge, ensemble = (line.average[f"{side}_accuracy"] for side in ("merge", "ensemble"))
    model, value = ("ensemble", ensemble) if merge is None else ("merged model", merge)
    method = "" if line.label.startswith("NeuLig") else f" ({line.label})"
    return f"the {model} of {line.name}{method}{_missing(line)} has {figures.number(value)} %"


def _between(spoken: list[StageLine], first: StageLine, last: StageLine) -> str:
    """What a stage between the two has, where it is more than both: no reader should miss it."""
    between = [line for line in spoken if line.group == first.group][1:-1]
    best = max(between, key=_joint, default=None)
    if best is None or _joint(best) <= max(_joint(first), _joint(last)):
        return ""
    return f" In between, {_accuracy(best)} for {best.released} from each client."


def _joint(line: StageLine) -> float:
    merge, ensemble = (line.average[f"{side}_accuracy"] for side in ("merge", "ensemble"))
    found: float = ensemble if merge is None else merge
    return found


def _gap(line: StageLine) -> str:
    """Of a single stage: the merged model beside its ensemble."""
    gap, ends = (line.average[key] for key in ("gap_of_means", "gap_of_means_ci95"))
    if gap is None:
        return ""
    return (
        f" ({figures.signed(gap)} points from its ensemble, 95 % interval {figures.interval(ends)})"
    )


def _missing(line: StageLine) -> str:
    return f", without {line.without}," if line.without != figures.NULL else ""
