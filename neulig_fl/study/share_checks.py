"""What a stage's shares must be: their queries, fractions, examples, and noise."""

from __future__ import annotations

from collections.abc import Iterator

from neulig_fl.config.problems import Problem, shown
from neulig_fl.config.schema import Scenario
from neulig_fl.config.stages import NOISE_KEYS, Share
from neulig_fl.config.values import (
    DIVISIBLE_KINDS,
    MEASURED_KINDS,
    MODEL_KINDS,
    NOISED,
    NOISED_KINDS,
    OUTPUT_KINDS,
    TRIMMED,
)
from neulig_fl.privacy import accountant


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
            steps, got = ("stages", i, "share", j, "examples"), f"(got {shown(share.examples)}"
            if share.measured_on is None:
                if share.examples is not None:
                    what = f"only {' and '.join(MEASURED_KINDS)} are measured on examples {got})"
                    yield Problem(steps, f"{what}; leave it out")
                continue
            before = first.setdefault(share.kind, share.measured_on)
            if share.measured_on != before:
                what = f"another number than before {got}, not {before})"
                yield Problem(steps, f"{what}; the difference of two tells of a few images alone")


def wrong_noise(scenario: Scenario) -> Iterator[Problem]:
    """Noise is said in full, for what it can be added to, and its delta is one for the run."""
    deltas: list[float] = []
    for i, stage in enumerate(scenario.stages):
        for j, share in enumerate(stage.share):
            for key, wrong in _faults_of_noise(scenario, share):
                yield Problem(("stages", i, "share", j, *key), wrong)
            if share.delta is not None and share.delta not in (deltas or [share.delta]):
                what = f"another delta than before (got {shown(share.delta)}, not {deltas[0]:g})"
                steps = ("stages", i, "share", j, "delta")
                yield Problem(steps, f"{what}; what a run gives away in all has one delta")
            deltas += [] if share.delta is None else [share.delta]
    for i, client in enumerate(scenario.clients):
        most, promised = client.policy.limits, client.policy.limits.max_epsilon is not None
        empty = accountant.bare(most.max_delta, len(scenario.clients)) if promised else None
        if empty is not None:
            what = f"max_epsilon is judged at it, and {empty}; such as 1e-5"
            yield Problem(("clients", i, "policy", "limits", "max_delta"), what)


def _faults_of_noise(scenario: Scenario, share: Share) -> Iterator[tuple[tuple[str, ...], str]]:
    given = [key for key in NOISE_KEYS if getattr(share, key) is not None]
    if share.protection != NOISED:
        for key in given:
            what = f"only protection gaussian reads it (got {shown(getattr(share, key))})"
            yield (key,), f"{what}; leave {key} out, or set protection: gaussian"
        return
    if share.kind not in NOISED_KINDS:
        allowed = ", ".join(NOISED_KINDS)
        yield (
            ("kind",),
            f"no noise can be added to it (got {shown(share.kind)}); allowed: {allowed}",
        )
    if share.kind in MODEL_KINDS and scenario.experts.origin == "diverse":
        yield (
            ("protection",),
            'noise is added to the difference to a common checkpoint (got "gaussian" with origin: '
            "diverse); allowed: none, sealed; or take experts.origin: shared",
        )
    lacking = [key for key in ("clip", "delta") if key not in given]
    if lacking:
        yield (
            (),
            f"protection gaussian needs {' and '.join(lacking)}, such as clip: 10, delta: 1e-5",
        )
    empty = None if share.delta is None else accountant.bare(share.delta, len(scenario.clients))
    if empty is not None:
        yield ("delta",), f"{empty}; clients allow 1e-5 at most, unless their max_delta is larger"
    if ("epsilon" in given) == ("noise_multiplier" in given):
        got = "both" if "epsilon" in given else "neither"
        yield (), f"protection gaussian needs epsilon or noise_multiplier (got {got}); give one"


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
                    f"{shown(share.kind)}); allowed: parameters; or take experts.origin: shared",
                )


def _wrong_fraction(share: Share) -> str | None:
    got = f"(got {shown(share.fraction)})"
    if share.kind == TRIMMED:
        whole = f"keeps all of the task vector {got}; give a smaller fraction, or share task-vector"
        return whole if share.fraction == 1 else None
    if share.fraction == 1 or share.kind in DIVISIBLE_KINDS:
        return None
    what = f"{share.kind} leaves whole or not at all {got}; leave fraction out"
    return f"{what}, or share {TRIMMED}" if share.kind in MODEL_KINDS else what


def _wrong_queries(share: Share) -> str | None:
    got = f"(got {shown(share.queries)})"
    if share.kind in OUTPUT_KINDS:
        return None if share.queries else f"{share.kind} answers queries {got}; name a query set"
    if share.kind == "inputs":
        held = share.queries == ("train",)
        return None if held else f"a client holds the inputs of train only {got}; write [train]"
    return f"{share.kind} answers no queries {got}; leave queries out" if share.queries else None
