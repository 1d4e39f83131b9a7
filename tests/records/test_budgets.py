"""Budgets: what has left adds up, and what is not known is not within a limit."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config.scenario import Budgets
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge
from neulig_fl.records import budgets, kinds
from neulig_fl.records.budgets import Candidate, counted_rows
from neulig_fl.records.protections import Claims


def _left(kind: str = "features", rows: int = 10, size: int = 40, **more: Any) -> dict[str, Any]:
    """A release as the ledger has it."""
    entry = {"event": "release", "expert": "e", "kind": kind, "rows": rows, "bytes": size}
    return {**entry, "epsilon": None, **more}


def _record(kind: str = "features", **more: Any) -> Candidate:
    return Candidate(
        **{"expert": "e", "kind": kind, "protection": "none", "rows": 5, "bytes": 20, **more}
    )


FITS = 4.06
"""A noise multiplier with which one release keeps to epsilon 1 at delta 1e-5; 4.01 does not."""


def _noise(multiplier: float | None, delta: float | None = 1e-5) -> Claims:
    return Claims(charge=Charge("features", multiplier), delta=delta)


BARE = Candidate("e", "features", "none")
"""A record of which nothing is said but what it is."""


# ---------------------------------------------------------------- rows and bytes


@pytest.mark.parametrize(("most", "reason"), [
    (15, None), (14, "limit max_rows 14: 10 rows of this expert have been released, and this record has 5"),
])  # fmt: skip
def test_rows_add_up_to_the_limit_and_no_further(most: int, reason: str | None) -> None:
    """Without it a client would give one row too many, or one too few."""
    assert budgets.exceeded(Budgets(max_rows=most), [_left("logits")], _record()) == reason


@pytest.mark.parametrize(("most", "reason"), [
    (60, None), (59, "limit max_bytes 59: 40 bytes of this expert have been released, and this record has 20"),
])  # fmt: skip
def test_bytes_add_up_to_the_limit_and_no_further(most: int, reason: str | None) -> None:
    """Without it bytes would be counted, and never stopped."""
    found = budgets.exceeded(Budgets(max_bytes=most), [_left()], _record("offset-sum", rows=None))
    assert found == reason


def test_only_the_experts_own_releases_count() -> None:
    """Without it a refusal, a repeat or another expert's release would use up the limit."""
    others = [
        _left(expert="f"),
        {"event": "refusal", "expert": "e", "kind": "features", "reason": "never"},
        _left(event="repeat"),
        _left("parameters", rows=1, size=0),
    ]
    assert budgets.exceeded(Budgets(max_rows=5, max_bytes=20), others, _record()) is None
    reason = budgets.exceeded(Budgets(max_rows=5), [*others, _left(rows=1)], _record())
    assert (
        reason
        == "limit max_rows 5: 1 rows of this expert have been released, and this record has 5"
    )


def test_an_entry_that_names_no_expert_counts_for_every_one() -> None:
    """Without it releases of an older version of neulig-fl would be forgotten."""
    old = {k: v for k, v in _left().items() if k != "expert"}
    assert budgets.exceeded(Budgets(max_rows=14), [old], _record())


@pytest.mark.parametrize("kind", kinds.names())
def test_which_kinds_have_rows(kind: str) -> None:
    """Without it parameters would count as an answer, or labels as none."""
    models = ("parameters", "task-vector", "trimmed-task-vector")
    counted = kind not in ("offset-sum", *models, "gram", "fisher")
    assert (kind in counted_rows()) == counted
    refused = budgets.exceeded(Budgets(max_rows=4), [], _record(kind)) is not None
    assert refused == counted


# ---------------------------------------------------------------- what is not known


@pytest.mark.parametrize(
    ("said", "candidate", "reason"),
    [
        ({"max_rows": 100}, _record(rows=None), "max_rows 100: the rows of this record are not known"),
        ({"max_bytes": 100}, _record(bytes=None), "max_bytes 100: the bytes .* are not known"),
        ({"max_rows": 100}, BARE, "max_rows 100: the rows of this record are not known"),
        ({"max_bytes": 100}, BARE, "max_bytes 100: the bytes of this record are not known"),
        ({"max_epsilon": 3}, _record(), "max_epsilon 3: with protection none no epsilon is known"),
        ({}, _record(protection="secure-aggregation"), r"max_leverage 0.5 \(the default\): this record's leverage .* not known"),
        (
            {"min_group_size": 3},
            _record(protection="secure-aggregation", claims=Claims(leverage=0.1)),
            "min_group_size 3: how many clients the sum has is not known",
        ),
        (
            {},
            _record(protection="secure-aggregation", claims=Claims(leverage=0.1, group_size=3)),
            r"max_sums 64 \(the default\): how many sums it has been in is not known",
        ),
    ],
)  # fmt: skip
def test_what_a_limit_needs_and_nobody_says_is_refused(
    said: dict[str, Any], candidate: Candidate, reason: str
) -> None:
    """Without it a limit could be passed by saying nothing."""
    found = budgets.exceeded(Budgets(**said), [], candidate)
    assert found is not None
    with pytest.raises(AssertionError, match=f"^limit {reason}"):
        raise AssertionError(found)


