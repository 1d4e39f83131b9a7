"""Budgets: how much may leave in all, counted in the client's own ledger.

Releases add up over stages, runs, kinds and query sets: rows and bytes of one expert, epsilon of
all, since experts of other seeds and recipes come from the same images, and one model can have many
names. What is handed out again, byte for byte, is counted once. What a limit has to know and nobody
says is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from neulig_fl.config.policy_rules import Budgets, Policy
from neulig_fl.config.values import SUMS, end_of
from neulig_fl.ledger.chain import Entry
from neulig_fl.ledger.expert_account import charges
from neulig_fl.privacy import accountant
from neulig_fl.privacy.leverage import ROUNDING
from neulig_fl.records import kinds
from neulig_fl.records.protections import Claims


def counted_rows() -> tuple[str, ...]:
    """Kinds whose rows `max_rows` counts: answers to queries, and training inputs."""
    return kinds.those(lambda kind: kind.per_query)


@dataclass(frozen=True)
class Candidate:
    """A record that is about to leave.

    Args:
        expert: tag of the expert, as in the ledger's entries.
        kind: kind of record.
        protection: what is done to it.
        rows: its rows; None for kinds that answer no queries.
        bytes: bytes of its payload as it leaves; None when not known yet.
        claims: what its protection says of it.
    """

    expert: str
    kind: str
    protection: str
    rows: int | None = None
    bytes: int | None = None
    claims: Claims = field(default_factory=Claims)


def exceeded(budgets: Budgets, entries: Sequence[Entry], candidate: Candidate) -> str | None:
    """Which limit a record would exceed; None when it is within all of them.

    Args:
        budgets: of one policy.
        entries: the client's own ledger; entries that name no expert count for every one.
        candidate: the record.

    Returns:
        One line that names the limit, its value and what was counted.

    Example:
        >>> told = {"event": "release", "expert": "e", "kind": "features", "rows": 60, "bytes": 240}
        >>> exceeded(Budgets(max_rows=100), [told], Candidate("e", "logits", "none", 41, 164))
        'limit max_rows 100: 60 rows of this expert have been released, and this record has 41'
    """
    spent = [entry for entry in entries if entry["event"] == "release"]
    checks: tuple[_Check, ...] = (_rows, _bytes, _delta, _epsilon, _leverage, _group_size, _sums)
    found = (check(budgets, spent, candidate) for check in checks)
    return next((reason for reason in found if reason is not None), None)


def named(limit: str, value: float) -> str:
    """A limit with its value, as refusals name it; of a default, that it is one.

    Whoever has no policy has the defaults, and would look for them in vain.

    Args:
        limit: a key of `budgets`.
        value: what holds.

    Example:
        >>> named("max_delta", 1e-5), named("max_delta", 1e-3)
        ('max_delta 1e-05 (the default)', 'max_delta 0.001')
    """
    default = value == Budgets.model_fields[limit].default
    return f"{limit} {value:g}{' (the default)' if default else ''}"


def expired(budgets: Budgets, now: datetime) -> str | None:
    """Whether a policy's time is over.

    Args:
        budgets: of one policy.
        now: the time, with its zone.
    """
    if budgets.not_after is None or now < end_of(budgets.not_after):
        return None
    return f"limit not_after {budgets.not_after}: its time is over"


_Check = Callable[[Budgets, Sequence[Entry], Candidate], str | None]


def _rows(budgets: Budgets, spent: Sequence[Entry], candidate: Candidate) -> str | None:
    counted = counted_rows()
    if budgets.max_rows is None or candidate.kind not in counted:
        return None
    of_expert = _of_expert(spent, candidate)
    released = sum(int(entry["rows"]) for entry in of_expert if entry["kind"] in counted)
    return _over("max_rows", budgets.max_rows, released, candidate.rows)


def _bytes(budgets: Budgets, spent: Sequence[Entry], candidate: Candidate) -> str | None:
    if budgets.max_bytes is None:
        return None
    released = sum(int(entry["bytes"]) for entry in _of_expert(spent, candidate))
    return _over("max_bytes", budgets.max_bytes, released, candidate.bytes)


def _of_expert(spent: Sequence[Entry], candidate: Candidate) -> list[Entry]:
    return [entry for entry in spent if entry.get("expert") in (candidate.expert, None)]


def _over(name: str, most: int, released: int, more: int | None) -> str | None:
    what = name.removeprefix("max_")
    if more is None:
        return f"limit {name} {most}: the {what} of this record are not known"
    if released + more <= most:
        return None
    told = f"{released} {what} of this expert have been released, and this record has {more}"
    return f"limit {name} {most}: {told}"


def _delta(budgets: Budgets, _: Sequence[Entry], candidate: Candidate) -> str | None:
    claims = candidate.claims
    return None if claims.charge is None else delta_refusal(budgets, claims.delta)


def run_refusal(rules: Policy, scenario: str, before: int | None) -> str | None:
    """Why a policy takes no part in one more run; None when it does.

    Args:
        rules: of one place.
        scenario: hash of the run's resolved scenario.
        before: runs that began at this client's store; None for a run that is among them.

    Example:
        >>> run_refusal(Policy(budgets=Budgets(max_runs=1)), "", 1)
        'limit max_runs 1: 1 began here before'
    """
    if rules.scenarios is not None and scenario not in rules.scenarios:
        return f"scenarios: {scenario} is not among those that it approves"
    most = rules.budgets.max_runs
    if most is not None and before is not None and before >= most:
        return f"limit max_runs {most}: {before} began here before"
    return None


def delta_refusal(budgets: Budgets, delta: float | None, clients: int = 1) -> str | None:
    """Why a policy refuses noise for a delta, or promises nothing itself; None when it does.

    Args:
        budgets: of the policy.
        delta: as a stage says it; None where nobody says it.
        clients: of the scenario, where that is known.

    Example:
        >>> delta_refusal(Budgets(), 0.99)
        'limit max_delta 1e-05 (the default): the noise is for a delta of 0.99; budgets: \
{max_delta: 0.99} in that policy would allow it'
    """
    limit = f"limit {named('max_delta', budgets.max_delta)}"
    empty = accountant.bare(budgets.max_delta, clients) if budgets.max_epsilon is not None else None
    if empty is not None:
        return f"{limit}, at which max_epsilon is judged: {empty}"
    if delta is None:
        return f"{limit}: the delta of this record's noise is not known"
    if not 0.0 < delta <= budgets.max_delta:  # NaN is not within a limit
        allowing = f"; budgets: {{max_delta: {delta:g}}} in that policy would allow it"
        told = f"{limit}: the noise is for a delta of {delta:g}"
        return f"{told}{allowing}" if 0.0 < delta < 1.0 else told
    return None


def _epsilon(budgets: Budgets, spent: Sequence[Entry], candidate: Candidate) -> str | None:
    """At the policy's own delta: at another, whoever wrote the stage could make it anything.

    One release without noise and no epsilon holds: neither a later one nor an earlier one's.
    Whatever the expert is called: who writes scenarios can give one model many names.
    """
    if budgets.max_epsilon is None:
        return None
    limit, charge = f"limit max_epsilon {budgets.max_epsilon:g}", candidate.claims.charge
    if charge is None or charge.noise_multiplier is None:
        return f"{limit}: with protection {candidate.protection} no epsilon is known"
    before = charges(spent)
    if any(each.noise_multiplier is None for each in before):
        return f"{limit}: a record has been released without noise"
    delta = budgets.max_delta
    epsilon = accountant.spent([*before, charge], delta).epsilon
    if not epsilon <= budgets.max_epsilon:  # NaN is not within a limit
        what = (
            f"all that has been released of this client comes to {epsilon:.4g} at delta {delta:g}"
        )
        return f"{limit}: with this record {what}"
    return None


def _leverage(budgets: Budgets, _: Sequence[Entry], candidate: Candidate) -> str | None:
    leverage = candidate.claims.leverage
    limit = f"limit {named('max_leverage', budgets.max_leverage)}"
    if leverage is None:
        known = candidate.protection not in SUMS
        return None if known else f"{limit}: this record's leverage in its sums is not known"
    if not leverage <= budgets.max_leverage + ROUNDING:
        return f"{limit}: the sums of this record would have a leverage of {leverage:.4g}"
    return None


def _group_size(budgets: Budgets, _: Sequence[Entry], candidate: Candidate) -> str | None:
    size, least = candidate.claims.group_size, budgets.min_group_size
    if least is None or (size is None and candidate.protection not in SUMS):
        return None
    if size is None:
        return f"limit min_group_size {least}: how many clients the sum has is not known"
    if size < least:
        return f"limit min_group_size {least}: the sum has {size} clients by their weights"
    return None


def _sums(budgets: Budgets, _: Sequence[Entry], candidate: Candidate) -> str | None:
    """What a sum loses by rounding is lost anew in each: many sums of the same tell of it."""
    found, limit = candidate.claims.sums, f"limit {named('max_sums', budgets.max_sums)}"
    if found is None:
        known = candidate.protection not in SUMS
        return None if known else f"{limit}: how many sums it has been in is not known"
    if found > budgets.max_sums:
        return f"{limit}: with this one, {found} sums of its vectors would have been made"
    return None
