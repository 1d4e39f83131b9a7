"""Attacks on secure sums over several sums, statistics, names and clients at once.

What each would get is what an attacker got on a version before: a client's whole vector, by linear
algebra over sums of which each alone was harmless.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_sums
from tiny_sums import CLIENTS, MEAN, Hand

from neulig_fl.client.gate import Side
from neulig_fl.client.secagg import gate
from neulig_fl.client.secagg.state import SumInProgress
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import ClientRefused
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg.peers import Statement, column, packed
from neulig_fl.records.secagg.requests import Part

THREE = {name: 1 / 3 for name in CLIENTS if name != "dan"}
SIX = ("ada", "bob", "cyd", "dan", "eve", "fay")
ANSWERS = Request("sums", "A", "features", "evaluation", protection="secure-aggregation")


@pytest.fixture
def scenario(data: Path, tmp_path: Path) -> Scenario:
    """Four clients, one stage that shares features and parameters within sums."""
    return tiny_sums.scenario(tmp_path, data)


@pytest.fixture
def hand(scenario: Scenario, tmp_path: Path) -> Hand:
    """A server by hand that asks for the mean of the parameters."""
    return Hand(scenario, tmp_path)


def refused(hand: Hand, step: str, name: str, match: str, /, **changes: Any) -> None:
    """One message is refused, and the vector does not leave."""
    before = [e["event"] for e in hand.store(name).entries()].count("release")
    with pytest.raises(ClientRefused, match=match):
        hand.say(name, hand.body(step, name, **changes))
    assert [e["event"] for e in hand.store(name).entries()].count("release") == before


def uniform(*names: str) -> list[Part]:
    """The mean over some clients."""
    return [Part(None, dict.fromkeys(names, 1 / len(names)))]


# ---------------------------------------------------------------- order

POLICIES: dict[str, dict[str, Any]] = {
    "no policy": {},
    "sums-only": {"preset": "sums-only"},
    "a third and no more": {"budgets": {"max_leverage": 0.34}},
    "groups of three": {"budgets": {"min_group_size": 3}},
}


@pytest.mark.parametrize("how", POLICIES)
def test_a_sum_with_a_client_after_one_without_it_is_refused(
    how: str, data: Path, tmp_path: Path
) -> None:
    """Without it a sum that dan is not told of, and the next one, are dan's whole vector."""
    policies = {name: POLICIES[how] for name in CLIENTS if POLICIES[how]}
    hand = Hand(
        tiny_sums.scenario(tmp_path, data, policies=policies), tmp_path, uniform(*THREE)
    ).until("reveal")
    whole = hand.again(uniform(*CLIENTS))
    for name in THREE:
        refused(whole, "advertise", name, "leverage of client 'dan' in sums over parameters")
    assert not hand.store("dan").entries(), "dan knows of nothing"


@pytest.mark.parametrize("after", [False, True])
def test_a_lost_vector_and_the_next_mean_are_refused(after: bool, hand: Hand) -> None:
    """Without it the project's own rounds, one lost message apart, are a client's whole vector."""
    hand.until("share")
    if after:  # it left, and the server says that it did not
        hand.say("dan", hand.body("mask", "dan"))
    for name in THREE:
        body, payload = hand.say(name, hand.body("mask", name))
        hand.server.add_masked(name, payload)
        assert body["entry"]["sums"][0]["weights"] == MEAN
    hand.told["outcome"] = hand.server.outcome()
    for name in THREE:
        said = hand.say(name, hand.body("confirm", name))[0]["message"]
        hand.server.add_confirmation(name, bytes.fromhex(said))
    again = hand.again(uniform(*CLIENTS))
    for name in THREE:
        refused(again, "advertise", name, "leverage of client 'dan' in sums over parameters")


def test_who_is_not_there_is_guarded_at_its_own_limit(data: Path, tmp_path: Path) -> None:
    """Without it partners of a careful client, whose own limits are large, tell more than it allows."""
    rest = [Part(None, {"ada": 0.5, "bob": 0.4, "cyd": 0.1})]
    for careful in (False, True):
        policies = {name: {"budgets": {"max_leverage": 0.99}} for name in CLIENTS}
        policies |= {"dan": {"budgets": {"max_leverage": 0.3}}} if careful else {}
        folder = tmp_path / str(careful)
        scenario = tiny_sums.scenario(folder, data, policies=policies)
        hand = Hand(scenario, folder, uniform(*CLIENTS)).until("reveal").again(rest)
        if not careful:
            hand.until("reveal")
            continue
        for name in THREE:
            what = r"leverage of client 'dan' in sums over parameters .* above max_leverage 0\.3"
            refused(hand, "advertise", name, what)