def test_a_record_that_goes_into_no_sum_needs_no_leverage() -> None:
    """Without it the default of max_leverage would refuse every plain record."""
    assert budgets.exceeded(Budgets(min_group_size=3), [], _record()) is None


# ---------------------------------------------------------------- claims


@pytest.mark.parametrize(
    ("said", "claims", "fits"),
    [
        ({"max_epsilon": 1.0}, _noise(FITS), True),
        ({"max_epsilon": 1.0}, _noise(FITS - 0.05), False),
        ({"max_epsilon": 1.0}, _noise(None), False),
        ({"max_epsilon": 1.0, "max_delta": 1e-6}, _noise(FITS, 1e-6), False),
        ({"max_epsilon": 1.0, "max_delta": 1e-4}, _noise(FITS - 0.05, 1e-6), True),
        ({"max_delta": 1e-6}, _noise(9.0, 1e-6), True),
        ({"max_delta": 1e-6}, _noise(9.0, 1.1e-6), False),
        ({"max_delta": 1e-6}, _noise(9.0, None), False),
        ({"max_delta": 1e-6}, _noise(9.0, 0.0), False),
        ({"max_delta": 1e-6}, _noise(9.0, math.nan), False),
        ({"max_leverage": 0.7}, Claims(leverage=0.7), True),
        ({"max_leverage": 0.7}, Claims(leverage=0.7 + 1e-12), True),
        ({"max_leverage": 0.7}, Claims(leverage=0.7 + 1e-9), True),
        ({"max_leverage": 0.7}, Claims(leverage=0.7 + 2e-9), False),
        ({"max_leverage": 0.7}, Claims(leverage=math.nan), False),
        ({"max_leverage": 1.0}, Claims(leverage=1.0), True),
        ({}, Claims(leverage=0.5), True),
        ({}, Claims(leverage=0.6), False),
        ({"min_group_size": 3}, Claims(leverage=0.1, group_size=3), True),
        ({"min_group_size": 3}, Claims(leverage=0.1, group_size=2), False),
        ({}, Claims(leverage=0.1, sums=64), True),
        ({"max_sums": 64}, Claims(leverage=0.1, sums=65), False),
        ({"max_sums": 3}, Claims(leverage=0.1, sums=4), False),
    ],
)
def test_claims_are_held_against_their_limits(
    said: dict[str, Any], claims: Claims, fits: bool
) -> None:
    """Without it a protection could be weaker than what its owner asks for."""
    guard = "gaussian" if claims.leverage is None else "secure-aggregation"
    if claims.leverage is not None and claims.sums is None:
        claims = replace(claims, sums=1)
    found = budgets.exceeded(Budgets(**said), [], _record(protection=guard, claims=claims))
    assert (found is None) == fits
    assert fits or f"limit {next(iter(said), 'max_leverage')} " in str(found)


def test_a_delta_is_small_unless_a_policy_says_otherwise() -> None:
    """Without it a stage's delta of 0.99 would make epsilon 0, and every budget endless."""
    noisy = _record(protection="gaussian", claims=_noise(1e-3, 0.99))
    for rules in (Budgets(), Budgets(max_epsilon=1.0), Budgets(max_epsilon=1.0, max_delta=0.5)):
        found = budgets.exceeded(rules, [], noisy)
        default = "" if rules.max_delta == 0.5 else " (the default)"
        assert found == (
            f"limit max_delta {rules.max_delta:g}{default}: the noise is for a delta of 0.99; "
            "budgets: {max_delta: 0.99} in that policy would allow it"
        )
    assert (
        budgets.exceeded(Budgets(), [], _record(protection="gaussian", claims=_noise(9.0))) is None
    )


