"""The tables and sentences of one stage of a scenario, over its seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neulig_fl.report import figures, rows, settings
from neulig_fl.report.markdown_tables import table, text
from reproduction import order
from reproduction.over_seeds import (
    Method,
    Values,
    gap_interval,
    interval,
    methods,
    shown,
    spread_of,
)


@dataclass(frozen=True)
class StageOver:
    """A stage over seeds.

    Args:
        seeds: in order.
        stages: the stage as each seed has it.
    """

    seeds: tuple[int, ...]
    stages: tuple[Mapping[str, Any], ...]

    @cached_property
    def methods(self) -> list[Method]:
        """All methods in the order of the report's tables."""
        return methods(self.stages)


def render(stage: StageOver) -> Iterator[str]:
    """The parts of a stage's section."""
    yield from averages(stage)
    yield from in_order(stage)
    yield from per_task(stage)
    yield from options(stage)


# ---------------------------------------------------------------- averages


def averages(stage: StageOver) -> Iterator[str]:
    """Every method's averages, its difference to simple averaging, and what it took."""
    yield "#### All methods"
    head = ["Method", "Status", "Merge", "Ensemble", "Gap of means", "95 % CI of the gap"]
    head += [f"Merge minus {order.SIMPLE}", "95 % CI", "Seconds", "Released bytes needed"]
    yield table(head, [_average_row(method, stage) for method in stage.methods], words=2)
    told = [*_why_missing(stage), *_mixing(stage)]
    if told:
        yield bullets(told)


def _average_row(method: Method, stage: StageOver) -> list[str]:
    over = order.over_simple(method, stage.methods)
    seconds = spread_of(method.taken("seconds"))
    return [
        method.label,
        method.status,
        shown(method.average("merge_accuracy")),
        shown(method.average("ensemble_accuracy")),
        shown(method.average("gap_of_means"), signed=True),
        figures.interval(gap_interval(method)),
        shown(over, signed=True),
        figures.interval(interval(over)),
        figures.number(seconds["mean"] if seconds else None),
        _bytes(method.taken("bytes")),
    ]


def _bytes(values: Values) -> str:
    """What every seed needed; the least and the most where they differ."""
    known = sorted({int(value) for value in values if value is not None})
    if not known or None in values:
        return figures.NULL
    ends = [known[0], known[-1]] if len(known) > 1 else known
    return " to ".join(figures.count(value) for value in ends)


def _why_missing(stage: StageOver) -> list[str]:
    """Why figures are missing, in the reports' words."""
    found: dict[str, list[int]] = {}
    for seed, of_seed in zip(stage.seeds, stage.stages, strict=True):
        for sentence in rows.missing(rows.rows(of_seed)):
            found.setdefault(sentence, []).append(seed)
    for method in stage.methods:
        absent = [s for s, r in zip(stage.seeds, method.results, strict=True) if r is None]
        if absent:
            found[f"{method.label}: the report has no such result"] = absent
    return of_seeds(found, len(stage.seeds))


def _mixing(stage: StageOver) -> Iterator[str]:
    """How much NeuLig mixed: a gap of nearly routed queries says little."""
    labels = [method.label for method in stage.methods if method.kind == "NeuLig"]
    for label in labels:
        found = [{row.label: row for row in rows.rows(of)}.get(label) for of in stage.stages]
        experts: Values = tuple(r.average["effective_experts"] if r else None for r in found)
        shares = [r.average["interior"] if r else None for r in found]
        interior: Values = tuple(None if s is None else 100.0 * s for s in shares)
        if spread_of(experts) and spread_of(interior):
            yield (
                f"{label}: {shown(experts)} effective experts; {shown(interior)} % of the "
                "queries are interior"
            )


# ---------------------------------------------------------------- order


def in_order(stage: StageOver) -> Iterator[str]:
    """The order by merge accuracy, each method beside the next, and who beats simple averaging."""
    places = order.ranked(stage.methods)
    if not places:
        return
    yield "#### Ranking of the methods by merge accuracy"
    body = []
    for at, place in enumerate(places, start=1):
        ahead = place.ahead
        verdict = order.verdict(ahead) if ahead else figures.NULL
        cells = [shown(place.method.average("merge_accuracy"))]
        cells += [shown(ahead, signed=True), figures.interval(interval(ahead))] if ahead else []
        cells += [figures.NULL] * (3 - len(cells))
        body.append([str(at), place.method.label, place.method.kind, verdict, *cells])
    head = [
        "Place",
        "Method",
        "Kind",
        "Difference to the next",
        "Merge",
        "Minus the next",
        "95 % CI",
    ]
    yield table(head, body, words=4)
    yield bullets(order.against_simple(stage.methods))


def per_task(stage: StageOver) -> Iterator[str]:
    """Every method's merge accuracy on every task."""
    names = list(dict.fromkeys(name for of_seed in stage.stages for name in rows.tasks(of_seed)))
    merged = [m for m in stage.methods if spread_of(m.average("merge_accuracy"))]
    if merged:
        yield "#### Merge accuracy on each task"
        body = [[m.label, *(shown(m.task(name)) for name in names)] for m in merged]
        yield table(["Method", *names], body)


# ---------------------------------------------------------------- settings


def options(stage: StageOver) -> Iterator[str]:
    """How each merge method was set; what was tuned, and what is an extension."""
    body = []
    for method in stage.methods:
        found = [result["settings"] for result in method.known]
        if all(found):
            body.append([method.label, found[0]["needs"], _options(stage, method), _chosen(found)])
    if body:
        yield "#### Settings"
        yield table(["Method", "Needs", "Options", "Chosen"], body, words=4)
    if extended := extensions(stage):
        yield bullets(extended)


def _options(stage: StageOver, method: Method) -> str:
    """The options; those of each seed where tuning chose different ones."""
    found: dict[str, list[int]] = {}
    for seed, result in zip(stage.seeds, method.results, strict=True):
        if result is not None:
            chosen = settings.options(result["settings"]["options"]) or figures.NULL
            found.setdefault(chosen, []).append(seed)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{_seeds(where)}: {chosen}" for chosen, where in found.items())


def _chosen(found: Sequence[Mapping[str, Any]]) -> str:
    tried = found[0]["tried"]
    if not tried:
        return settings.FIXED
    return f"best of {figures.count(len(tried))} by accuracy on the labelled pool"


def extensions(stage: StageOver) -> list[str]:
    """How rules are extended to this model, and of which methods."""
    found: dict[str, list[str]] = {}
    for method in stage.methods:
        said = method.known[0]["settings"]
        if said and said["extension"]:
            found.setdefault(said["extension"], []).append(method.label)
    return [f"{', '.join(labels)}: extension: {words}" for words, labels in found.items()]


def of_seeds(found: Mapping[str, Sequence[int]], seeds: int) -> list[str]:
    """Sentences, each with the seeds of which it is true where these are not all.

    Args:
        found: the seeds of each sentence.
        seeds: how many there are.
    """
    return [
        sentence if len(where) == seeds else f"{_seeds(where)}: {sentence}"
        for sentence, where in found.items()
    ]


def bullets(sentences: Sequence[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"- {text(sentence)}" for sentence in sentences)


def _seeds(some: Sequence[int]) -> str:
    return f"seed{'s' if len(some) > 1 else ''} {', '.join(str(seed) for seed in some)}"
