"""What Portland, its CoopVecs and the controls need released, and why one cannot be had.

A plan asks here what a stage will have, and the run asks here before it computes: each rule of
`coopvec_rules` has its entry in `NEEDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from neulig_fl.config.methods import MethodEntry
from neulig_fl.config.scenario import Scenario, Stage
from neulig_fl.core.errors import NotAvailable
from neulig_fl.records.grants import Grants

NEULIG = "neulig"
"""What NeuLig's own rows are called."""

CONTROLS = ("simple-average", "hard-routing", "best-single", "oracle")
"""Controls that mix the experts; `pretrained` needs none of them."""

NO_CHECKPOINT = "origin: diverse has no common checkpoint"
"""Why `pretrained` has no row there."""

ONE_VECTOR = frozenset({"task", "global", "simple-average"})
"""Granularities and controls that weigh all queries of a task alike."""

ONE_EXPERT = frozenset({"best-single", "oracle"})
"""Controls that give one expert all weight."""


def rows(stage: Stage) -> list[tuple[str, str | None]]:
    """Method and granularity of a stage's rows, in the order in which they are computed.

    NeuLig's, then the controls'. Where something leaves within secure sums, each sum leaves less to
    the next: so the baseline, `simple-average`, stands between NeuLig's first granularity, which
    the stage is about, and the others, which may need many sums.
    """
    neulig: list[tuple[str, str | None]] = [(NEULIG, name) for name in stage.granularity]
    baseline, *controls = ((name, None) for name in CONTROLS)
    first = 1 if any(share.in_sums for share in stage.share) else len(neulig)
    return [*neulig[:first], baseline, *neulig[first:], *controls]


def compared(scenario: Scenario) -> list[MethodEntry]:
    """The merge methods that get rows of their own: simple-average is a control in every report."""
    return [entry for entry in scenario.methods if entry.name not in CONTROLS]


class KnownPortland(Protocol):
    """What is to be known of a trained Portland to say what it can weigh."""

    @property
    def stage(self) -> str:
        """Where it was trained."""
        ...

    @property
    def queries(self) -> str:
        """On which query set."""
        ...

    @property
    def experts(self) -> tuple[str, ...]:
        """Whose outputs it reads, in order."""
        ...

    @property
    def best_single(self) -> str:
        """The expert that does best alone on those queries."""
        ...


@dataclass(frozen=True)
class Situation:
    """What a rule may use.

    Args:
        known: who released what.
        portland: the trained Portland; None before any was trained.
        group: whose experts are mixed.
        experts: those that are mixed, in order.
    """

    known: Grants
    portland: KnownPortland | None
    group: str
    experts: tuple[str, ...]

    @property
    def tasks(self) -> list[str]:
        """The tasks of the evaluation queries, in order."""
        return [block.task.name for block in self.known.answered(self.group, "evaluation")]

    @property
    def rows(self) -> list[int]:
        """Evaluation queries of each task."""
        return [block.rows for block in self.known.answered(self.group, "evaluation")]


_NOT_SHARED = "who does not share it here"

Reasons = list[str | None]
"""By task, in order, why a rule weighs none of its queries; None where it does."""


def trained(situation: Situation) -> KnownPortland:
    """The trained Portland.

    Raises:
        NotAvailable: none was trained in this or an earlier stage.
    """
    if situation.portland is None:
        raise NotAvailable("no Portland was trained in this or an earlier stage")
    return situation.portland


def learners(known: Grants, group: str) -> tuple[str, ...]:
    """Clients that share all that Portland's training needs of them, in order; two or more.

    Raises:
        NotAvailable: fewer than two do; it says which record of whom is missing.
    """
    options = known.scenario.portland
    if options.queries == "train" and not known.giving(group, "inputs", "train"):
        raise NotAvailable(
            "Portland is trained on train queries, and no client released its training inputs; "
            "portland.queries: pool needs none"
        )
    needed = {
        f"{options.outputs} on {options.queries} queries": known.sharing(group, options.queries)
    }
    spared: dict[str, str] = {}
    if options.alignment != "none":
        needed["offset-sum"] = known.giving(group, "offset-sum")
        spared["offset-sum"] = "portland.alignment: none"
    if options.objective_on != "ensemble":
        needed["parameters"] = known.giving(group, "parameters")
        spared["parameters"] = "portland.objective_on: ensemble"
    names = _sharing_all(known, needed)
    if len(names) < 2:
        raise NotAvailable(
            "; ".join([_too_few(known, needed), *_without_one(known, needed, spared)])
        )
    return names


