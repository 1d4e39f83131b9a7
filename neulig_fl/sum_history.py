"""The sums that a server knows of, as clients remember them, and what one more would tell of them.

A client's history is a part of its own ledger: the weights under which its vectors left within
sums, and who survived. Clients name one another by columns there, short fingerprints of their
oldest keys, so that a client has one column in all scenarios. What the clients of a sum remember is
put together (`sum_peers`): a row that any of them knows counts for all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from neulig_fl import leverage, policy, sum_guard
from neulig_fl.ledger import OUTCOME, RELEASE, Entry, canonical
from neulig_fl.leverage import Overlap, WeightedSum
from neulig_fl.limits import Claims
from neulig_fl.policy import Layer
from neulig_fl.scenario_values import MEASURED_KINDS, WHOLE_MODEL_KINDS

Event = Mapping[str, Any]
"""`{event: left, round, expert, sums}` or `{event: outcome, round, survivors}`."""

LEFT = "left"

ALONE = "alone "
"""What the round of a model begins with that left in no sum; a hash follows."""

TELLING = (*WHOLE_MODEL_KINDS, *MEASURED_KINDS)
"""Kinds of which a single record gives a model away."""


def is_alone(event: Event) -> bool:
    """Whether an event is of a model that left in no sum, as if in one of its own."""
    return str(event["round"]).startswith(ALONE)


def events(entries: Iterable[Entry], own: str = "") -> list[Event]:
    """A client's history: what its ledger says of sums, oldest first, in columns.

    A model that left alone is a sum with nobody else: with it the server subtracts its owner out of
    sums with others, who therefore have to know.

    Args:
        entries: its own ledger.
        own: the client's own column; without it, what left alone is left out.

    Example:
        >>> row = {"of": "model", "weights": {"ada": 0.5, "bob": 0.5}}
        >>> left = {"event": "release", "expert": "e", "round": "r", "sums": [row],
        ...         "who": {"ada": "A", "bob": "B"}}
        >>> known = {"event": "outcome", "round": "r", "survivors": ["ada"]}
        >>> [e.get("survivors", e.get("sums")) for e in events([left, known])]
        [[{'of': 'model', 'weights': {'A': 0.5, 'B': 0.5}}], ['A']]
    """
    found: list[Event] = []
    who: dict[str, Mapping[str, str]] = {}
    for entry in entries:
        if entry["event"] == RELEASE and entry.get("sums"):
            columns = who[entry["round"]] = entry.get("who") or {}
            rows = [
                {"of": row["of"], "weights": _in_columns(row["weights"], columns)}
                for row in entry["sums"]
            ]
            left = {"event": LEFT, "round": entry["round"], "expert": entry.get("expert") or ""}
            found.append({**left, "sums": rows})
        elif own and entry["event"] == RELEASE and _tells_alone(entry):
            found += _alone(entry, own)
        elif entry["event"] == OUTCOME:
            columns = who.get(entry["round"], {})
            survivors = sorted(columns.get(name, name) for name in entry["survivors"])
            found.append({"event": OUTCOME, "round": entry["round"], "survivors": survivors})
    return found


def _tells_alone(entry: Entry) -> bool:
    return entry.get("kind") in TELLING and entry.get("noise_multiplier") is None


def _alone(entry: Entry, own: str) -> list[Event]:
    """A model that left alone: a sum, and that nobody else was in it."""
    number = f"{ALONE}{entry['hash']}"
    row = {"of": leverage.MODEL, "weights": {own: 1.0}}
    left = {"event": LEFT, "round": number, "expert": entry.get("expert") or "", "sums": [row]}
    return [left, {"event": OUTCOME, "round": number, "survivors": [own]}]


def settled(said: Sequence[Event]) -> list[Event]:
    """The rounds of a history whose outcomes its client confirmed."""
    known = {event["round"] for event in said if event["event"] == OUTCOME}
    return [event for event in said if event["round"] in known]


def names(entries: Iterable[Entry]) -> dict[str, str]:
    """What clients were called, by column, as far as a ledger says it."""
    said = (entry.get("who") or {} for entry in entries)
    return {column: name for who in said for name, column in who.items()}


def _in_columns(weights: Mapping[str, float], columns: Mapping[str, str]) -> dict[str, float]:
    return {columns.get(name, name): weight for name, weight in weights.items()}


@dataclass
class _Round:
    """What is remembered of one round of a sum."""

    views: dict[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    """Which view each client had."""
    outcomes: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    """Clients whose histories go on after it: they confirm it no more."""
    texts: dict[int, str] = field(default_factory=dict)
    """Of views, by identity: what was unpacked of many histories is one object for all."""

    def note(self, column: str, event: Event) -> None:
        """Hear one client's event."""
        if event["event"] != OUTCOME:
            self.versions[column] = str(event["expert"])
            sums = event["sums"]
            if id(sums) not in self.texts:
                self.texts[id(sums)] = canonical(sums)
            self.seen[column] = self.texts[id(sums)]
            self.views.setdefault(self.seen[column], sums)
        elif column in self.seen:  # who has put no vector in confirms nothing
            self.outcomes.setdefault(tuple(event["survivors"]), set()).add(column)

    def settled(self, own: str, invited: Collection[str]) -> Survivors:
        """Who survived, if that is certain.

        Masks come off once more than half of the invited have confirmed an outcome, each one only.
        So what this client confirmed, or more than half, is so.

        Args:
            own: this client.
            invited: by one view; another that was made up invites whom it likes.
        """
        for named, said in self.outcomes.items():
            if own in said or _enough(said, invited):
                return named
        return None

    def ends(self, own: str, sure: Collection[str], invited: Collection[str]) -> list[Survivors]:
        """Who survived, by every account that may be so; None: nobody says, so all may have.

        Args:
            own: this client.
            sure: whose histories are told to their ends; its own among them.
            invited: by one view.
        """
        certain = self.settled(own, invited)
        if certain is not None:
            return [certain]
        silent = set(invited) - set(sure) - self.over
        may_be: list[Survivors] = [
            named for named, said in self.outcomes.items() if _enough(said | silent, invited)
        ]
        return [*may_be, None] if _enough(silent, invited) else may_be

    def told(self, row: WeightedSum, survivors: Survivors, out: Collection[str]) -> set[str]:
        """Who put its vector into this very row, and confirmed this outcome."""
        if survivors is None:
            return set()
        same = {
            text: any(_row(each, survivors, out) == row for each in view)
            for text, view in self.views.items()
        }
        return {column for column in self.outcomes[survivors] if same[self.seen[column]]}


