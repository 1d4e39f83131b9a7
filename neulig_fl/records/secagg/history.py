"""The sums that a server knows of, as clients remember them, and what one more would tell of them.

A client's history is a part of its own ledger: the weights under which its vectors left within
sums, and who survived. Clients name one another by columns there, short fingerprints of their
oldest keys, so that a client has one column in all scenarios. What the clients of a sum remember is
put together (`peers`): a row that any of them knows counts for all. What a client heard of
those who are not there it tells as well; that is hearsay, which nobody who is there can confirm.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from neulig_fl.ledger.chain import OUTCOME, RELEASE, Entry, canonical
from neulig_fl.privacy.leverage import WeightedSum
from neulig_fl.records.secagg import alone
from neulig_fl.records.secagg.alone import is_alone, left_alone, told_alone

Event = Mapping[str, Any]
"""`{event: left, round, expert, sums}` or `{event: outcome, round, survivors}`."""

LEFT = alone.LEFT


def events(entries: Iterable[Entry], own: str = "") -> list[Event]:
    """A client's history: what its ledger says of sums, oldest first, in columns.

    A model or an output that left alone is a sum with nobody else: with it the server subtracts its
    owner out of sums with others, who therefore have to know. It is told once of each expert.

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
    known: set[tuple[str, str]] = set()
    for entry in entries:
        if entry["event"] == RELEASE and entry.get("sums"):
            columns = who[entry["round"]] = entry.get("who") or {}
            rows = [
                {"of": row["of"], "weights": _in_columns(row["weights"], columns)}
                for row in entry["sums"]
            ]
            left = {"event": LEFT, "round": entry["round"], "expert": entry.get("expert") or ""}
            found.append({**left, "sums": rows})
        elif own and entry["event"] == RELEASE:
            expert = entry.get("expert") or ""
            new = [of for of in told_alone(entry) if (expert, of) not in known]
            known |= {(expert, of) for of in new}
            found += left_alone(entry, own, new) if new else []
        elif entry["event"] == OUTCOME:
            columns = who.get(entry["round"], {})
            survivors = sorted(columns.get(name, name) for name in entry["survivors"])
            found.append({"event": OUTCOME, "round": entry["round"], "survivors": survivors})
    return found


