"""What clients of a secure sum tell one another, and keep of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neulig_fl.core.errors import InputError
from neulig_fl.records.secagg.peers import Peers, Statement, packed, unpacked

ROW = {"of": "model", "weights": {"a": 1.0, "b": 0.5}}
LEFT: dict[str, Any] = {"event": "left", "round": "1", "expert": "x", "sums": [ROW]}
WORD: dict[str, Any] = {"event": "outcome", "round": "1", "survivors": ["a", "b"]}
BODY: dict[str, Any] = {"expert": "x", "events": [LEFT, WORD], "column": "a", "heard": []}


def test_a_statement_travels_whole() -> None:
    """Without it what the keys of a sum sign would be another statement than what is read."""
    said = Statement.read({**BODY, "heard": [{**LEFT, "round": "0"}]})
    assert Statement.read(said.to_body()) == said
    assert (said.expert, said.column, said.heard[0]["round"]) == ("x", "a", "0")
    other = Statement.read({**BODY, "expert": "y"})
    for changed in ("expert", "events", "column", "heard"):
        parts = {**vars(said), changed: vars(other)[changed] if changed != "column" else "b"}
        parts |= {"events": ()} if changed == "events" else {}
        assert Statement(**parts).digest != said.digest, changed


def test_the_events_of_all_are_packed_once_each() -> None:
    """Without it a thousand clients would send each round a thousand times, to each."""
    one, two = Statement.read(BODY), Statement.read({**BODY, "events": [{**LEFT, "expert": "y"}]})
    body = packed({"ada": one, "bob": two})
    assert len(body["events"]) == 2
    assert unpacked(body) == {"ada": one, "bob": two}


@pytest.mark.parametrize("said", [
    None, [], {}, {**BODY, "more": 1}, {**BODY, "expert": 7}, {**BODY, "expert": "x" * 201},
    {**BODY, "column": None}, {**BODY, "events": {}}, {**BODY, "heard": None},
    {**BODY, "events": [7]}, {**BODY, "heard": [{}]},
    {**BODY, "events": [{**LEFT, "event": "other"}]}, {**BODY, "events": [{**LEFT, "round": 1}]},
    {**BODY, "events": [{**LEFT, "expert": None}]}, {**BODY, "events": [{**LEFT, "sums": []}]},
    {**BODY, "events": [{**LEFT, "sums": {}}]}, {**BODY, "events": [{**LEFT, "sums": [7]}]},
    {**BODY, "events": [{**LEFT, "sums": [{**ROW, "more": 1}]}]},
    {**BODY, "events": [{**LEFT, "sums": [{**ROW, "of": 1}]}]},
    {**BODY, "events": [{**LEFT, "sums": [{**ROW, "weights": [1.0]}]}]},
    {**BODY, "events": [{**LEFT, "sums": [{**ROW, "weights": {"a": 1}}]}]},
    {**BODY, "events": [{**LEFT, "sums": [{**ROW, "weights": {"a": float("nan")}}]}]},
    {**BODY, "events": [{**WORD, "survivors": "ab"}]}, {**BODY, "events": [{**WORD, "survivors": [1]}]},
    {**BODY, "events": [{**WORD, "more": 1}]},
])  # fmt: skip
def test_what_is_no_history_is_not_read(said: object) -> None:
    """Without it a partner's nonsense would crash a client, or count as a history of nothing."""
    with pytest.raises(InputError, match=r"secure sum: a client's history is .*malformed") as error:
        Statement.read(said)
    assert error.value.public_reason


def test_a_text_of_200_characters_is_one() -> None:
    """Without it a long name of images would end sums."""
    assert Statement.read({**BODY, "expert": "x" * 200}).expert == "x" * 200


def test_what_was_heard_is_kept_for_the_owner_alone(tmp_path: Path) -> None:
    """Without it other users would read it, or a later sum would know nothing of it."""
    peers = Peers(tmp_path)
    assert peers.known() == {}
    assert peers.hearsay(()) == []
    zero = {**LEFT, "round": "0", "expert": ""}
    peers.hear({"a": Statement.read({**BODY, "heard": [zero]}), "b": Statement("y", (), "b")})
    assert Peers(tmp_path).known() == {"a": (LEFT, WORD), "b": ()}
    assert Peers(tmp_path).hearsay(("a",)) == [zero]
    assert Peers(tmp_path).hearsay(()) == [{**LEFT, "expert": ""}, WORD, zero]
    file = tmp_path / "peers" / "histories.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    before = file.stat().st_mtime_ns
    peers.hear({"a": Statement.read(BODY)})
    assert file.stat().st_mtime_ns == before, "nothing new"


def test_a_history_goes_on_from_what_was_heard(tmp_path: Path) -> None:
    """Without it a store that was put back would vouch for sums that never were."""
    peers = Peers(tmp_path)
    peers.hear({"a": Statement.read(BODY)})
    more = {**LEFT, "round": "2"}
    for events in ((), (LEFT,), (WORD, LEFT), ({**LEFT, "expert": "y"}, WORD)):
        with pytest.raises(InputError, match="shorter or other than one heard before"):
            peers.hear({"b": Statement("z", (more,), "b"), "a": Statement("x", events, "a")})
    assert peers.known() == {"a": (LEFT, WORD)}, "nothing of a wrong message is kept"
    peers.hear({"a": Statement("x", (LEFT, WORD, more), "a")})
    assert peers.known()["a"] == (LEFT, WORD, more)


def test_a_key_is_believed_once(tmp_path: Path) -> None:
    """Without it a later scenario's author would put himself in a partner's place."""
    peers = Peers(tmp_path)
    peers.believe({"bob": "B", "cyd": "C"}, by_owner=False)
    peers.believe({"bob": "B"}, by_owner=False)
    with pytest.raises(InputError, match="the key of bob is another than in an earlier sum"):
        peers.believe({"cyd": "C", "bob": "D"}, by_owner=False)
    peers.believe({"bob": "D"}, by_owner=True)
    peers.believe({"bob": "D", "cyd": "C"}, by_owner=False)
    assert (tmp_path / "peers" / "keys.json").stat().st_mode & 0o777 == 0o600
