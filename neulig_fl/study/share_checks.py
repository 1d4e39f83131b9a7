"""What a stage's shares must be: their queries, fractions, examples, and protections."""

from __future__ import annotations

from collections.abc import Iterator

from neulig_fl.config.problems import Problem, quoted
from neulig_fl.config.schema import Scenario
from neulig_fl.config.stages import Share
from neulig_fl.config.values import (
    MODEL_KINDS,
    TRIMMED,
    WITHOUT_QUERIES,
)
from neulig_fl.privacy import accountant
from neulig_fl.records import kinds, protections
from neulig_fl.records.kinds.trimmed_task_vector import MOST_KEPT
from neulig_fl.records.protections import Placed


def wrong_shares(scenario: Scenario) -> Iterator[Problem]:
    """Queries and fractions that a kind does not have, and records that are asked for twice."""
    for i, stage in enumerate(scenario.stages):
        asked: set[tuple[str, str | None]] = set()
        for j, share in enumerate(stage.share):
            wrong = _wrong_queries(share)
            if wrong:
                yield Problem(("stages", i, "share", j, "queries"), wrong)
            wrong = _wrong_fraction(share)
            if wrong:
                yield Problem(("stages", i, "share", j, "fraction"), wrong)
            new = {(share.kind, query) for query in share.queries or (None,)}
            if asked & new:
                what = f"{share.kind} is asked for twice in this stage; keep one of the entries"
                yield Problem(("stages", i, "share", j), what)
            asked |= new


def wrong_examples(scenario: Scenario) -> Iterator[Problem]:
    """What is measured on examples, and on as many of them in every stage."""
    first: dict[str, int] = {}
    for i, stage in enumerate(scenario.stages):
        for j, share in enumerate(stage.share):
            steps, got = ("stages", i, "share", j, "examples"), f"(got {quoted(share.examples)}"
            measured_on = kinds.examples(share)
            if measured_on is None:
                if share.examples is not None:
                    measured = " and ".join(kinds.those(lambda kind: kind.measured))
                    what = f"only {measured} are measured on examples {got})"
                    yield Problem(steps, f"{what}; leave it out")
                continue
            before = first.setdefault(share.kind, measured_on)
            if measured_on != before:
                what = f"another number than before {got}, not {before})"
                yield Problem(steps, f"{what}; the difference of two tells of a few images alone")


def wrong_protections(scenario: Scenario) -> Iterator[Problem]:
    """What each protection's own file finds wrong with its options and with what it is used for."""
    used: dict[str, list[Placed]] = {}
    for i, stage in enumerate(scenario.stages):
        for j, share in enumerate(stage.share):
            steps, guard = ("stages", i, "share", j), protections.load(share.protection.name)
            found = guard.wrong_options(share)
            yield from (Problem((*steps, *p.steps), p.text, p.key) for p in found)
            used.setdefault(share.protection.name, []).extend([] if found else [(steps, share)])
    for name, shares in used.items():
        yield from protections.load(name).problems(scenario, shares)


def wrong_budgets(scenario: Scenario) -> Iterator[Problem]:
    """A delta at which a limit on epsilon bounds nothing."""
    for i, client in enumerate(scenario.clients):
        most, promised = client.policy.budgets, client.policy.budgets.max_epsilon is not None
        empty = accountant.bare(most.max_delta, len(scenario.clients)) if promised else None
        if empty is not None:
            what = f"max_epsilon is judged at it, and {empty}; such as 1e-5"
            yield Problem(("clients", i, "policy", "budgets", "max_delta"), what)


def without_start(scenario: Scenario) -> Iterator[Problem]:
    """A task vector is the difference to a common checkpoint."""
    if scenario.experts.origin == "shared":
        return
    for i, stage in enumerate(scenario.stages):
        for j, share in enumerate(stage.share):
            if share.kind in ("task-vector", TRIMMED):
                yield Problem(
                    ("stages", i, "share", j, "kind"),
                    "experts of diverse origin have no common checkpoint (got "
                    f"{quoted(share.kind)}); allowed: parameters; or take experts.origin: shared",
                )


def _wrong_fraction(share: Share) -> str | None:
    got = f"(got {quoted(share.fraction)})"
    kind = kinds.load(share.kind)
    if kind.keeps_all(share.fraction):
        return f"keeps all of the task vector {got}; give {MOST_KEPT} or less, or share task-vector"
    if share.fraction == 1 or kind.divisible:
        return None
    what = f"{share.kind} leaves whole or not at all {got}; leave fraction out"
    return f"{what}, or share {TRIMMED}" if share.kind in MODEL_KINDS else what


def _wrong_queries(share: Share) -> str | None:
    got = f"(got {quoted(share.queries)})"
    if kinds.load(share.kind).output:
        return None if share.queries else f"{share.kind} answers queries {got}; name a query set"
    if share.kind == "inputs":
        held = share.queries == ("train",)
        return None if held else f"a client holds the inputs of train only {got}; write [train]"
    otherwise = "leave queries out" if share.kind in WITHOUT_QUERIES else "write queries: []"
    return f"{share.kind} answers no queries {got}; {otherwise}" if share.queries else None