def merged(*told: Iterable[Event]) -> list[Event]:
    """Events of several clients, each once, without the experts: who told them is not kept."""
    found: dict[str, Event] = {}
    for event in itertools.chain(*told):
        bare = event if event["event"] == OUTCOME else {**event, "expert": ""}
        found.setdefault(canonical(bare), bare)
    return list(found.values())


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
    rumours: dict[Survivors, None] = field(default_factory=dict)
    """Outcomes by hearsay, in order."""
    texts: dict[int, str] = field(default_factory=dict)
    """Of views, by identity: what was unpacked of many histories is one object for all."""

    def note(self, column: str, event: Event) -> None:
        """Hear one client's event."""
        if event["event"] != OUTCOME:
            self.versions[column] = str(event["expert"])
            self.seen[column] = self._view(event["sums"])
        elif column in self.seen:  # who has put no vector in confirms nothing
            self.outcomes.setdefault(tuple(event["survivors"]), set()).add(column)

    def rumour(self, event: Event) -> None:
        """Hear one event of somebody who is not there."""
        if event["event"] != OUTCOME:
            self._view(event["sums"])
        else:
            self.rumours[tuple(event["survivors"])] = None

    def _view(self, sums: Sequence[Mapping[str, Any]]) -> str:
        if id(sums) not in self.texts:
            self.texts[id(sums)] = canonical(sums)
        self.views.setdefault(self.texts[id(sums)], sums)
        return self.texts[id(sums)]

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

    def ends(
        self, own: str, sure: Collection[str], weights: Mapping[str, float]
    ) -> list[Survivors]:
        """Who survived, by every account that may be so; None: nobody says, so all may have.

        Where nobody says, the server may have left out those who would hide this client's vector
        best.

        Args:
            own: this client.
            sure: whose histories are told to their ends; its own among them.
            weights: of those invited by one view, the largest that each has.
        """
        invited, certain = set(weights), self.settled(own, weights)
        if certain is not None:
            return [certain]
        silent = invited - set(sure) - self.over
        may_be: list[Survivors] = [
            named for named, said in self.outcomes.items() if _enough(said | silent, invited)
        ]
        may_be += [named for named in self.rumours if named not in may_be]
        if not _enough(silent, invited):
            return may_be
        if own not in self.versions:
            return [*may_be, None]
        order = sorted(weights, key=lambda column: (column != own, weights[column], column))
        fewest = tuple(sorted(order[: len(invited) // 2 + 1]))
        return [*may_be, None, *([fewest] if fewest not in may_be else [])]

    def told(self, row: WeightedSum, survivors: Survivors) -> set[str]:
        """Who put its vector into this very row, and confirmed this outcome."""
        if survivors is None:
            return set()
        same = {
            text: any(_row(each, survivors) == row for each in view)
            for text, view in self.views.items()
        }
        return {column for column in self.outcomes.get(survivors, ()) if same[self.seen[column]]}


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
    hearsay: Sequence[Event] = (),
) -> list[WeightedSum]:
    """The sums that some clients remember, each once, with those who say so.

    Args:
        histories: `events` by column.
        own: the column of the client that asks.
        whole: columns whose histories are told to their ends. Whoever of them does not remember a
            round was not in its sum, and who does not remember its outcome has confirmed none.
        labels: what to call clients in words, by column.
        certain: only those that were made for certain; else all that may have been.
        hearsay: events of clients that are not there, as others tell them.

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
    for event in () if certain else hearsay:
        rounds.setdefault(event["round"], _Round()).rumour(event)
    found: dict[str, WeightedSum] = {}
    sure = {*whole, own}
    for number, each in rounds.items():
        # Two rounds are two sums, also under the same weights.
        for s in _made(number, each, own, sure, certain):
            key = canonical([number, s.statistic, dict(s.weights)])
            before = found.get(key, s)
            told = {*(before.told or ()), *(s.told or ())}
            found[key] = replace(before, told=told)
    return [each if labels is None else _named(each, labels) for each in found.values()]


def _made(
    number: str, each: _Round, own: str, sure: Collection[str], certain: bool
) -> Iterator[WeightedSum]:
    """The rows of a round under which sums were made, or may have been, in columns."""
    out = set(sure) - set(each.versions) - {own}
    own_out = {own} - set(each.versions)  # which it knows for certain
    for text, view in each.views.items():
        weights = {c: max(abs(row["weights"].get(c, 0.0)) for row in view) for c in _named_in(view)}
        settled = each.settled(own, weights)
        ends = each.ends(own, sure, weights) if not certain else [settled] if settled else []
        holders = sorted(column for column, seen in each.seen.items() if seen == text)
        for survivors in ends:
            if own_out & set(survivors or ()):
                continue  # without its vector nothing was opened
            for row, gone in itertools.product(view, _gone(out & set(weights), survivors)):
                made = _row(row, survivors, {*own_out, *gone})
                versions = {c: each.versions.get(c, "") for c in made.weights}
                yield replace(
                    made,
                    versions={c: version for c, version in versions.items() if version},
                    told=set() if out & set(survivors or ()) else each.told(made, survivors),
                    source=(number, f"{holders} {survivors} {sorted(gone)}"),
                )


def _gone(out: Collection[str], survivors: Survivors) -> list[Collection[str]]:
    """Who may not have been in a sum, of those who do not remember it.

    A sum is not opened without a vector of somebody who is said to have survived. So whoever denies
    that it was there lies, or there was no sum.
    """
    return [out, ()] if out and survivors is None else [()]


def _named_in(view: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(column for row in view for column in row["weights"]))


def _row(row: Mapping[str, Any], survivors: Survivors, out: Collection[str] = ()) -> WeightedSum:
    """One row with those alone whose vectors were in it."""
    kept = {
        column: weight
        for column, weight in row["weights"].items()
        if column not in out and (survivors is None or column in survivors)
    }
    return WeightedSum(row["of"], kept)


def _named(row: WeightedSum, labels: Mapping[str, str]) -> WeightedSum:
    """The row with its clients called as users call them; none is called as another's key."""
    return replace(
        row,
        weights={called(c, labels): weight for c, weight in row.weights.items()},
        versions={called(c, labels): version for c, version in row.versions.items()},
        told={called(c, labels) for c in row.told or ()},
    )


def called(column: str, labels: Mapping[str, str]) -> str:
    """What a column is called in words: the client's name, or the fingerprint of its key."""
    return labels.get(column, f"key {column}")


def released(entries: Sequence[Entry], number: str) -> Entry | None:
    """The entry under which a vector left in a round; None when none did."""
    return _of_round(entries, number, RELEASE)


def confirmed(entries: Sequence[Entry], number: str) -> Entry | None:
    """The entry that says who survived a round; None when nothing was confirmed."""
    return _of_round(entries, number, OUTCOME)


def _of_round(entries: Sequence[Entry], number: str, event: str) -> Entry | None:
    mine = (e for e in entries if e["event"] == event and e.get("round") == number)
    return next(mine, None)