def _of_six(data: Path, folder: Path, **more: Any) -> Scenario:
    clients = [{"name": n, "task": ("first", "second")[i % 2]} for i, n in enumerate(SIX)]
    policies = more.pop("policies", {})
    clients = [c | {"policy": policies[c["name"]]} if c["name"] in policies else c for c in clients]
    return tiny_sums.scenario(folder, data, clients=clients, **more)


def _column(hand: Hand, name: str) -> str:
    """What a client is called by those who never met it."""
    return column(hand.store(name).identity.public)


def test_three_sums_of_which_nobody_saw_all_are_put_together(data: Path, tmp_path: Path) -> None:
    """Without it two sums of three and one of five are the sixth client's whole vector."""
    hand = Hand(_of_six(data, tmp_path), tmp_path, uniform(*SIX[:3])).until("reveal")
    hand.again(uniform(*SIX[3:])).until("reveal")
    five = hand.again(uniform(*SIX[:5])).until("advertise")
    for name in SIX[:5]:
        refused(
            five,
            "share",
            name,
            f"leverage of client '(fay|key {_column(hand, 'fay')})' .* be 1.000",
        )


def test_what_was_heard_of_others_is_kept_for_later_sums(data: Path, tmp_path: Path) -> None:
    """Without it those who remember a sum need only be left out of the last one."""
    hand = Hand(_of_six(data, tmp_path), tmp_path, uniform("ada", "bob", "cyd")).until("reveal")
    hand.again(uniform("ada", "bob", "dan", "eve", "fay")).until("reveal")  # ada tells of the first
    last = hand.again(uniform("dan", "eve", "fay")).until("advertise")
    for name in ("dan", "eve", "fay"):
        refused(last, "share", name, f"leverage of client 'key {_column(hand, 'cyd')}' .* be 1.000")


# ---------------------------------------------------------------- histories that lie


def test_a_history_that_is_missing_is_refused(hand: Hand) -> None:
    """Without it a server need only keep the sums that somebody remembers to itself."""
    hand.until("advertise")
    for name in ("bob", "ada"):
        rest = {n: said for n, said in hand.histories().items() if n != name}
        refused(hand, "share", "ada", f"the history of '{name}' is not", histories=packed(rest))
    for wrong in (None, {}, {"events": [], "clients": 7}, {"clients": {}}, "x"):
        refused(hand, "share", "ada", "histories are missing or malformed|is not", histories=wrong)


def test_a_history_that_its_client_did_not_sign_is_refused(hand: Hand) -> None:
    """Without it a server could cut out of another's history what speaks against a sum."""
    hand.until("reveal")
    again = hand.again([Part(None, MEAN)]).until("advertise")
    said = again.histories()
    assert len(said["bob"].events) == 2
    for events in ((), said["bob"].events[:1], said["bob"].events[1:]):
        lie = {**said, "bob": Statement(said["bob"].expert, events)}
        refused(again, "share", "ada", "history of 'bob' is not the one", histories=packed(lie))
    another = {**said, "bob": Statement("another", said["bob"].events)}
    refused(again, "share", "ada", "history of 'bob' is not the one", histories=packed(another))


@pytest.mark.parametrize("how", ["rolled back", "forked"])
def test_a_history_that_is_not_the_one_heard_before_is_refused(how: str, hand: Hand) -> None:
    """Without it a client whose store is put back would vouch for a sum that never was."""
    hand.until("reveal")
    hand.again([Part(None, MEAN)]).until("reveal")  # bob's first sum is heard here
    ledger = hand.store("bob").ledger_file
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("" if how == "rolled back" else lines[0])
    again = hand.again([Part(None, MEAN)]).until("advertise")
    if how == "rolled back":
        assert again.histories()["bob"].events == ()
    refused(again, "share", "ada", "shorter or other than one heard before")


