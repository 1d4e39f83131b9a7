"""Attacks on what clients remember of sums: chains that nobody knows whole, lies, silence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_sums
from tiny_sums import Hand

from neulig_fl.client.gate import Side
from neulig_fl.client.secagg import gate
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import ClientRefused, InputError
from neulig_fl.privacy import leverage
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg.peers import Peers, Statement, column
from neulig_fl.records.secagg.requests import Part

RUN, OTHER = "ab" * 16, "cd" * 16
Events = Sequence[dict[str, Any]]


def _scenario(folder: Path, data: Path, names: Sequence[str], **more: Any) -> Scenario:
    policies = more.pop("policies", {})
    clients: list[dict[str, Any]] = [
        {"name": n, "task": ("first", "second")[i % 2]} for i, n in enumerate(names)
    ]
    for client in clients:
        client |= {"policy": policies[client["name"]]} if client["name"] in policies else {}
    return tiny_sums.scenario(folder, data, clients=clients, **more)


def _sum(names: str, **weights: float) -> list[Part]:
    return [Part(None, {**dict.fromkeys(names.split(), 1.0), **weights})]


def _column(hand: Hand, name: str) -> str:
    return column(hand.store(name).identity.public)


def _lying(
    patch: pytest.MonkeyPatch, liar: str, told: Callable[[Statement], Sequence[Any]]
) -> None:
    """One client tells others another history."""
    honest = gate.statement

    def statement(side: Side, expert: str, invited: Collection[str]) -> Statement:
        said = honest(side, expert, invited)
        if side.client.name != liar:
            return said
        return Statement(said.expert, tuple(told(said)), said.column, said.heard)

    patch.setattr(gate, "statement", statement)


def test_a_chain_of_sums_is_known_where_its_ends_meet(data: Path, tmp_path: Path) -> None:
    """Attack: five sums, each harmless to all who are in it, and ada alone in what they leave."""
    names = "ada bob cyd dan fay gus hal ivo kay lea max"
    hand = Hand(
        _scenario(tmp_path, data, names.split()), tmp_path, _sum("ada bob cyd hal ivo")
    ).until("reveal")
    for harmless in ("hal ivo gus kay", "bob cyd dan fay", "gus kay lea max"):
        hand = hand.again(_sum(harmless)).until("reveal")
    last = hand.again(_sum("dan fay", lea=-1.0, max=-1.0)).until("advertise")
    rows = [
        *("ada bob cyd hal ivo", "hal ivo gus kay", "bob cyd dan fay", "gus kay lea max"),
    ]
    sums: list[dict[str, float]] = [dict.fromkeys(row.split(), 1.0) for row in rows]
    assert max(leverage.leverages(sums).values()) <= 0.5 + 1e-9
    whole = leverage.leverages([*sums, dict(last.asked.parts[0].weights)])
    assert whole["ada"] == pytest.approx(1.0)
    for name in ("dan", "lea"):
        with pytest.raises(ClientRefused, match=r"leverage of client .* above max_leverage"):
            last.say(name, last.body("share", name))


def test_who_leaves_a_sum_out_hides_nothing_that_others_heard(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: eve was in a sum of which those who are asked last have never met the others."""
    names = "ada bob cyd dan eve fay hal ivo kay"
    policies = {"eve": {"budgets": {"max_leverage": 1.0}}}
    hand = Hand(
        _scenario(tmp_path, data, names.split(), policies=policies), tmp_path, _sum("hal ivo eve")
    ).until("reveal")
    for harmless in ("ada bob cyd hal ivo", "bob cyd dan fay kay"):
        hand = hand.again(_sum(harmless)).until("reveal")
    _lying(monkeypatch, "eve", lambda said: ())
    last = hand.again(_sum("dan fay kay eve")).until("advertise")
    for name in ("dan", "kay"):
        with pytest.raises(ClientRefused, match=r"leverage of client .* above max_leverage"):
            last.say(name, last.body("share", name))


def test_an_old_model_that_left_alone_lets_no_new_one_be_told(data: Path, tmp_path: Path) -> None:
    """Attack: all release a first model; later the others release a second, ada sums hers."""
    names = ("ada", "bob", "cyd", "dan")
    stages = [
        {"name": "alone", "share": [{"kind": "parameters"}]},
        {"name": "sums", "share": tiny_sums.SHARE},
    ]
    alone = asdict(Request("alone", "A", "parameters"))
    first = Hand(_scenario(tmp_path / "1", data, names, stages=stages, seed=3), tmp_path)
    for name in names:
        assert tiny.say(first.party(name), "release", {"run": first.run, **alone})[1]
    policies = {"ada": {"preset": "sums-only"}}
    scenario = _scenario(tmp_path / "2", data, names, stages=stages, seed=4, policies=policies)
    again = Hand(scenario, tmp_path, run=OTHER)
    for name in names[1:]:
        assert tiny.say(again.party(name), "release", {"run": again.run, **alone})[1]
    again.until("advertise")
    with pytest.raises(ClientRefused, match=r"leverage of client 'ada' in sums .* be 1\.000"):
        again.say("ada", again.body("share", "ada"))


