"""A study in sentences: each case's accuracy, what it cost, and how it compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neulig_fl.report import figures
from neulig_fl.report.headline import MODELS
from neulig_fl.report.parts.values import same

RULE = (
    "'More' and 'less' are said of a difference whose 95 % interval (Student's t, paired by seed) "
    "excludes 0; of any other, 'no difference is shown'. With one seed there is no interval, and "
    "neither is said."
)


Study = Mapping[str, Any]


def spread(found: Mapping[str, Any]) -> str:
    """A mean and its standard deviation over seeds.

    Example:
        >>> spread({"mean": 91.5, "sd": 0.25, "ci95": [90.9, 92.1], "values": [91.5]})
        '91.50 +- 0.25'
        >>> spread({"mean": 91.5, "sd": None, "ci95": None, "values": [91.5]})
        '91.50'
    """
    mean = figures.number(found["mean"])
    return mean if found["sd"] is None else f"{mean} +- {figures.number(found['sd'])}"


def size(stage: Mapping[str, Any]) -> str:
    """Bytes that a client had released at a stage's end, in words."""
    least, most = (figures.size(stage["bytes_so_far"][key]) for key in ("least", "most"))
    return most if least == most else f"{least} to {most}"


def revealed(stage: Mapping[str, Any]) -> str:
    """Kinds of record that had been released at a stage's end, with their protections.

    Example:
        >>> record = {"kind": "parameters", "protection": "sealed", "clients": ["north"]}
        >>> revealed({"released_so_far": [record]})
        'parameters (sealed)'
    """
    found = [
        each["kind"] if each["protection"] == "none" else f"{each['kind']} ({each['protection']})"
        for each in stage["released_so_far"]
    ]
    return figures.plain(", ".join(found)) or "nothing"


def last_stages(study: Study) -> dict[str, Mapping[str, Any] | None]:
    """Of each case the last stage that has an accuracy; None where none has."""
    found: dict[str, Mapping[str, Any] | None] = {case["name"]: None for case in study["cases"]}
    found |= {stage["case"]: stage for stage in study["stages"] if stage["last"]}
    return found


def answers(study: Study) -> list[str]:
    """The study in sentences: its range, each case against one, what failed, each case alone.

    Args:
        study: the content of study.json, its own sentences left out.
    """
    said = (*_range(study), *_against(study), *missing(study), *_cases(study))
    return [figures.plain(each) for each in said]


def _range(study: Study) -> Iterator[str]:
    """From which accuracy to which, with the bytes for it."""
    stages = [s for s in last_stages(study).values() if s and s["headline"]["accuracy"]["mean"]]
    ordered = sorted(stages, key=lambda stage: stage["headline"]["accuracy"]["mean"])
    if len(ordered) < 2 or same(*(ordered[at]["headline"]["accuracy"]["mean"] for at in (0, -1))):
        return
    least, most = (
        f"{spread(stage['headline']['accuracy'])} % ({stage['case']}: {size(stage)} from a client)"
        for stage in (ordered[0], ordered[-1])
    )
    yield f"Accuracies lie between {least} and {most}."


def _against(study: Study) -> Iterator[str]:
    """Every case's last stage against that of the case `versus`, in one sentence."""
    found = [each for each in study["comparisons"] if each["last"] and each["joint"]]
    if found:
        told = "; ".join(f"{each['case']}, {difference(each)}" for each in found)
        yield f"Against {study['versus']}: {told}."


def difference(found: Mapping[str, Any]) -> str:
    """A difference from the case `versus`, by `RULE`.

    Example:
        >>> spread = {"mean": 1.5, "sd": 0.4, "ci95": [0.5, 2.5], "values": [1.5]}
        >>> difference({"difference": spread, "word": "more"})
        '1.50 points more [0.50, 2.50]'
    """
    value, ends = found["difference"]["mean"], figures.interval(found["difference"]["ci95"])
    match found["word"]:
        case "missing":
            return "not compared, as a seed lacks a figure"
        case "one-seed":
            return f"{figures.signed(value)} points, with one seed and no interval"
        case "not-shown":
            return f"no difference is shown ({figures.signed(value)} {ends})"
        case word:
            return f"{figures.number(abs(value))} points {word} {ends}"


def _cases(study: Study) -> Iterator[str]:
    """Each case's last stage: its accuracy, without whom, and what a client gave for it."""
    for case, stage in last_stages(study).items():
        if stage is None:
            yield f"{case}: no stage has an accuracy."
            continue
        row = stage["headline"]
        what = f"{row['label']}, {MODELS[row['quantity']]} {spread(row['accuracy'])} %"
        without = f", without {', '.join(stage['without'])}" if stage["without"] else ""
        yield f"{case}: {what}{without} after {size(stage)} from a client ({revealed(stage)})."


def missing(study: Study) -> Iterator[str]:
    """Runs that failed, with their reasons."""
    for run in study["runs"]:
        if run["state"] == "failed":
            yield f"Failed: {run['case']}, seed {run['seed']}: {run['reason']}"


def seeds(study: Study) -> str:
    """The seeds, as a table's heading has them."""
    found: Sequence[int] = study["seeds"]
    return f"seed{'s' * (len(found) > 1)} {', '.join(map(str, found))}"
