"""Voting: every query gets the class that most of the experts name; for answers that do not mix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neulig_fl.records import kinds
from neulig_fl.study.needs import Known, Missing

if TYPE_CHECKING:
    from neulig_fl.study.baseline_rows import StageRun
    from neulig_fl.study.outlook import DrySums
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


def rehearse(run: StageRun, sums: DrySums) -> Iterator[Permitted]:  # noqa: ARG001
    """The row that it would give."""
    from neulig_fl.study import outlook, voting
    from neulig_fl.study.permitted import Permitted

    _, voters = voting.voting(run.knowledge, run.stage.group)
    if voters:
        left_out = outlook.without(run, voters)
        yield Permitted(voting.METHOD, None, True, False, left_out)
    else:
        yield Permitted(voting.METHOD, None, False, False, voting.NOBODY)


def run(run: StageRun) -> None:
    """Score the vote, as `voting.score` does."""
    from neulig_fl.study import voting

    voting.score(run)