@pytest.mark.parametrize(("clients", "empty"), [(2, True), (3, True), (4, True), (1, False)])
def test_a_delta_that_leaves_one_model_bare_promises_nothing(clients: int, empty: bool) -> None:
    """Without it a policy's own delta of 1/n would be a promise about all models but one."""
    rules = Budgets(max_epsilon=1.0, max_delta=0.5)
    assert (budgets.delta_refusal(rules, 1e-5, clients) is not None) == (clients > 1) == empty
    assert budgets.delta_refusal(Budgets(max_delta=0.5), 1e-5, clients) is None
    assert (accountant.bare(0.25, clients) is None) == (clients < 4)
    assert accountant.bare(None, clients) is not None


def test_noise_adds_up_over_all_that_has_left() -> None:
    """Without it every record would be judged as if it were the first (law 7)."""
    budget = Budgets(max_epsilon=1.0)
    twice = FITS * math.sqrt(2)
    record = _record(protection="gaussian", claims=_noise(twice))
    spent = _left(noise_multiplier=twice)
    repeat = _left(noise_multiplier=0.1, event="repeat")
    assert budgets.exceeded(budget, [spent, repeat], record) is None
    found = budgets.exceeded(budget, [spent, _left(noise_multiplier=9.0, expert="f")], record)
    assert found is not None, "another expert has seen the same images"
    assert found.startswith(
        "limit max_epsilon 1: with this record all that has been released of this client comes to 1."
    )
    assert found.endswith("at delta 1e-05")


def test_an_epsilon_that_is_met_is_not_exceeded() -> None:
    """Without it a stage that asks for just what a policy allows would be refused."""
    epsilon = accountant.spent([Charge("features", 3.0)], 1e-5).epsilon
    record = _record(protection="gaussian", claims=_noise(3.0))
    assert budgets.exceeded(Budgets(max_epsilon=epsilon), [], record) is None
    assert budgets.exceeded(Budgets(max_epsilon=math.nextafter(epsilon, 0.0)), [], record)


def test_one_release_without_noise_ends_every_epsilon() -> None:
    """Without it a client would promise an epsilon for a model that it has given away."""
    noisy, noised = _record(protection="gaussian", claims=_noise(9.0)), _left(noise_multiplier=9.0)
    budget = Budgets(max_epsilon=3.0)
    assert budgets.exceeded(budget, [noised], noisy) is None
    for bare in (_left(), _left("offset-sum", noise_multiplier=None)):
        found = budgets.exceeded(budget, [noised, bare], noisy)
        assert found == "limit max_epsilon 3: a record has been released without noise"


# ---------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("said", "end"),
    [
        ("2027-03-31", datetime(2027, 4, 1, tzinfo=UTC)),
        ("2027-03-31T18:30:00Z", datetime(2027, 3, 31, 18, 30, tzinfo=UTC)),
        ("2027-03-31T18:30+02:00", datetime(2027, 3, 31, 16, 30, tzinfo=UTC)),
    ],
)
def test_a_policys_time_ends_when_it_says(said: str, end: datetime) -> None:
    """Without it a policy would hold a day, or a time zone, too long."""
    second = timedelta(seconds=1)
    assert budgets.expired(Budgets(not_after=said), end - second) is None
    for late in (end, end + second):
        assert (
            budgets.expired(Budgets(not_after=said), late)
            == f"limit not_after {said}: its time is over"
        )
    assert budgets.expired(Budgets(), end) is None


# ---------------------------------------------------------------- any sequence

RECORDS = st.lists(
    st.builds(
        Candidate,
        expert=st.sampled_from("ef"),
        kind=st.sampled_from(kinds.names()),
        protection=st.just("none"),
        rows=st.integers(1, 9),
        bytes=st.integers(1, 99),
        claims=st.builds(Claims, leverage=st.none() | st.floats(0, 1)),
    ),
    max_size=20,
)


@given(RECORDS, st.integers(1, 40), st.integers(1, 400))
def test_no_sequence_exceeds_a_limit_and_none_is_stopped_early(
    asked: list[Candidate], most_rows: int, most_bytes: int
) -> None:
    """Without it some order of records would add up to more than the limit (law 7)."""
    rules = Budgets(max_rows=most_rows, max_bytes=most_bytes)
    entries: list[dict[str, Any]] = []
    for record in asked:
        size, counted = record.bytes or 0, record.kind in counted_rows()
        mine = [e for e in entries if e["expert"] == record.expert]
        rows = sum(e["rows"] for e in mine if e["kind"] in counted_rows()) + (record.rows or 0)
        fits = (
            (rows <= most_rows or not counted)
            and sum(e["bytes"] for e in mine) + size <= most_bytes
            and (record.claims.leverage or 0.0) <= 0.5 + budgets.ROUNDING
        )
        assert (budgets.exceeded(rules, entries, record) is None) == fits
        if fits:
            entries.append(_left(record.kind, record.rows or 0, size, expert=record.expert))