def _sharing_all(known: Grants, needed: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(n for n in known.clients if all(n in givers for givers in needed.values()))


def _too_few(known: Grants, needed: Mapping[str, Sequence[str]]) -> str:
    """Who shares all of it, and what is missing of whom."""
    names = _sharing_all(known, needed)
    lacking = {
        what: [n for n in known.clients if n not in givers] for what, givers in needed.items()
    }
    missing = ", ".join(f"{what} of {' and '.join(of)}" for what, of in lacking.items() if of)
    return (
        f"Portland needs two clients that share {', '.join(needed)}; shared by: "
        f"{', '.join(names) or 'nobody'}; missing: {missing}"
    )


def _without_one(
    known: Grants, needed: Mapping[str, Sequence[str]], spared: Mapping[str, str]
) -> Iterator[str]:
    """Options that need one kind of record less, where enough clients share the rest."""
    for kind, option in spared.items():
        rest = {what: givers for what, givers in needed.items() if what != kind}
        if len(_sharing_all(known, rest)) >= 2:
            yield f"{option} needs no {kind}"


def require_queries(known: Grants, group: str) -> None:
    """Have Portland something to learn from.

    Raises:
        NotAvailable: no task has a query of the set that it is trained on.
    """
    queries = known.scenario.portland.queries
    if not any(block.rows for block in known.answered(group, queries)):
        raise NotAvailable(
            f"no task has a {queries} query to train Portland on; give the tasks more images (20 a "
            "class and more)"
        )


def require_read(
    known: Grants, portland: KnownPortland, group: str, queries: str, kept: tuple[str, ...]
) -> None:
    """Have Portland read a query set, for experts of whom it reads some.

    Args:
        known: who released what.
        portland: the trained Portland.
        group: whose outputs it reads now.
        queries: the query set.
        kept: the experts that are mixed.

    Raises:
        NotAvailable: an expert that Portland reads gave no outputs on these queries, or it reads
            none of the experts that are mixed.
    """
    sharing = known.sharing(group, queries)
    missing = [name for name in portland.experts if name not in sharing]
    if missing:
        raise NotAvailable(
            f"Portland reads the {known.kind} of {', '.join(missing)} on {queries} queries of "
            f"group {group}, which were not released"
        )
    if not set(portland.experts) & set(kept):
        raise NotAvailable(f"Portland reads none of {', '.join(kept)}, who share what is mixed")


def map_queries(known: Grants, portland: KnownPortland, group: str, kept: tuple[str, ...]) -> str:
    """The query set that CoopVec Maps are made from, for the group at hand.

    The pool where its outputs are known, else the queries that Portland was trained on.

    Raises:
        NotAvailable: this group answered neither, or not for every task.
    """
    there = [
        queries
        for queries in ("pool", portland.queries)
        if set(portland.experts) <= set(known.sharing(group, queries))
    ]
    if not there:
        raise NotAvailable(f"no {known.kind} of group {group} on pool queries were released")
    queries = there[0]
    require_read(known, portland, group, queries, kept)
    answered = {block.task.name for block in known.answered(group, queries) if block.rows}
    empty = [name for name in known.tasks if name not in answered]
    if empty:
        raise NotAvailable(f"no {queries} query of task {', '.join(empty)} was answered")
    return queries


def _for_all(situation: Situation) -> Reasons:
    return [None] * len(situation.tasks)


def _evaluation(situation: Situation) -> Reasons:
    known, portland = situation.known, trained(situation)
    require_read(known, portland, situation.group, "evaluation", situation.experts)
    return _for_all(situation)


def _map(situation: Situation) -> Reasons:
    map_queries(situation.known, trained(situation), situation.group, situation.experts)
    return _for_all(situation)


def _best_single(situation: Situation) -> Reasons:
    name = trained(situation).best_single
    if name not in situation.experts:
        raise NotAvailable(f"the best single expert is {name}'s, {_NOT_SHARED}")
    return _for_all(situation)


def owners(situation: Situation) -> list[str]:
    """Whose expert each task's own is, by task; of several clients the first one's."""
    found = {client.task: client.name for client in reversed(situation.known.scenario.clients)}
    return [found[task] for task in situation.tasks]


def _oracle(situation: Situation) -> Reasons:
    own = owners(situation)
    if not set(own) & set(situation.experts):
        raise NotAvailable(f"no task's own expert ({', '.join(dict.fromkeys(own))}) is shared here")
    return [
        None if name in situation.experts else f"its own expert is {name}'s, {_NOT_SHARED}"
        for name in own
    ]


NEEDS: dict[str, Callable[[Situation], Reasons]] = {
    "sample": _evaluation,
    "batch-first": _evaluation,
    "task": _map,
    "global": _map,
    "simple-average": _for_all,
    "hard-routing": _evaluation,
    "best-single": _best_single,
    "oracle": _oracle,
}
"""By granularity and control, what it needs: gives the tasks that it does not weigh.

Each raises `NotAvailable` where it weighs none at all.
"""


def not_in_sums(name: str, kind: str) -> str | None:
    """Why a method cannot be had from secure sums; None when it can.

    Args:
        name: a granularity, or a control.
        kind: kind of record that leaves within sums only.

    Example:
        >>> not_in_sums("sample", "features")
        'secure-aggregation gives one sum of features for each weight vector; sample needs one for \
every query'
    """
    if name in ONE_VECTOR:
        return None
    if name in ONE_EXPERT:
        return f"a secure sum that gives one expert all weight would be one client's own {kind}"
    if kind == "parameters":
        gives, needs = "one merged model", "a model"
    else:
        gives, needs = f"one sum of {kind}", "one"
    given = f"secure-aggregation gives {gives} for each weight vector"
    return f"{given}; {name} needs {needs} for every query"