Survivors = tuple[str, ...] | None


def _enough(clients: Collection[str], invited: Collection[str]) -> bool:
    return 2 * len(set(clients) & set(invited)) > len(invited)


def rows(
    histories: Mapping[str, Sequence[Event]],
    own: str,
    whole: Collection[str] = (),
    labels: Mapping[str, str] | None = None,
    *,
    certain: bool = False,
) -> list[WeightedSum]:
    """The sums that some clients remember, each once, with those who say so.

    Args:
        histories: `events` by column.
        own: the column of the client that asks.
        whole: columns whose histories are told to their ends. Whoever of them does not remember a
            round was not in its sum, and who does not remember its outcome has confirmed none.
        labels: what to call clients in words, by column.
        certain: only those that were made for certain; else all that may have been.

    Returns:
        In the order in which they are first remembered.
    """
    rounds: dict[str, _Round] = {}
    for column, said in histories.items():
        last = next((e["round"] for e in reversed(said) if not is_alone(e)), None)
        for event in said:
            known = rounds.setdefault(event["round"], _Round())
            known.note(column, event)
            if event["round"] != last:  # a client is in one sum at a time
                known.over.add(column)
    found: dict[str, WeightedSum] = {}
    sure = {*whole, own}
    for number, each in rounds.items():
        for s in _made(each, own, sure, certain):  # two rounds are two sums, also of one weighting
            key = canonical([number, s.statistic, dict(s.weights)])
            before = found.get(key, s).told or ()
            found[key] = replace(s, told={*before, *(s.told or ())})
    return [_named(each, labels or {}) for each in found.values()]


def _made(each: _Round, own: str, sure: Collection[str], certain: bool) -> Iterator[WeightedSum]:
    """The rows of a round under which sums were made, or may have been, in columns."""
    out = set(sure) - set(each.versions)
    for view in each.views.values():
        invited = {column for row in view for column in row["weights"]}
        settled = each.settled(own, invited)
        ends = each.ends(own, sure, invited) if not certain else [settled] if settled else []
        for survivors in ends:
            for row in view:
                made = _row(row, survivors, out)
                versions = {c: each.versions.get(c, "") for c in made.weights}
                told = each.told(made, survivors, out)
                yield replace(made, versions={c: v for c, v in versions.items() if v}, told=told)


def _row(row: Mapping[str, Any], survivors: Survivors, out: Collection[str]) -> WeightedSum:
    """One row with those alone whose vectors were in it."""
    kept = {
        column: weight
        for column, weight in row["weights"].items()
        if column not in out and (survivors is None or column in survivors)
    }
    return WeightedSum(row["of"], kept)