@pytest.mark.parametrize("lie", ["nothing", "it was alone", "other rows", "another outcome"])
def test_a_false_history_excuses_no_sum(
    lie: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: eve tells that ada was known already, or of other sums, so that nobody guards ada."""
    policies = {"eve": {"budgets": {"max_leverage": 1.0}}}
    first = Hand(_of_six(data, tmp_path, policies=policies), tmp_path, uniform(*SIX[:3]))
    first.until("reveal").again(uniform("bob", "cyd", "dan", "fay")).until("reveal")
    columns = {name: _column(first, name) for name in SIX}
    rows: dict[str, tuple[str, dict[str, float], list[str]]] = {
        "it was alone": ("ab" * 16, {"ada": 1.0}, ["ada"]),
        "other rows": (first.asked.round, dict.fromkeys(SIX, 1.0), [*SIX]),
        "another outcome": (first.asked.round, {"ada": 1.0, "eve": 1.0}, ["bob", "cyd"]),
    }
    honest = gate.statement

    def statement(side: Side, expert: str, invited: Collection[str]) -> Statement:
        said = honest(side, expert, invited)
        if side.client.name != "eve" or lie not in rows:
            return said
        number, weights, survivors = rows[lie]
        row = {"of": "model", "weights": {columns[name]: w for name, w in weights.items()}}
        left = {"event": "left", "round": number, "expert": "x", "sums": [row]}
        word = {"event": "outcome", "round": number, "survivors": [columns[n] for n in survivors]}
        return Statement(said.expert, (*said.events, left, word), said.column)

    monkeypatch.setattr(gate, "statement", statement)
    last = first.again(uniform("dan", "eve", "fay")).until("advertise")
    for name in ("dan", "fay"):
        refused(last, "share", name, f"leverage of client '(eve|key {columns['ada']})' .* be 0.667")


def test_what_was_heard_and_cannot_be_read_stops_sums(hand: Hand) -> None:
    """Without it a damaged file would be a history of nothing."""
    hand.until("reveal")
    hand.again([Part(None, MEAN)]).until("reveal")
    file = hand.root / "clients" / "ada" / "peers" / "histories.json"
    file.write_text("[7]")
    refused(
        hand.again([Part(None, MEAN)]),
        "advertise",
        "ada",
        "what it heard of others' histories is damaged",
    )


def test_a_history_tells_rows_and_nothing_else(hand: Hand) -> None:
    """Without it others would learn more of a client's releases than the sums that they share."""
    hand.until("reveal")
    said = hand.again([Part(None, MEAN)]).until("advertise").histories()["ada"].to_body()
    left, outcome = said["events"]
    assert set(said) == {"expert", "events", "column", "heard"}
    assert said["heard"] == [], "all whom it heard tell themselves"
    assert set(left) == {"event", "round", "expert", "sums"}
    assert set(outcome) == {"event", "round", "survivors"}
    assert [set(row) for row in left["sums"]] == [{"of", "weights"}]
    columns = {_column(hand, name) for name in CLIENTS}
    assert set(left["sums"][0]["weights"]) == set(outcome["survivors"]) == columns


# ---------------------------------------------------------------- rounding


def test_rounding_is_another_in_every_sum(hand: Hand) -> None:
    """Without it sums on grids of other sizes are digit after digit of one client's vector."""
    totals = [hand.until("reveal").told["sum"]]
    totals += [hand.again([Part(None, MEAN)]).until("reveal").told["sum"] for _ in range(2)]
    bound = 2 * hand.terms.quantisation
    for one, other in ((0, 1), (0, 2), (1, 2)):
        difference = totals[one] - totals[other]
        assert np.abs(difference).max() <= bound
        assert (difference != 0).mean() > 0.3, "rounded alike"


def test_one_parts_weights_do_not_set_anothers_grid(scenario: Scenario, tmp_path: Path) -> None:
    """Without it a part of large weights beside it makes another one's rounding coarse."""
    parts = [Part(None, MEAN), Part(None, {n: 2.0**20 * w for n, w in MEAN.items()})]
    hand = Hand(scenario, tmp_path, parts).until("reveal")
    first, second = np.split(hand.told["sum"], 2)
    assert np.abs(first - second).max() <= 2 * hand.terms.quantisation
    assert hand.terms.quantisation < 1e-6


def test_sums_under_the_same_weights_are_counted_too(data: Path, tmp_path: Path) -> None:
    """Without it what rounding hides is averaged away by asking for the same sum again."""
    policies = {"ada": {"budgets": {"max_sums": 2}}}
    hand = Hand(tiny_sums.scenario(tmp_path, data, policies=policies), tmp_path).until("reveal")
    hand.again([Part(None, dict.fromkeys(CLIENTS, 3.0))]).until("reveal")
    again = hand.again([Part(None, MEAN)])
    refused(again, "advertise", "ada", "limit max_sums 2: with this one, 3 sums of its vectors")


# ---------------------------------------------------------------- size


def test_guests_without_weight_are_no_survivors(scenario: Scenario, tmp_path: Path) -> None:
    """Without it a sum over two passes the threshold by those who put nothing in."""
    weights = {"ada": 0.3, "bob": 0.3, "cyd": 0.3, "dan": 0.0}
    hand = Hand(scenario, tmp_path, [Part(None, weights)]).until("mask", drops={"cyd": "mask"})
    for name in ("ada", "bob", "dan"):
        refused(hand, "confirm", name, "a sum over 2 clients tells too much of each")


def test_the_group_is_as_large_as_its_weights_say(data: Path, tmp_path: Path) -> None:
    """Without it clients of hardly any weight would fill up a group."""
    policies = {name: {"budgets": {"min_group_size": 4}} for name in CLIENTS}
    scenario = tiny_sums.scenario(tmp_path, data, policies=policies)
    hand = Hand(scenario, tmp_path, [Part(None, {**MEAN, "dan": 0.01})])
    refused(hand, "advertise", "ada", "min_group_size 4: the sum has 3 clients by their weights")


# ---------------------------------------------------------------- names


def _one_folder(data: Path, folder: Path) -> Scenario:
    """Both tasks are one folder of images."""
    copy = folder / "copy"
    shutil.copytree(data / "first", copy)
    tasks = {
        "first": {"source": "imagefolder", "root": str(data / "first")},
        "second": {"source": "imagefolder", "root": str(copy)},
    }
    return tiny_sums.scenario(folder, data, tasks=tasks)


def _row(*weights: float) -> dict[str, float]:
    return dict(zip(CLIENTS, weights, strict=True))


FIRST, OTHER = _row(0.3, 0.3, 0.2, 0.2), _row(0.2, 0.3, 0.3, 0.2)


def test_one_folder_under_two_names_is_one_history(data: Path, tmp_path: Path) -> None:
    """Without it the same answers are summed once for each name of their images."""
    scenario = _one_folder(data, tmp_path)
    alone = Hand(scenario, tmp_path, [Part("first", FIRST)], ANSWERS).until("reveal")
    for name in CLIENTS:
        refused(alone.again([Part("second", OTHER)]), "advertise", name, "leverage of client")


def test_a_part_of_the_same_images_is_the_same_history(scenario: Scenario, tmp_path: Path) -> None:
    """Without it answers to nearly all images would count apart from those to all."""
    hand = Hand(scenario, tmp_path, [Part("first", FIRST)], ANSWERS).until("reveal")
    fewer = replace(ANSWERS, fraction=0.5)
    refused(hand.again([Part("first", OTHER)], fewer), "advertise", "ada", "leverage of client")
    hand.again([Part("second", OTHER)], fewer).until("reveal")


@pytest.mark.parametrize("order", [("features", "parameters"), ("parameters", "features")])
def test_parameters_and_answers_are_one_history(
    order: tuple[str, str], scenario: Scenario, tmp_path: Path
) -> None:
    """Without it a client is singled out by sums of what determines one another."""
    of = {
        "features": ("first", ANSWERS),
        "parameters": (None, replace(ANSWERS, kind="parameters", queries=None)),
    }
    (task, request), (later, asked) = (of[kind] for kind in order)
    hand = Hand(scenario, tmp_path, [Part(task, FIRST)], request).until("reveal")
    for name in CLIENTS:
        refused(hand.again([Part(later, OTHER)], asked), "advertise", name, "leverage of client")


def test_features_and_logits_are_one_history(data: Path, tmp_path: Path) -> None:
    """Without it the same answers are summed once in each kind."""
    share = [*tiny_sums.SHARE, {**tiny_sums.SHARE[0], "kind": "logits"}]
    scenario = tiny_sums.scenario(tmp_path, data, stages=[{"name": "sums", "share": share}])
    hand = Hand(scenario, tmp_path, [Part("first", FIRST)], ANSWERS).until("reveal")
    logits = replace(ANSWERS, kind="logits")
    refused(hand.again([Part("first", OTHER)], logits), "advertise", "ada", "leverage of client")
    hand.again([Part("second", OTHER)], logits).until("reveal")


# ---------------------------------------------------------------- afterwards


def test_no_share_is_left_on_a_disk_after_a_sum(hand: Hand) -> None:
    """Without it three clients' disks and a recorded vector are a fourth one's model."""
    hand.until("confirm")
    held = {
        name: SumInProgress.from_bytes(hand.store(name).kept_sum() or b"").state.held
        for name in CLIENTS
    }
    for name in CLIENTS:
        hand.say(name, hand.body("reveal", name))
        left = hand.store(name).kept_sum() or b""
        assert not any(pair[at : at + 16] in left for _, pair in held[name] for at in (0, 16))


def test_the_shares_of_a_sum_that_was_given_up_go_with_the_next_run(hand: Hand) -> None:
    """Without it they would lie there until the next sum, which may never come."""
    hand.until("mask")
    ada = hand.party("ada")
    ada.answer("hello", tiny.opening(ada, hand.run), b"")
    assert hand.store("ada").kept_sum()
    ada.answer("hello", tiny.opening(ada, "cd" * 16), b"")
    assert hand.store("ada").kept_sum() is None
