"""Limits: how much may leave in all, counted in the client's own ledger.

Releases add up over stages, runs, kinds and query sets: rows and bytes of one expert, epsilon of
all, since experts of other seeds and recipes come from the same images, and one model can have many
names. What is handed out again, byte for byte, is counted once. What a limit has to know and nobody
says is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from neulig_fl.config.policy_rules import Limits, Policy
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


def refusal(limits: Limits, entries: Sequence[Entry], candidate: Candidate) -> str | None:
    """Which limit a record would exceed; None when it is within all of them.

    Args:
        limits: of one policy.
        entries: the client's own ledger; entries that name no expert count for every one.
        candidate: the record.

    Returns:
        One line that names the limit, its value and what was counted.

    Example:
        >>> told = {"event": "release", "expert": "e", "kind": "features", "rows": 60, "bytes": 240}
        >>> refusal(Limits(max_rows=100), [told], Candidate("e", "logits", "none", 41, 164))
        'limit max_rows 100: 60 rows of this expert have left, and this record has 41'
    """
    spent = [entry for entry in entries if entry["event"] == "release"]
    checks: tuple[_Check, ...] = (_rows, _bytes, _delta, _epsilon, _leverage, _group_size, _sums)
    found = (check(limits, spent, candidate) for check in checks)
    return next((reason for reason in found if reason is not None), None)


def expired(limits: Limits, now: datetime) -> str | None:
    """Whether a policy's time is over.

    Args:
        limits: of one policy.
        now: the time, with its zone.
    """
    if limits.not_after is None or now < end_of(limits.not_after):
        return None
    return f"limit not_after {limits.not_after}: its time is over"


_Check = Callable[[Limits, Sequence[Entry], Candidate], str | None]


def _rows(limits: Limits, spent: Sequence[Entry], candidate: Candidate) -> str | None:
    counted = counted_rows()
    if limits.max_rows is None or candidate.kind not in counted:
        return None
    of_expert = _of_expert(spent, candidate)
    left = sum(int(entry["rows"]) for entry in of_expert if entry["kind"] in counted)
    return _over("max_rows", limits.max_rows, left, candidate.rows)


def _bytes(limits: Limits, spent: Sequence[Entry], candidate: Candidate) -> str | None:
    if limits.max_bytes is None:
        return None
    left = sum(int(entry["bytes"]) for entry in _of_expert(spent, candidate))
    return _over("max_bytes", limits.max_bytes, left, candidate.bytes)


def _of_expert(spent: Sequence[Entry], candidate: Candidate) -> list[Entry]:
    return [entry for entry in spent if entry.get("expert") in (candidate.expert, None)]


def _over(name: str, most: int, left: int, more: int | None) -> str | None:
    what = name.removeprefix("max_")
    if more is None:
        return f"limit {name} {most}: the {what} of this record are not known"
    if left + more <= most:
        return None
    told = f"{left} {what} of this expert have left, and this record has {more}"
    return f"limit {name} {most}: {told}"


def _delta(limits: Limits, _: Sequence[Entry], candidate: Candidate) -> str | None:
    claims = candidate.claims
    return None if claims.charge is None else delta_refusal(limits, claims.delta)


def run_refusal(rules: Policy, scenario: str, before: int | None) -> str | None:
    """Why a policy takes no part in one more run; None when it does.

    Args:
        rules: of one place.
        scenario: hash of the run's resolved scenario.
        before: runs that began at this client's store; None for a run that is among them.

    Example:
        >>> run_refusal(Policy(limits=Limits(max_runs=1)), "", 1)
        'limit max_runs 1: 1 began here before'
    """
    if rules.scenarios is not None and scenario not in rules.scenarios:
        return f"scenarios: {scenario} is not among those that it approves"
    most = rules.limits.max_runs
    if most is not None and before is not None and before >= most:
        return f"limit max_runs {most}: {before} began here before"
    return None


def delta_refusal(limits: Limits, delta: float | None, clients: int = 1) -> str | None:
    """Why a policy refuses noise for a delta, or promises nothing itself; None when it does.

    Args:
        limits: of the policy.
        delta: as a stage says it; None where nobody says it.
        clients: of the scenario, where that is known.

    Example:
        >>> delta_refusal(Limits(), 0.99)
        'limit max_delta 1e-05: the noise is for a delta of 0.99'
    """
    limit = f"limit max_delta {limits.max_delta:g}"
    empty = accountant.bare(limits.max_delta, clients) if limits.max_epsilon is not None else None
    if empty is not None:
        return f"{limit}, at which max_epsilon is judged: {empty}"
    if delta is None:
        return f"{limit}: the delta of this record's noise is not known"
    if not 0.0 < delta <= limits.max_delta:  # NaN is not within a limit
        return f"{limit}: the noise is for a delta of {delta:g}"
    return None


def _epsilon(limits: Limits, spent: Sequence[Entry], candidate: Candidate) -> str | None:
    """At the policy's own delta: at another, whoever wrote the stage could make it anything.

    One release without noise and no epsilon holds: neither a later one nor an earlier one's.
    Whatever the expert is called: who writes scenarios can give one model many names.
    """
    if limits.max_epsilon is None:
        return None
    limit, charge = f"limit max_epsilon {limits.max_epsilon:g}", candidate.claims.charge
    if charge is None or charge.noise_multiplier is None:
        return f"{limit}: with protection {candidate.protection} no epsilon is known"
    before = charges(spent)
    if any(each.noise_multiplier is None for each in before):
        return f"{limit}: something has left without noise"
    epsilon = accountant.spent([*before, charge], limits.max_delta).epsilon
    if not epsilon <= limits.max_epsilon:  # NaN is not within a limit
        what = (
            f"all that has left of this client comes to {epsilon:.4g} at delta {limits.max_delta:g}"
        )
        return f"{limit}: with this record {what}"
    return None


def _leverage(limits: Limits, _: Sequence[Entry], candidate: Candidate) -> str | None:
    leverage, limit = candidate.claims.leverage, f"limit max_leverage {limits.max_leverage:g}"
    if leverage is None:
        known = candidate.protection not in SUMS
        return None if known else f"{limit}: this record's leverage in its sums is not known"
    if not leverage <= limits.max_leverage + ROUNDING:
        return f"{limit}: the sums of this record would have a leverage of {leverage:.4g}"
    return None


def _group_size(limits: Limits, _: Sequence[Entry], candidate: Candidate) -> str | None:
    size, least = candidate.claims.group_size, limits.min_group_size
    if least is None or (size is None and candidate.protection not in SUMS):
        return None
    if size is None:
        return f"limit min_group_size {least}: how many clients the sum has is not known"
    if size < least:
        return f"limit min_group_size {least}: the sum has {size} clients by their weights"
    return None


def _sums(limits: Limits, _: Sequence[Entry], candidate: Candidate) -> str | None:
    """What a sum loses by rounding is lost anew in each: many sums of the same tell of it."""
    found, limit = candidate.claims.sums, f"limit max_sums {limits.max_sums}"
    if found is None:
        known = candidate.protection not in SUMS
        return None if known else f"{limit}: how many sums it has been in is not known"
    if found > limits.max_sums:
        return f"{limit}: with this one, {found} sums of its vectors would have been made"
    return None
