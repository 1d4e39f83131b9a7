"""What the clients of a secure sum tell one another of the sums that they remember.

A server tells each client what it likes, so a client that was left out of one sum does not know it.
In every sum each client hands the others its history, of which its signed keys hold the digest: all
have the same, or none takes part. What a client heard of another it keeps, and it refuses a history
that is shorter or other than the one before. It hands on what it heard of those who are not asked,
so that a chain of sums is known where its ends meet.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.core import strict_json
from neulig_fl.core.errors import InputError
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.ledger import key_store
from neulig_fl.ledger.chain import OUTCOME, canonical
from neulig_fl.privacy.keys import PublicIdentity
from neulig_fl.privacy.leverage import WeightedSum
from neulig_fl.records.secagg import history
from neulig_fl.records.secagg.history import LEFT, Event

_FOLDER = "peers"
_KEYS = "keys.json"
_HISTORIES = "histories.json"
_HEARSAY = "hearsay"
"""Where the file keeps what was heard through others; no column is called so."""

_COLUMN = re.compile(r"[0-9a-f]{16}")
_FIELDS = {"expert", "events", "column", "heard"}
_MOST_TEXT = 200


def column(identity: PublicIdentity) -> str:
    """What a client is called in histories: 64 bits of the hash of its oldest key, hex."""
    return hashlib.sha256(identity.lineage[0].encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Statement:
    """What one client says of itself to the others of a sum.

    Args:
        expert: the tag of the expert whose vector it puts in.
        events: its history.
        column: what it is called in histories. A server that keeps its hand-overs back would have
            others call it otherwise.
        heard: what it heard of clients that this sum does not ask, and they of others.
    """

    expert: str
    events: tuple[Event, ...]
    column: str = ""
    heard: tuple[Event, ...] = ()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the statement; the client signs it with its keys for the sum."""
        return hashlib.sha256(canonical(self.to_body()).encode()).digest()

    def to_body(self) -> dict[str, Any]:
        """As it travels from the client."""
        events, heard = ([dict(event) for event in each] for each in (self.events, self.heard))
        return {"expert": self.expert, "events": events, "column": self.column, "heard": heard}

    @staticmethod
    def read(body: object) -> Statement:
        """What `to_body` made.

        Raises:
            InputError: it is no such statement.
        """
        if not isinstance(body, dict) or set(body) != _FIELDS:
            raise _wrong("a client's history is missing or malformed")
        named = _is_text(body["expert"]) and _is_text(body["column"])
        lists = [body["events"], body["heard"]]
        if not named or not all(isinstance(each, list) for each in lists):
            raise _wrong("a client's history is malformed")
        events, heard = (tuple(map(_event, each)) for each in lists)
        told = Counter((event["event"], event["round"]) for event in events)
        if any(count > 1 for count in told.values()):  # a vector leaves once, for one outcome
            raise _wrong("a client's history tells a round twice")
        return Statement(body["expert"], events, body["column"], heard)


def packed(statements: Mapping[str, Statement]) -> dict[str, Any]:
    """The statements of all clients, each event once: those of one round are nearly the same.

    Args:
        statements: by client's name.
    """
    table: dict[str, int] = {}

    def place(event: Event) -> int:
        common = canonical({k: v for k, v in event.items() if k != "expert"})
        return table.setdefault(common, len(table))

    said = {
        name: {
            "expert": each.expert,
            "events": [[place(event), event.get("expert")] for event in each.events],
            "column": each.column,
            "heard": [[place(event), event.get("expert")] for event in each.heard],
        }
        for name, each in statements.items()
    }
    return {"events": [json.loads(text) for text in table], "clients": said}


def unpacked(body: object) -> dict[str, Statement]:
    """What `packed` was given.

    Raises:
        InputError: it is not what `packed` makes.
    """
    try:
        return {name: _unpacked(said, body) for name, said in body["clients"].items()}  # type: ignore[index]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise _wrong("the clients' histories are missing or malformed") from None


def _unpacked(said: Any, body: Any) -> Statement:
    def events(places: Any) -> list[Any]:
        found = []
        for place, expert in places:
            common = body["events"][place]
            found.append(common if common["event"] == OUTCOME else {**common, "expert": expert})
        return found

    return Statement.read(
        {**said, "events": events(said["events"]), "heard": events(said["heard"])}
    )


