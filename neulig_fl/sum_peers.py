"""What the clients of a secure sum tell one another of the sums that they remember.

A server tells each client what it likes, so a client that was left out of one sum does not know it.
In every sum each client hands the others its history, of which its signed keys hold the digest: all
have the same, or none takes part. What a client heard of another it keeps, and it refuses a history
that is shorter or other than the one before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl import key_files, strict_json
from neulig_fl.errors import InputError
from neulig_fl.files import PRIVATE, write_atomically
from neulig_fl.keys import PublicIdentity
from neulig_fl.ledger import OUTCOME, canonical
from neulig_fl.leverage import WeightedSum
from neulig_fl.sum_history import LEFT, Event

_FOLDER = "peers"
_KEYS = "keys.json"
_HISTORIES = "histories.json"
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
    """

    expert: str
    events: tuple[Event, ...]
    column: str = ""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the statement; the client signs it with its keys for the sum."""
        said = {"expert": self.expert, "events": list(self.events), "column": self.column}
        return hashlib.sha256(canonical(said).encode()).digest()

    def to_body(self) -> dict[str, Any]:
        """As it travels from the client."""
        events = [dict(event) for event in self.events]
        return {"expert": self.expert, "events": events, "column": self.column}

    @staticmethod
    def read(body: object) -> Statement:
        """What `to_body` made.

        Raises:
            InputError: it is no such statement.
        """
        if not isinstance(body, dict) or set(body) != {"expert", "events", "column"}:
            raise _wrong("a client's history is missing or malformed")
        named = _is_text(body["expert"]) and _is_text(body["column"])
        if not isinstance(body["events"], list) or not named:
            raise _wrong("a client's history is malformed")
        return Statement(body["expert"], tuple(map(_event, body["events"])), body["column"])


def packed(statements: Mapping[str, Statement]) -> dict[str, Any]:
    """The statements of all clients, each event once: those of one round are nearly the same.

    Args:
        statements: by client's name.
    """
    table: dict[str, int] = {}
    said: dict[str, Any] = {}
    for name, statement in statements.items():
        places = []
        for event in statement.events:
            common = canonical({k: v for k, v in event.items() if k != "expert"})
            places.append([table.setdefault(common, len(table)), event.get("expert")])
        said[name] = {
            "expert": statement.expert, "events": places, "column": statement.column
        }  # fmt: skip
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
    events = []
    for place, expert in said["events"]:
        common = body["events"][place]
        events.append(common if common["event"] == OUTCOME else {**common, "expert": expert})
    return Statement.read({**said, "events": events})


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
        try:
            said = strict_json.parsed((self._folder / _HISTORIES).read_bytes())
            return {column: each.events for column, each in unpacked(said).items()}
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
            key_files.private_folder(self._folder)
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
        before = self.known()
        for name, statement in statements.items():
            told = list(before.get(name, ()))
            if list(statement.events[: len(told)]) != told:
                raise _wrong("a client's history is shorter or other than one heard before")
        after = {**before, **{name: each.events for name, each in statements.items()}}
        if after != before:
            said = {name: Statement("", tuple(told), name) for name, told in after.items()}
            key_files.private_folder(self._folder)
            write_atomically(self._folder / _HISTORIES, canonical(packed(said)), PRIVATE)


def _wrong(problem: str) -> InputError:
    return InputError(f"secure sum: {problem}; nothing was sent", public_reason=problem)
