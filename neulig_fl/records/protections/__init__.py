"""Protections: one file each. A record is treated once when it is made, and wrapped as it leaves.

A protection has

- `OVERHEAD`: bytes by which what leaves is longer than the record;
- `settings(share, kind)`: what else decides about a record's bytes, so that a request under other
  settings is another request;
- `stated(case)`: what it promises of a record, for limits and for the ledger; no data are touched;
- `treated(arrays, case)`: the arrays as they are stored and then leave, every time the same;
- `problem(way)`: why nothing can leave on this way, None when it can;
- `wrapped(payload, way)`: the bytes that leave, made anew each time;
- `opened(payload, way, key, seen)`: at the recipient, what `wrapped` was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from neulig_fl.config.scenario import Share
from neulig_fl.records.budgets import Claims
from neulig_fl.records.kinds import Arrays


@dataclass(frozen=True)
class Case:
    """A record that a client is about to make.

    Args:
        kind: of record.
        rows: its rows; 1 for kinds that answer no queries.
        share: what the stage says of it.
        start: theta_0, which everybody knows; None where there is none.
    """

    kind: str
    rows: int
    share: Share
    start: Callable[[], Arrays] | None = None


@dataclass(frozen=True)
class Stated:
    """What a protection promises of a record.

    Args:
        claims: for limits.
        facts: what the ledger's entry says besides.
    """

    claims: Claims = field(default_factory=Claims)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """How a record gets to its recipient.

    Args:
        binding: what it is bound to (`sealing.binding`).
        recipient: the text of the recipient's X25519 key; None where it is not known.
    """

    binding: bytes
    recipient: str | None = None


NOTHING_STATED = Stated()