def _named(row: WeightedSum, labels: Mapping[str, str]) -> WeightedSum:
    """The row with its clients called as users call them."""
    return replace(
        row,
        weights={labels.get(c, c): weight for c, weight in row.weights.items()},
        versions={labels.get(c, c): version for c, version in row.versions.items()},
        told={labels.get(c, c) for c in row.told or ()},
    )


def released(entries: Sequence[Entry], number: str) -> Entry | None:
    """The entry under which a vector left in a round; None when none did."""
    return _of_round(entries, number, RELEASE)


def confirmed(entries: Sequence[Entry], number: str) -> Entry | None:
    """The entry that says who survived a round; None when nothing was confirmed."""
    return _of_round(entries, number, OUTCOME)


def _of_round(entries: Sequence[Entry], number: str, event: str) -> Entry | None:
    mine = (e for e in entries if e["event"] == event and e.get("round") == number)
    return next(mine, None)


@dataclass(frozen=True)
class Sums:
    """Sums that are asked for, beside those that are known.

    What others say may be false, and a sum that never was can seem to have told already what one
    more would tell. So the sums that are known are several accounts, and each is held against
    limits by itself.

    Args:
        past: accounts of the sums before: such as the client's own alone, and all that it heard of.
        asked: those asked for now, which count together.
        client: who is asked.
        overlap: whether two sets of images share one.
        agreed: the sums as vectors left for them, before others dropped out; None: as `asked`.
        theirs: `max_leverage` of each client, by its policy in the scenario; who is there guards
            those who are not at their own limits.
    """

    past: Sequence[Sequence[WeightedSum]]
    asked: Sequence[WeightedSum]
    client: str
    overlap: Overlap
    agreed: Sequence[WeightedSum] | None = None
    theirs: Mapping[str, float] = field(default_factory=dict)

    def claims(self) -> Claims:
        """What the client's vectors would be worth in them, for limits."""
        found = [self._claims(account) for account in self.past]
        return Claims(
            leverage=round(max(highest for highest, _ in found), 12),
            group_size=min(each.group_size for each in self.asked),
            sums=max(count for _, count in found),
        )

    def _claims(self, past: Sequence[WeightedSum]) -> tuple[float, int]:
        """Its largest leverage, and how many sums of its vectors count together."""
        highest, most = 0.0, 0
        for old, new in leverage.beside(past, self.asked, self.overlap):
            together = [*old, *new]
            known = leverage.known(together, self.asked)
            highest = max(highest, known.get(self.client, 0.0))
            most = max(most, sum(self.client in s.weights for s in together))
        return highest, most

    def refusal(self, layers: Sequence[Layer]) -> str | None:
        """Why the client takes no part; None when it does.

        Beside its own vectors it guards those of all others (`sum_guard.refusal`).

        Args:
            layers: every policy that counts, each with its `max_leverage`.
        """
        reasons = (self._refusal(layers, account) for account in self.past)
        return next((reason for reason in reasons if reason is not None), None)

    def _refusal(self, layers: Sequence[Layer], past: Sequence[WeightedSum]) -> str | None:
        return policy.first_refusal(
            layers,
            lambda rules: sum_guard.refusal(
                past,
                self.asked,
                self.client,
                rules.limits.max_leverage,
                self.overlap,
                self.agreed,
                self.theirs,
            ),
        )


def accounts(
    histories: Mapping[str, Sequence[Event]],
    own: str,
    whole: Collection[str] = (),
    labels: Mapping[str, str] | None = None,
) -> list[list[WeightedSum]]:
    """The sums before, by several accounts.

    The client's own; those that are certain, and those that may be, by all that any client
    remembers; and these two once more as if the server knew the vectors of all who are not there:
    what they did among themselves, nobody tells. Accounts that say the same are one.

    Args:
        histories: `events` by column.
        own: the column of the client that asks.
        whole: columns whose histories are told to their ends.
        labels: what to call clients in words, by column.
    """
    mine = {own: settled(histories.get(own, ()))}
    found = [rows(mine, own, (), labels)]
    if whole:
        heard = [rows(histories, own, whole, labels, certain=each) for each in (True, False)]
        there = {(labels or {}).get(column, column) for column in (*whole, own)}
        found += [*heard, *([each.among(there) for each in account] for account in heard)]
    kept: list[list[WeightedSum]] = []
    for account in found:
        if not any(_same(account, other) for other in kept):
            kept.append(account)
    return kept


def _same(one: Sequence[WeightedSum], other: Sequence[WeightedSum]) -> bool:
    """Whether two accounts say the same of the same sums."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(
        (a, a.versions, a.told) == (b, b.versions, b.told) for a, b in pairs
    )