def _event(said: object) -> Event:
    if isinstance(said, dict):
        outcome = set(said) == {"event", "round", "survivors"} and said["event"] == OUTCOME
        left = set(said) == {"event", "round", "expert", "sums"} and said["event"] == LEFT
        named = _is_text(said.get("round"))
        if outcome and named and _are_texts(said["survivors"]):
            return said
        if left and named and _is_text(said["expert"]) and _are_rows(said["sums"]):
            return said
    raise _wrong("a client's history is malformed")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MOST_TEXT


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(map(_is_text, values))


def _are_rows(values: object) -> bool:
    if not isinstance(values, list) or not values:
        return False
    for row in values:
        if not isinstance(row, dict) or set(row) != {"of", "weights"} or not _is_text(row["of"]):
            return False
        weights = row["weights"]
        if not isinstance(weights, dict) or not all(type(w) is float for w in weights.values()):
            return False
        try:
            WeightedSum(row["of"], weights)
        except InputError:
            return False
    return True


class Peers:
    """The keys and the histories of others that a client has heard.

    Args:
        root: the client's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / _FOLDER

    def known(self) -> dict[str, Sequence[Event]]:
        """By column, what was heard last.

        Raises:
            InputError: the file is damaged; without it a history could be cut unseen.
        """
        return {name: each.events for name, each in self._heard().items() if name != _HEARSAY}

    def hearsay(self, but: Collection[str]) -> list[Event]:
        """All that was heard of clients, and of others through them, but for some of them.

        Args:
            but: columns of those who tell themselves.

        Raises:
            InputError: the file is damaged.
        """
        said = self._heard()
        of = [each.events for name, each in said.items() if name not in {*but, _HEARSAY}]
        through = said[_HEARSAY].heard if _HEARSAY in said else ()
        return history.merged(*of, through)

    def _heard(self) -> dict[str, Statement]:
        if any(_COLUMN.fullmatch(path.name) for path in self._folder.glob("*")):
            raise _wrong("what it heard of others' histories is of an earlier version")
        try:
            return unpacked(strict_json.parsed((self._folder / _HISTORIES).read_bytes()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, InputError):
            raise _wrong("what it heard of others' histories is damaged") from None

    def believe(self, keys: Mapping[str, str], by_owner: bool) -> None:
        """Hold clients to the keys that they had before, and keep new ones.

        A scenario that pins another key than an earlier one is its author's word, no more; the
        node's owner may know better.

        Args:
            keys: the oldest key of each, by name.
            by_owner: whether the node's owner said them.

        Raises:
            InputError: a client has another key than before, or the file is damaged.
        """
        before = self._keys()
        for name, key in () if by_owner else keys.items():
            if before.get(name, key) != key:
                raise _wrong(
                    f"the key of {name} is another than in an earlier sum; if that is right, say "
                    "so in the node's address book"
                )
        if not keys.items() <= before.items():
            key_store.private_folder(self._folder)
            write_atomically(self._folder / _KEYS, canonical({**before, **keys}), PRIVATE)

    def _keys(self) -> dict[str, str]:
        try:
            said = strict_json.parsed((self._folder / _KEYS).read_bytes())
            return {str(name): str(key) for name, key in said.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError):
            raise _wrong("what it kept of others' keys is damaged") from None

    def hear(self, statements: Mapping[str, Statement]) -> None:
        """Keep what others say, if it goes on from what they said before.

        Args:
            statements: by column.

        Raises:
            InputError: a history is shorter or other than one heard before; nothing is kept.
        """
        before = self._heard()
        for name, statement in statements.items():
            told = before[name].events if name in before else ()
            if statement.events[: len(told)] != told:
                raise _wrong("a client's history is shorter or other than one heard before")
        through = before[_HEARSAY].heard if _HEARSAY in before else ()
        heard = history.merged(through, *(each.heard for each in statements.values()))
        after = {**before, **{n: Statement("", each.events, n) for n, each in statements.items()}}
        if heard:
            after[_HEARSAY] = Statement("", (), _HEARSAY, tuple(heard))
        if after != before:
            key_store.private_folder(self._folder)
            write_atomically(self._folder / _HISTORIES, canonical(packed(after)), PRIVATE)


def _wrong(problem: str) -> InputError:
    return InputError(f"secure sum: {problem}; nothing was sent", public_reason=problem)
