"""What the sums before, and one more, would tell of a client: several accounts of what is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from neulig_fl.privacy import leverage
from neulig_fl.privacy.leverage import Overlap, WeightedSum
from neulig_fl.records import policy_layers
from neulig_fl.records.policy_layers import Layer
from neulig_fl.records.protections import Claims
from neulig_fl.records.secagg import guard
from neulig_fl.records.secagg.alone import bare, is_alone
from neulig_fl.records.secagg.history import Event, called, rows, settled


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

        Beside its own vectors it guards those of all others (`guard.objection`).

        Args:
            layers: every policy that counts, each with its `max_leverage`.
        """
        reasons = (self._refusal(layers, account) for account in self.past)
        return next((reason for reason in reasons if reason is not None), None)

    def _refusal(self, layers: Sequence[Layer], past: Sequence[WeightedSum]) -> str | None:
        return policy_layers.first_refusal(
            layers,
            lambda rules: guard.objection(
                past,
                self.asked,
                self.client,
                rules.budgets.max_leverage,
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
    hearsay: Sequence[Event] = (),
) -> list[list[WeightedSum]]:
    """The sums before, by several accounts.

    The client's own; those that are certain, and those that may be, by all that any client
    remembers; and these two once more as if the server knew the vectors of all who are not there:
    what they did among themselves, nobody tells. All of them once with what left alone, which may
    tell all of a vector, and once without it, because it may tell next to nothing: the one excuses
    no sum that the other forbids. Accounts that say the same are one.

    Args:
        histories: `events` by column.
        own: the column of the client that asks.
        whole: columns whose histories are told to their ends.
        labels: what to call clients in words, by column.
        hearsay: events of clients that are not there, as others tell them.
    """
    found = _accounts(histories, own, whole, labels, hearsay)
    if any(is_alone(event) for said in (*histories.values(), hearsay) for event in said):
        without = {column: bare(said) for column, said in histories.items()}
        found += _accounts(without, own, whole, labels, bare(hearsay))
    kept: list[list[WeightedSum]] = []
    for account in found:
        if not any(_same(account, other) for other in kept):
            kept.append(account)
    return kept


def _accounts(
    histories: Mapping[str, Sequence[Event]],
    own: str,
    whole: Collection[str],
    labels: Mapping[str, str] | None,
    hearsay: Sequence[Event],
) -> list[list[WeightedSum]]:
    """Those of what is told here."""
    mine = {own: settled(histories.get(own, ()))}
    found = [rows(mine, own, (), labels)]
    if whole:
        heard = [
            rows(histories, own, whole, labels, certain=each, hearsay=hearsay)
            for each in (True, False)
        ]
        there = {c if labels is None else called(c, labels) for c in (*whole, own)}
        found += [*heard, *([each.among(there) for each in account] for account in heard)]
    return found


def _same(one: Sequence[WeightedSum], other: Sequence[WeightedSum]) -> bool:
    """Whether two accounts say the same of the same sums."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(
        (a, a.versions, a.told) == (b, b.versions, b.told) for a, b in pairs
    )
