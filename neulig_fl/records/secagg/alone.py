"""What left in no sum: which vectors it tells of, and when that is no longer to be guarded.

With a model or an output that its owner released alone, the server subtracts the owner out of sums
with others. So these records count in histories as sums of one client.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from neulig_fl.config.values import MIXED_KINDS, NOISELESS, WHOLE_MODEL_KINDS
from neulig_fl.ledger.chain import OUTCOME, RELEASE, Entry
from neulig_fl.privacy.leverage import MODEL, OUTPUTS
from neulig_fl.records import kinds
from neulig_fl.records.image_sets import ANY

Excused = Callable[[str], bool]
"""Whether a client need not guard what a statistic names."""

Event = Mapping[str, Any]
"""As `history.Event`."""

LEFT = "left"
"""The event of a history that a vector, or a record alone, left."""

ALONE = "alone "
"""What the round of a record begins with that left in no sum; a hash follows."""


def told_alone(entry: Entry) -> list[str]:
    """What a record that left in no sum tells of, as sums name it; nothing for other entries.

    Whatever a model or an output follows from counts, in part too and with whatever noise: that is
    there for its owner, who chose it, and never for those with whom its owner is in a sum.

    Args:
        entry: of a ledger.

    Example:
        >>> left = {"event": "release", "kind": "trimmed-task-vector", "noise_multiplier": 1.0}
        >>> told_alone(left), told_alone({**left, "kind": "labels", "images": ["x"]})
        (['model'], ['outputs x'])
    """
    if entry["event"] != RELEASE or entry.get("sums"):
        return []
    if entry.get("kind") in kinds.those(lambda kind: kind.tells_model):
        return [MODEL]
    if entry.get("kind") in kinds.those(lambda kind: kind.output):
        return [f"{OUTPUTS} {name}" for name in entry.get("images") or [ANY]]
    return []


def is_exact(entry: Entry) -> bool:
    """Whether a record is of numbers as they are."""
    return entry.get("protection") in NOISELESS


def gives(entry: Entry, kind: str, fraction: float, statistics: Collection[str]) -> bool:
    """Whether a record that left in no sum gave all that its client's vectors in a sum tell.

    Such a client has nothing left to guard. A part, or what has noise, or is of other images, gives
    less.

    Args:
        entry: of the client's ledger.
        kind: what is summed.
        fraction: share of the query set.
        statistics: of the sum.
    """
    told = set(told_alone(entry)) - {f"{OUTPUTS} {ANY}"}
    if not told or not is_exact(entry):
        return False
    if entry["kind"] in WHOLE_MODEL_KINDS:
        return not kinds.load(kind).measured
    same = (entry["kind"], entry.get("fraction")) == (kind, fraction)
    return same and set(statistics) <= told


def is_alone(event: Event) -> bool:
    """Whether an event is of a record that left in no sum, as if in one of its own."""
    return str(event["round"]).startswith(ALONE)


def excused(
    entries: Sequence[Entry], kind: str, fraction: float, statistics: Collection[str]
) -> Excused:
    """What others told alone that a client need not guard against in a sum, by what it gave itself.

    Whoever gave all that the sum tells guards nothing. A sum of models tells of outputs too, as far
    as a merged model's are the mean of its clients': whoever gave those on some images, or on any
    that the server chose, has nothing of them to guard.

    Args:
        entries: of the client's ledger.
        kind: what is summed.
        fraction: share of the query set.
        statistics: of the sum.

    Returns:
        Whether it need not guard a statistic.
    """
    if any(gives(entry, kind, fraction, statistics) for entry in entries):
        return lambda of: True
    if kinds.load(kind).output:
        return lambda of: False
    mixed = (entry for entry in entries if entry.get("kind") in MIXED_KINDS and is_exact(entry))
    return {of for entry in mixed for of in told_alone(entry)}.__contains__


def left_alone(entry: Entry, own: str, statistics: Sequence[str]) -> list[Event]:
    """A record that left alone, as events of a history: a sum in which nobody else was.

    Args:
        entry: of the ledger of its owner.
        own: the owner's column.
        statistics: those of `told_alone` that are told.
    """
    number = f"{ALONE}{entry['hash']}"
    sums = [{"of": each, "weights": {own: 1.0}} for each in statistics]
    left = {"event": LEFT, "round": number, "expert": entry.get("expert") or "", "sums": sums}
    return [left, {"event": OUTCOME, "round": number, "survivors": [own]}]


def bare(said: Iterable[Event]) -> list[Event]:
    """A history without what left alone."""
    return [event for event in said if not is_alone(event)]


def counted(said: Iterable[Event], expert: str | None, now: Excused, ever: Excused) -> list[Event]:
    """Another's history with what left of it alone, as far as a client has to guard against it.

    Args:
        said: the history.
        expert: tag of the expert that the other puts into the sum; None where that is not known.
        now: what the client need not guard, for what its own expert gave.
        ever: the same for all that it ever gave, also of other experts: what others told of theirs
            then says nothing of what they put in now, unless it is the same expert.
    """
    kept: list[Event] = []
    gone: set[str] = set()
    for event in said:
        rows = event.get("sums") or ()
        guarded = [
            row
            for row in rows
            if not ever(row["of"]) or (expert == event["expert"] and not now(row["of"]))
        ]
        if not is_alone(event) or len(guarded) == len(rows):
            kept += [] if event["round"] in gone else [event]
        elif guarded:
            kept.append({**event, "sums": guarded})
        else:
            gone.add(event["round"])
    return kept
