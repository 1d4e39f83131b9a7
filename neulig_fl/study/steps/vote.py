"""Voting: every query gets the class that most of the experts name; for answers that do not mix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neulig_fl.records import kinds
from neulig_fl.study.needs import NOBODY, VOTE, Known, Missing, voting

if TYPE_CHECKING:
    from neulig_fl.study.baseline_rows import StageRun
    from neulig_fl.study.outlook import Rehearsal
    from neulig_fl.study.permitted import Permitted


def needs_portland(known: Known) -> bool:  # noqa: ARG001
    """A vote needs none."""
    return False


def needs(known: Known) -> Iterator[Missing]:
    """Answers that name classes."""
    first, *others = kinds.naming_classes()
    if not any(known.has(kind, "evaluation") for kind in (first, *others)):
        allowed = " or ".join(others)
        yield f"{{kind: {first}, queries: [evaluation]}}", f", or {allowed} instead"


def rehearse(rehearsal: Rehearsal) -> Iterator[Permitted]:
    """The row that it would give."""
    from neulig_fl.study.permitted import Permitted

    known = rehearsal.known
    _, voters = voting(known, rehearsal.stage.group)
    reason = known.without(voters) if voters else NOBODY
    yield Permitted(VOTE, None, bool(voters), False, reason)


def run(run: StageRun) -> None:
    """Score the vote, as `voting.score` does."""
    from neulig_fl.study.voting import score

    score(run)