def test_models_of_before_end_no_sums_of_new_ones(data: Path, tmp_path: Path) -> None:
    """Without it a study over seeds, with stores that last, would have sums in its first seed."""
    names = ("ada", "bob", "cyd", "dan")
    stages = [
        {"name": "sums", "share": tiny_sums.SHARE},
        {"name": "alone", "share": [{"kind": "parameters"}]},
    ]
    alone = asdict(Request("alone", "A", "parameters"))
    for seed, run in ((3, RUN), (4, OTHER)):
        hand = Hand(
            _scenario(tmp_path / str(seed), data, names, stages=stages, seed=seed),
            tmp_path,
            run=run,
        )
        hand.until("reveal")
        for name in names:
            assert tiny.say(hand.party(name), "release", {"run": hand.run, **alone})[1]


def test_an_outcome_that_is_kept_from_a_client_may_be_of_few(data: Path, tmp_path: Path) -> None:
    """Attack: two of large weight are left out of the sum, and ada, not asked, counts them."""
    hand: Hand | None = None
    for group in ("bob cyd dan eve", "fay gus hal ivo"):
        names = ["ada", "xan", "yan", *group.split()]
        scenario = _scenario(tmp_path / group, data, names, secure_aggregation={"threshold": 4})
        (tmp_path / "address-book.json").unlink(missing_ok=True)
        weights = {**dict.fromkeys(group.split(), 0.51), "xan": 30.0, "yan": 30.0}
        run = RUN if hand is None else OTHER
        hand = Hand(scenario, tmp_path, _sum("ada", **weights), run=run)
        if run == OTHER:
            break
        hand.until("share")
        for name in hand.server.expected:
            _, payload = hand.say(name, hand.body("mask", name))
            if name not in ("xan", "yan"):
                hand.server.add_masked(name, payload)
        hand.told["outcome"] = hand.server.outcome()
        for name in group.split():
            said = hand.say(name, hand.body("confirm", name))[0]["message"]
            hand.server.add_confirmation(name, bytes.fromhex(said))
        assert "ada" in hand.server.survivors
    assert hand is not None
    hand.until("advertise")
    with pytest.raises(ClientRefused, match=r"leverage of client 'ada' in sums .* above max"):
        hand.say("ada", hand.body("share", "ada"))


def test_a_name_is_nobody_elses_key(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: a client is called as ada's key, so that its own model is taken for hers."""
    names = ["ada", "bob", "cyd", "dan", "fay", "kay"]
    look = Hand(_scenario(tmp_path / "look", data, names), tmp_path)
    tiny.say(look.party("ada"), "close", {"run": look.run})
    called = _column(look, "ada")
    (tmp_path / "address-book.json").unlink()
    policies = {called: {"budgets": {"max_leverage": 1.0}}}
    scenario = _scenario(tmp_path, data, [*names, called], policies=policies)
    hand = Hand(scenario, tmp_path, _sum("ada bob cyd"), run=OTHER).until("reveal")
    number, own = "alone " + "0" * 64, _column(hand, called)
    row = {"of": "model", "weights": {own: 1.0}}
    told = [
        {"event": "left", "round": number, "expert": "x", "sums": [row]},
        {"event": "outcome", "round": number, "survivors": [own]},
    ]
    _lying(monkeypatch, called, lambda said: [*told, *said.events])
    hand = hand.again(_sum("bob cyd dan fay kay")).until("reveal")
    last = hand.again(_sum("dan fay kay", **{called: 1e-4})).until("advertise")
    for name in ("dan", "kay"):
        with pytest.raises(ClientRefused, match=f"client 'key {called}' .* be 1.000"):
            last.say(name, last.body("share", name))


def test_a_history_tells_a_round_once() -> None:
    """Attack: 200 views and outcomes of one round keep every other client busy for minutes."""
    row = {"of": "model", "weights": {"e": 1.0}}
    left = {"event": "left", "round": "1", "expert": "x", "sums": [row]}
    word = {"event": "outcome", "round": "1", "survivors": ["e"]}
    body = {"expert": "x", "column": "e", "heard": []}
    assert Statement.read({**body, "events": [left, word]}).events == (left, word)
    for events in ([left, left], [left, word, word]):
        with pytest.raises(InputError, match="tells a round twice"):
            Statement.read({**body, "events": events})


def test_what_an_earlier_version_heard_is_not_forgotten(tmp_path: Path) -> None:
    """Without it an update would make a client forget all sums that it heard of."""
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / ("ab" * 8)).write_text("[]")
    with pytest.raises(InputError, match="of an earlier version"):
        Peers(tmp_path).known()
