"""A client in a secure sum: what it lets a server make of its vector, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import stat
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_sums
import torch
from tiny_sums import CLIENTS, MEAN, RUN, STEPS, Hand

from neulig_fl.client.holdings import ClientHoldings
from neulig_fl.client.secagg.state import SumInProgress
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import ClientRefused, RunError
from neulig_fl.ledger import chain
from neulig_fl.privacy import secagg
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.secagg.messages import Advert, Roster
from neulig_fl.privacy.secagg.unmasking import Outcome
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg import peers
from neulig_fl.records.secagg.requests import Part, SumRequest
from neulig_fl.records.signed_requests import signed
from neulig_fl.records.transport import Ask

Make = Callable[..., Hand]
FEATURES = Request("sums", "A", "features", "evaluation", protection="secure-aggregation")


@pytest.fixture
def scenario(data: Path, tmp_path: Path) -> Scenario:
    """Four clients, one stage that shares features and parameters within sums."""
    return tiny_sums.scenario(tmp_path, data)


@pytest.fixture
def hand(scenario: Scenario, tmp_path: Path) -> Hand:
    """A server by hand that asks for the mean of the parameters."""
    return Hand(scenario, tmp_path)


def _refused(hand: Hand, step: str, name: str, match: str, /, **changes: Any) -> None:
    """One message is refused with an entry of the ledger, and nothing leaves."""
    before = len(hand.store(name).entries())
    with pytest.raises(ClientRefused, match=match) as caught:
        hand.say(name, hand.body(step, name, **changes))
    entries = hand.store(name).entries()[before:]
    assert [e["event"] for e in entries] == ["refusal"]
    assert entries[0]["reason"] == caught.value.public_reason
    assert chain.verify(hand.store(name).entries())


def _plain(hand: Hand) -> Any:
    """The weighted sum of the clients' own vectors, in float64."""
    request, total = hand.asked.request, []
    for part in hand.asked.parts:
        mixed: Any = 0
        for name, weight in part.weights.items():
            if name in hand.server.survivors:
                arrays = tiny_sums.vector(hand.party(name), request.kind, request.queries)
                flat = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays.values()])
                if part.task is not None:
                    start = list(hand.by_task).index(part.task) * 7 * 16
                    flat = flat[start : start + 7 * 16]
                mixed = mixed + weight * flat
        total.append(mixed)
    return np.concatenate(total)


# ---------------------------------------------------------------- honest servers


@pytest.mark.parametrize("kind", ["parameters", "features"])
def test_an_honest_server_gets_the_sum_and_no_more(
    kind: str, scenario: Scenario, tmp_path: Path
) -> None:
    """Without it sums through real messages would be wrong, or single vectors readable."""
    parts = [Part(None, MEAN)]
    if kind == "features":
        uneven = {"ada": 0.3, "bob": 0.3, "cyd": 0.2, "dan": 0.2}
        parts = [Part("second", MEAN), Part("first", uneven)]
    asked = FEATURES if kind == "features" else replace(FEATURES, kind=kind, queries=None)
    hand = Hand(scenario, tmp_path, parts, asked).until("reveal")
    assert np.abs(hand.told["sum"] - _plain(hand)).max() <= hand.terms.quantisation
    payloads = {step: {bool(sent) for _, sent in hand.replies[step].values()} for step in STEPS}
    assert payloads == {step: {step == "mask"} for step in STEPS}, "the vector alone is a payload"
    for name in CLIENTS:
        sent = np.frombuffer(hand.replies["mask"][name][1], "<u4")
        assert len(sent) == hand.terms.entries
        assert len(np.unique(sent)) > 0.99 * len(sent), "masked words are spread"


def test_what_a_sum_leaves_in_the_ledger(hand: Hand) -> None:
    """Without it a client could not know later what a server can compute of its vector."""
    hand.until("reveal", drops={"dan": "mask"})
    released, outcome = hand.store("ada").entries()
    body, payload = hand.replies["mask"]["ada"]
    assert body == {"rows": 1, "sha256": released["sha256"], "entry": released}
    row = {"of": "model", "weights": MEAN}
    who = {n: peers.column(hand.store(n).identity.public) for n in CLIENTS}
    wanted = {
        "event": "release", "run": RUN, "stage": "sums", "group": "A", "kind": "parameters",
        "queries": None, "protection": "secure-aggregation", "fraction": 1.0, "rows": 1,
        "bytes": len(payload), "round": hand.asked.round, "leverage": 0.25, "group_size": 4,
        "sums": [row], "who": who, "epsilon": None,
    }  # fmt: skip
    assert {k: released[k] for k in wanted} == wanted
    assert (outcome["event"], outcome["round"]) == ("outcome", hand.asked.round)
    assert outcome["survivors"] == ["ada", "bob", "cyd"]
    assert outcome["bytes"] is None
    key = hand.store("ada").identity.key
    assert chain.signature_fault([released, outcome], [key]) is None
    assert hand.store("dan").entries() == [], "it fell silent before its vector left"


def test_the_state_of_a_sum_is_its_owners_alone_and_forgets(hand: Hand) -> None:
    """Without it another user, or a thief of the disk, could take the masks off."""
    hand.until("share")
    file = hand.root / "clients" / "ada" / "sum.state"
    before = SumInProgress.from_bytes(file.read_bytes())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    secrets = [before.state.self_seed, before.state.mask_seed, before.state.sealing_key]
    assert all(each in file.read_bytes() for each in secrets)
    hand.say("ada", hand.body("mask", "ada"))
    assert not any(each in file.read_bytes() for each in secrets)
    shown = repr(before) + str(hand.store("ada").entries())
    assert not any(form in shown for each in secrets for form in (each.hex(), repr(each)[2:-1]))
    assert not [p for p in file.parent.iterdir() if p.name.startswith(".")]


def test_a_damaged_state_is_one_clear_error(hand: Hand) -> None:
    """Without it a torn file would be a traceback, or half of a secret in a log."""
    hand.until("share")
    file = hand.root / "clients" / "ada" / "sum.state"
    whole = file.read_bytes()
    for damaged in (b"", whole[:3], whole[:-1], whole[:40] + b"x" + whole[41:]):
        file.write_bytes(damaged)
        with pytest.raises(RunError, match="state of a secure sum is damaged") as caught:
            hand.say("ada", hand.body("mask", "ada"))
        assert caught.value.public_reason == "its stored state of a secure sum is damaged"
    assert hand.store("ada").entries() == []


# ---------------------------------------------------------------- who is asked for what


NEAR_DIAGONAL = [{name: 0.94 if name == own else 0.02 for name in CLIENTS} for own in CLIENTS]
POLICIES: dict[str, tuple[dict[str, Any], str]] = {
    "never": ({"never": ["parameters"]}, "policy of client 'ada': never parameters"),
    "only": ({"only": ["features"]}, "policy of client 'ada': only features"),
    "allow": (
        {"allow": [{"kind": "parameters", "protections": ["sealed"]}]},
        "allows parameters with protection sealed, not secure-aggregation",
    ),
    "a lower leverage": (
        {"budgets": {"max_leverage": 0.2}},
        "policy of client 'ada': leverage of client 'ada' in sums over parameters would be 0.250",
    ),
    "a larger group": (
        {"budgets": {"min_group_size": 5}}, "limit min_group_size 5: the sum has 4 clients",
    ),
    "fewer bytes": ({"budgets": {"max_bytes": 1000}}, "limit max_bytes 1000: 0 bytes of this"),
    "an epsilon": ({"budgets": {"max_epsilon": 3.0}}, "with protection secure-aggregation no epsilon"),
    "a time that is over": ({"budgets": {"not_after": "2001-01-01"}}, "its time is over"),
}  # fmt: skip


@pytest.mark.parametrize("how", POLICIES)
@pytest.mark.parametrize("where", ["scenario", "node"])
def test_policies_hold_for_sums(how: str, where: str, data: Path, tmp_path: Path) -> None:
    """Without it a sum would be a way round every policy."""
    rules, reason = POLICIES[how]
    node = tmp_path / "node.yaml"
    node.write_text(json.dumps(rules))
    if where == "scenario":
        hand = Hand(tiny_sums.scenario(tmp_path, data, policies={"ada": rules}), tmp_path)
    else:
        hand = Hand(tiny_sums.scenario(tmp_path, data), tmp_path, node={"ada": node})
        reason = reason.replace("policy of client 'ada'", "this node's own policy")
    _refused(hand, "advertise", "ada", reason)
    assert hand.store("ada").kept_sum() is None
    assert hand.say("bob", hand.body("advertise", "bob"))[0]["message"]


def test_limits_count_what_left_within_sums(data: Path, tmp_path: Path) -> None:
    """Without it the rows and bytes of sums would be free."""
    limits = {"budgets": {"max_rows": 20}}
    scenario = tiny_sums.scenario(tmp_path, data, policies={"ada": limits})
    parts = [Part("first", MEAN), Part("second", MEAN)]
    hand = Hand(scenario, tmp_path, parts, FEATURES).until("reveal")
    assert hand.store("ada").entries()[0]["rows"] == 14
    again = hand.again([Part("first", MEAN)])
    _refused(
        again,
        "advertise",
        "ada",
        "limit max_rows 20: 14 rows of this expert have been released, and",
    )


@pytest.mark.parametrize("limit", ["max_bytes", "max_rows"])
def test_limits_are_asked_again_as_the_vector_leaves(
    limit: str, scenario: Scenario, data: Path, tmp_path: Path
) -> None:
    """Without it what left while the keys were exchanged would not count."""
    parts = [Part("first", MEAN)]
    most = {"max_rows": 7, "max_bytes": 4 * Hand(scenario, tmp_path, parts, FEATURES).terms.entries}
    rules = {"ada": {"budgets": {limit: most[limit]}}}
    strict = tiny_sums.scenario(tmp_path / "strict", data, policies=rules)
    hand = Hand(strict, tmp_path / "strict", parts, FEATURES).until("share")
    hand.store("ada").charge(b"x", 1, {"client": "ada", "kind": "labels"})
    _refused(hand, "mask", "ada", f"limit {limit} {most[limit]}: 1 {limit[4:]} of this expert have")
    assert hand.say("bob", hand.body("mask", "bob"))[1]


ASKED: dict[str, tuple[Callable[[SumRequest], SumRequest], str]] = {
    "two clients": (
        lambda a: replace(a, parts=(Part(None, {"ada": 0.5, "bob": 0.5}),)),
        "a sum over 2 clients tells too much of each; allowed: 3",
    ),
    "a third of no weight": (
        lambda a: replace(a, parts=(Part(None, {"ada": 0.5, "bob": 0.5, "cyd": 0.0}),)),
        "a sum over 2 clients tells too much",
    ),
    "an unknown client": (
        lambda a: replace(a, parts=(Part(None, {**MEAN, "eve": 0.1}),)),
        "'eve' is invited and is no client of this scenario",
    ),
    "near-diagonal rows": (
        lambda a: replace(a, parts=tuple(Part(None, row) for row in NEAR_DIAGONAL)),
        "leverage of client 'ada' in sums over parameters would be 1.000",
    ),
    "others than it": (
        lambda a: a.restricted(["bob", "cyd", "dan"]), "it is not invited to this sum",
    ),
    "no part": (lambda a: replace(a, parts=()), "not every part of the sum has a weight"),
    "parts of different clients": (
        lambda a: replace(a, parts=(a.parts[0], a.restricted(["ada", "bob", "cyd"]).parts[0])),
        "not every part of the sum has a weight",
    ),
    "a task's parameters": (
        lambda a: replace(a, parts=(Part("first", MEAN),)), "task 'first' is not one",
    ),
    "guests of hardly any weight": (
        lambda a: replace(a, parts=(Part(None, {**MEAN, "ada": 1e-300, "bob": 1e-7}),)),
        "a sum over 2 clients tells too much of each",
    ),
    "no protection": (
        lambda a: replace(a, request=replace(a.request, protection="none")),
        "shares parameters with protection secure-aggregation, not none",
    ),
    "another stage": (
        lambda a: replace(a, request=replace(a.request, stage="s")), "has no stage 's'",
    ),
    "another kind": (
        lambda a: replace(a, request=replace(a.request, kind="logits", queries="pool")),
        "stage 'sums' does not share logits",
    ),
    "answers of no task": (
        lambda a: replace(a, request=replace(a.request, kind="features", queries="pool")),
        "task None is not one that features are of",
    ),
    "a huge fraction": (
        lambda a: replace(a, request=replace(a.request, fraction=2.0)), "whole or not at all",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", ASKED)
def test_a_sum_that_the_scenario_does_not_allow_is_refused(how: str, hand: Hand) -> None:
    """Without it a server could sum what nobody agreed to, or over too few."""
    change, reason = ASKED[how]
    hand.asked = change(hand.asked)
    _refused(hand, "advertise", "ada", reason)
    assert hand.store("ada").kept_sum() is None


BODIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing": lambda b: None,
    "a list": lambda b: [b],
    "another key": lambda b: {**b, "extra": 1},
    "no parts": lambda b: {**b, "parts": {}},
    "a short round": lambda b: {**b, "round": "ab"},
    "a round in capitals": lambda b: {**b, "round": "AB" * 16},
    "a request in words": lambda b: {**b, "request": "all"},
    "a weight in words": lambda b: _weighted(b, "much"),
    "a weight that is true": lambda b: _weighted(b, True),
    "a weight that is nothing": lambda b: _weighted(b, None),
    "a weight without end": lambda b: _weighted(b, 10**400),
    "weights in a list": lambda b: {**b, "parts": [{"task": None, "weights": [1.0]}]},
    "a task of 7": lambda b: {**b, "parts": [{"task": 7, "weights": MEAN}]},
    "very many weights": lambda b: {**b, "parts": b["parts"] * 1000},
}


def _weighted(body: dict[str, Any], weight: Any) -> dict[str, Any]:
    return {**body, "parts": [{"task": None, "weights": {**MEAN, "bob": weight}}]}


@pytest.mark.parametrize("how", BODIES)
def test_a_malformed_request_is_refused(how: str, hand: Hand) -> None:
    """Without it a message could crash a client, or put what it likes into the ledger."""
    body = BODIES[how](hand.asked.to_body())
    _refused(
        hand, "advertise", "ada", "none of a secure sum|malformed|not finite|at most", sum=body
    )
    entry = tiny_sums.last(hand.store("ada"))
    assert len(json.dumps(entry)) < 2000
    assert hand.store("ada").kept_sum() is None


def test_a_sum_needs_a_run(hand: Hand) -> None:
    """Without it two runs' sums could be mixed up, and replayed."""
    with pytest.raises(ClientRefused, match="no server has begun this run here"):
        hand.party("ada").answer("sum", hand.body("advertise", "ada"), b"")


def test_a_record_of_sums_does_not_leave_alone(hand: Hand) -> None:
    """Without it a server could ask for the vector itself instead of a sum."""
    body = {**hand.asked.to_body()["request"], "run": RUN}
    with pytest.raises(ClientRefused, match="released within sums only"):
        tiny.say(hand.party("ada"), "release", body, b"")
    (entry,) = hand.store("ada").entries()
    assert entry["event"] == "refusal"


# ---------------------------------------------------------------- out of turn, again, elsewhere


@pytest.mark.parametrize("done", STEPS)
def test_a_step_out_of_turn_is_refused(done: str, hand: Hand) -> None:
    """Without it a server could get two answers to one question, and subtract them."""
    full = hand.again([Part(None, MEAN)]).until("reveal")
    hand.until(done)
    hand.told = {**full.told, **hand.told}
    repeatable = {"confirm": ["confirm"]}.get(done, [])
    following = STEPS[STEPS.index(done) + 1 : STEPS.index(done) + 2]
    for step in STEPS[1:]:
        if step in (*repeatable, *following):
            continue
        _refused(hand, step, "ada", "and answers this once")
    for step in repeatable:
        assert hand.say("ada", hand.body(step, "ada")) == hand.replies[step]["ada"]
    outcomes = [e for e in hand.store("ada").entries() if e["event"] == "outcome"]
    assert len(outcomes) == len({e["round"] for e in outcomes})


def test_a_message_of_no_step_is_refused(hand: Hand) -> None:
    """Without it whatever is not known would reach some step."""
    hand.until("advertise")
    honest = hand.body("share", "ada")
    for changes in (
        {"step": "dance"}, {"step": None}, {"message": "zz"}, {"message": 7}, {"extra": 1},
        {"round": None},
    ):  # fmt: skip
        _refused(hand, "share", "ada", "the message is none of a secure sum", **changes)
    assert hand.say("ada", honest)[0]["message"]


def test_another_round_or_run_is_refused(hand: Hand) -> None:
    """Without it a message of an earlier sum could be answered in a later one."""
    with pytest.raises(ClientRefused, match="no such round of a secure sum is in progress"):
        hand.say("ada", {"step": "mask", "round": hand.asked.round, "message": ""})
    hand.until("share")
    _refused(hand, "mask", "ada", "no such round", round="cd" * 16)
    hand.run = "cd" * 16
    _refused(hand, "mask", "ada", "no such round")


def test_a_new_sum_takes_the_place_of_the_old_one(hand: Hand) -> None:
    """Without it a server that died would block its clients, or two sums' secrets would mix."""
    hand.until("share")
    again = hand.again([Part(None, MEAN)]).until("advertise")
    _refused(hand, "mask", "ada", "no such round")
    again.until("reveal")
    assert np.abs(again.told["sum"] - _plain(again)).max() <= again.terms.quantisation


@pytest.mark.parametrize("step", STEPS[1:])
def test_messages_of_another_round_are_refused(step: str, hand: Hand) -> None:
    """Without it old keys, shares or words could be replayed."""
    old = hand.again([Part(None, MEAN)]).until("reveal")
    hand.until(STEPS[STEPS.index(step) - 1])
    _refused(hand, step, "ada", "other terms", message=old.message(step, "ada").hex())


def test_a_round_that_the_ledger_knows_is_over(hand: Hand) -> None:
    """Without it a client would send two vectors under one name of a round."""
    hand.until("mask")
    _refused(hand, "advertise", "ada", "in this round its vector has been released already")


# ---------------------------------------------------------------- keys


def test_a_forged_signature_on_keys_is_refused(hand: Hand) -> None:
    """Without it a server could put its own keys in another's place and read everything."""
    hand.until("advertise")
    digest = hand.terms.digest
    roster = Roster.read(hand.told["roster"], digest)
    mine = secagg.advertise(hand.terms, "bob")[1]
    own = Advert.read(mine, digest)
    honest = roster["bob"].signature
    for signature in (honest, b"", b"\xff" * 86):
        forged = replace(own, signature=signature)
        changed = Roster(tuple(forged if a.client == "bob" else a for a in roster.adverts))
        message = changed.to_bytes(digest).hex()
        _refused(hand, "share", "ada", "signature on the keys of bob is wrong", message=message)


def test_a_roster_without_its_own_keys_is_refused(hand: Hand) -> None:
    """Without it a client would share its seeds with strangers among themselves."""
    hand.until("advertise")
    digest = hand.terms.digest
    rest = Roster.read(hand.told["roster"], digest).adverts[1:]
    _refused(
        hand,
        "share",
        "ada",
        "its own keys are missing",
        message=Roster(rest).to_bytes(digest).hex(),
    )


WRONG_KEYS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "none": (lambda known: None, "the clients' keys are missing"),
    "not its own": (
        lambda known: {**known, "ada": Identity.new().public.record()},
        "its own keys are missing, or are not its own there",
    ),
    "without its own": (
        lambda known: {n: r for n, r in known.items() if n != "ada"}, "the keys of ada are missing",
    ),
    "a part of them": (
        lambda known: {n: k for n, k in known.items() if n != "bob"}, "the keys of bob are missing"
    ),
    "one key for two": (
        lambda known: {**known, "bob": known["cyd"]}, "the key of bob is .* not the pinned one"
    ),
    "a stranger's": (
        lambda known: {**known, "eve": Identity.new().public.record()},
        "keys of 'eve' came, who is not invited",
    ),
    "no keys": (lambda known: {**known, "bob": {}}, "of bob: it did not say its keys"),
    "an unsigned agreement key": (
        lambda known: {**known, "bob": {**known["bob"], "agreement": Identity.new().agreement}},
        "of bob: its keys are not an Ed25519 key and an X25519 key",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG_KEYS)
def test_wrong_long_term_keys_are_refused(how: str, hand: Hand) -> None:
    """Without it a server could sign for the others itself."""
    change, reason = WRONG_KEYS[how]
    lie = change(hand.identities())
    _refused(hand, "advertise", "ada", reason, identities=lie)
    assert hand.until("share").told["deliveries"], "the honest ones still are good"


def test_keys_that_are_not_those_of_the_address_book_are_refused(hand: Hand) -> None:
    """Without it a server could invent the others, and be the one who signs for them."""
    forged = {**hand.identities(), "bob": Identity.new().public.record()}
    _refused(hand, "advertise", "ada", "and not the pinned one", identities=forged)


def test_a_pin_of_the_scenario_holds_in_sums(data: Path, tmp_path: Path) -> None:
    """Without it a server could invent the pinned partner's keys."""
    key = ClientStore(tmp_path / "clients" / "bob").identity.key
    good = Hand(tiny_sums.scenario(tmp_path / "good", data, trust={"bob": key}), tmp_path)
    good.until("reveal")
    pin = Identity.new().key
    bad = tiny_sums.scenario(tmp_path / "bad", data, trust={"bob": pin})
    hand = Hand(bad, tmp_path, run="cd" * 16)
    _refused(hand, "advertise", "ada", f"the key of bob is {key} and not the pinned one, {pin}")


def test_a_pinned_server_alone_can_ask_for_sums(data: Path, tmp_path: Path) -> None:
    """Without it whoever can send messages could collect sums in the server's name."""
    pin = Identity.new().key
    hand = Hand(tiny_sums.scenario(tmp_path, data, trust={"server": pin}), tmp_path)
    with pytest.raises(ClientRefused, match="which is not the pinned one"):
        hand.say("ada", hand.body("advertise", "ada"))
    with pytest.raises(ClientRefused, match="no server has begun this run here"):
        hand.party("ada").answer("sum", hand.body("advertise", "ada"), b"")


# ---------------------------------------------------------------- lies about who is in it


def test_weights_are_those_of_the_first_message(hand: Hand) -> None:
    """Without it a server could show harmless weights and sum under others."""
    other = {"ada": 0.4, "bob": 0.2, "cyd": 0.2, "dan": 0.2}
    hand.until("advertise")
    lie = hand.again([Part(None, other)])
    lie.asked = replace(hand.asked, parts=lie.asked.parts)
    told, _ = lie.say("dan", lie.body("advertise", "dan"))
    with pytest.raises(ValueError, match="other terms"):
        Advert.read(bytes.fromhex(told["message"]), hand.terms.digest)
    lie.told, lie.replies = hand.told, hand.replies
    _refused(lie, "share", "dan", "the roster is not what it must be: .* other terms")
    hand.until("share")
    _refused(hand, "mask", "ada", "none of a secure sum", sum=lie.asked.to_body())
    body, _ = hand.say("ada", hand.body("mask", "ada"))
    assert body["entry"]["sums"][0]["weights"] == MEAN


def test_no_client_is_subtracted_out_of_two_sums(hand: Hand) -> None:
    """Without it a sum with dan, minus one without, would be dan's vector."""
    hand.until("reveal")
    three = {name: 0.25 for name in CLIENTS if name != "dan"}
    without = hand.again([Part(None, three)])
    for name in three:
        _refused(without, "advertise", name, "leverage of client 'dan' in sums over parameters")


def test_a_pretended_drop_out_subtracts_nobody(hand: Hand) -> None:
    """Without it a server could ask twice and say the second time that dan had dropped out."""
    hand.until("reveal")
    again = hand.again([Part(None, MEAN)]).until("mask", drops={"dan": "mask"})
    for name in ("ada", "bob", "cyd"):
        _refused(
            again, "confirm", name, "leverage of client 'dan' in sums over parameters would be"
        )
    assert all(e["event"] != "outcome" for e in again.store("ada").entries()[2:])


def test_a_pretended_absence_before_the_masks_is_seen_when_the_vector_leaves(hand: Hand) -> None:
    """Without it a shorter roster would do what a shorter list of guests cannot."""
    hand.until("reveal")
    again = hand.again([Part(None, MEAN)]).until("share", drops={"dan": "share"})
    _refused(again, "mask", "ada", "leverage of client 'dan' in sums over parameters would be 1")
    releases = [e for e in again.store("ada").entries() if e["event"] == "release"]
    assert [e["round"] for e in releases] == [hand.asked.round]


def test_who_survived_counts_once_it_is_confirmed(hand: Hand) -> None:
    """Without it nobody could sum on without a client who had dropped out once."""
    three = {name: 0.25 for name in CLIENTS if name != "dan"}
    hand.until("reveal", drops={"dan": "mask"})
    hand.again([Part(None, three)]).until("reveal")


def test_without_a_word_on_who_survived_all_who_could_be_in_it_count(hand: Hand) -> None:
    """Without it a server could keep the outcome of a sum to itself and ask for the difference."""
    three = {name: 0.25 for name in CLIENTS if name != "dan"}
    hand.until("mask")
    for name in ("bob", "cyd", "dan"):
        hand.say(name, hand.body("confirm", name))
    again = hand.again([Part(None, three)])
    for name in ("bob", "cyd"):
        _refused(again, "advertise", name, "leverage of client 'dan'")
    told = again.say("ada", again.body("advertise", "ada"))[0]
    assert told["message"], "it does not know yet whether the round went on"


def test_a_round_that_was_given_up_does_not_count(hand: Hand) -> None:
    """Without it one lost message would end all sums."""
    three = {name: 0.25 for name in CLIENTS if name != "dan"}
    hand.until("mask")
    hand.again([Part(None, three)]).until("reveal")


def test_different_lists_of_survivors_are_of_no_use(hand: Hand) -> None:
    """Without it a server could have both kinds of share of one client."""
    hand.until("mask", drops={"dan": "mask"})
    digest = hand.terms.digest
    lie = Outcome(("ada", "bob", "dan"), ("cyd",)).to_bytes(digest)
    honest = hand.told["outcome"]
    hand.say("bob", hand.body("confirm", "bob"))
    hand.told["outcome"] = lie
    hand.say("ada", hand.body("confirm", "ada"))
    _refused(hand, "confirm", "cyd", "it is not among the survivors itself")
    _refused(
        hand, "confirm", "bob", "cyd is called dropped, and it has confirmed cyd as a survivor"
    )
    hand.told["outcome"] = honest
    _refused(
        hand, "confirm", "ada", "dan is called dropped, and it has confirmed dan as a survivor"
    )
    assert [e["event"] for e in hand.store("ada").entries()] == ["release", "outcome", "refusal"]


def test_shares_leave_for_a_confirmed_outcome_alone(hand: Hand) -> None:
    """Without it a server could name survivors whom nobody confirmed."""
    hand.until("confirm", drops={"dan": "mask"})
    digest = hand.terms.digest
    request = bytearray(hand.told["request"])
    request[-1] ^= 1
    _refused(
        hand, "reveal", "ada", "signature of .* under the outcome is wrong", message=request.hex()
    )
    lie = Outcome(("ada", "bob", "cyd", "dan"), ()).to_bytes(digest)
    _refused(hand, "reveal", "ada", "is not what it must be", message=lie.hex())
    assert hand.say("ada", hand.body("reveal", "ada"))[0]["message"]


def test_too_few_survivors_are_not_confirmed(data: Path, tmp_path: Path) -> None:
    """Without it the masks of a sum over a group that a policy calls too small would come off."""
    rules = {"ada": {"budgets": {"min_group_size": 4}}}
    hand = Hand(tiny_sums.scenario(tmp_path, data, policies=rules), tmp_path)
    hand.until("mask", drops={"dan": "mask"})
    _refused(hand, "confirm", "ada", "limit min_group_size 4: the sum has 3 clients")
    assert hand.say("bob", hand.body("confirm", "bob"))[0]["message"]


# ---------------------------------------------------------------- vectors that are none


BAD: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "NaN": (lambda a: {k: np.full_like(v, np.nan) for k, v in a.items()}, "is not finite"),
    "infinite": (lambda a: {k: np.full_like(v, np.inf) for k, v in a.items()}, "is not finite"),
    "huge": (lambda a: {k: v + 65.0 for k, v in a.items()}, "beyond secure_aggregation.clip 64"),
    "a wrong shape": (lambda a: {k: v[None] for k, v in a.items()}, "has shape .* instead of"),
    "missing": (lambda a: dict(list(a.items())[1:]), "has shape nothing instead of"),
    "whole numbers": (lambda a: {k: v.astype(int) for k, v in a.items()}, "not of floating numbers"),
    "bad at the end": (
        lambda a: {**a, list(a)[-1]: np.full_like(a[list(a)[-1]], np.nan)}, "is not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
def test_a_vector_that_is_none_does_not_leave(
    how: str, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it one client would spoil everybody's sum, and nobody could say which."""
    change, reason = BAD[how]
    honest = ClientHoldings.parameters
    hand.until("share")
    monkeypatch.setattr(ClientHoldings, "parameters", lambda self: change(honest(self)))
    _refused(hand, "mask", "ada", reason)
    refusal = tiny_sums.last(hand.store("ada"))["reason"]
    assert "nan" not in refusal.replace("name", "")
    monkeypatch.undo()
    assert hand.say("ada", hand.body("mask", "ada"))[1], "the round is still open to the right one"


def test_masking_holds_the_vector_twice_at_most(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a model of 350 MB would need gigabytes on a client."""
    size, largest = 2**21, 2**18
    state = {f"w{i}": np.full(largest // 4, 0.5, np.float32) for i in range(size // largest)}
    hand = Hand(scenario, tmp_path)
    shapes = {name: value.shape for name, value in state.items()}
    hand.setting.__dict__["sizes"] = replace(hand.setting.sizes, entries=shapes)
    copies = lambda self: {name: value.copy() for name, value in state.items()}  # noqa: E731
    monkeypatch.setattr(ClientHoldings, "parameters", copies)
    hand.until("share")
    party, ask = hand.party("ada"), Ask("ada", "sum", hand.body("mask", "ada"))
    body = signed(tiny.SERVER_KEYS, RUN, 2**31, ask).body
    tracemalloc.start()
    try:
        _, payload = party.answer("sum", body, b"")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(payload) == size
    assert peak < 2 * size + 6 * largest, "one tensor in float64, and blocks, come on top"


def test_an_expert_beyond_the_clip_takes_no_part(data: Path, tmp_path: Path) -> None:
    """Without it a large model would be cut off silently, and the sum be another."""
    plain = tiny_sums.scenario(tmp_path / "plain", data)
    state = Hand(plain, tmp_path).setting.family.encoder().state_dict()
    torch.save({k: torch.full_like(v, 100.0) for k, v in state.items()}, tmp_path / "large.pt")
    given = {"ada": str(tmp_path / "large.pt")}
    hand = Hand(tiny_sums.scenario(tmp_path, data, checkpoints=given), tmp_path).until("share")
    _refused(hand, "mask", "ada", "beyond secure_aggregation.clip 64; give a larger clip")
    wide = tiny_sums.scenario(
        tmp_path / "w", data, checkpoints=given, secure_aggregation={"clip": 128.0}
    )
    found = Hand(wide, tmp_path / "wide").until("reveal")
    assert np.abs(found.told["sum"] - _plain(found)).max() <= found.terms.quantisation


# ---------------------------------------------------------------- killed


class Killed(BaseException):
    """The process ends here."""


def _die(*_: Any) -> None:
    raise Killed


def test_killed_between_debit_and_reply_the_charge_stays_and_the_round_is_lost(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a client could be made to send one vector under two masks, or uncharged."""
    hand.until("share")
    honest = ClientStore.charge
    monkeypatch.setattr(ClientStore, "charge", lambda *args: _die(honest(*args)))
    with pytest.raises(Killed):
        hand.say("ada", hand.body("mask", "ada"))
    monkeypatch.undo()
    (entry,) = hand.store("ada").entries()
    assert (entry["event"], entry["bytes"]) == ("release", 4 * hand.terms.entries)
    _refused(hand, "mask", "ada", "it has masked and answers this once shared")
    _refused(hand, "advertise", "ada", "in this round its vector has been released already")


def test_killed_before_the_debit_nothing_left_and_no_second_vector_is_made(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the seeds would still be there when the vector may have left."""
    hand.until("share")
    monkeypatch.setattr(ClientStore, "charge", _die)
    with pytest.raises(Killed):
        hand.say("ada", hand.body("mask", "ada"))
    monkeypatch.undo()
    assert hand.store("ada").entries() == []
    _refused(hand, "mask", "ada", "it has masked and answers this once shared")
    assert hand.again([Part(None, MEAN)]).until("reveal").told["sum"].shape


def test_killed_while_confirming_the_same_outcome_is_confirmed_again(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a client would enter two outcomes, or confirm another than it has entered."""
    hand.until("mask", drops={"dan": "mask"})
    honest = ClientStore.note_outcome
    monkeypatch.setattr(ClientStore, "note_outcome", lambda *args: _die(honest(*args)))
    with pytest.raises(Killed):
        hand.say("ada", hand.body("confirm", "ada"))
    monkeypatch.undo()
    lie = Outcome(("ada", "bob", "dan"), ("cyd",)).to_bytes(hand.terms.digest)
    _refused(hand, "confirm", "ada", "it has confirmed other survivors", message=lie.hex())
    assert hand.say("ada", hand.body("confirm", "ada"))[0]["message"]
    events = [e["event"] for e in hand.store("ada").entries()]
    assert events == ["release", "outcome", "refusal"]


# ---------------------------------------------------------------- queries by value


def _images(hand: Hand, seed: int | None = None) -> bytes:
    tasks = hand.setting.tasks.values()
    found = np.concatenate([t.pixels(t.indices("evaluation", 7), 32) for t in tasks])
    if seed is not None:
        found = np.random.default_rng(seed).integers(0, 256, found.shape, np.uint8)
    return found.tobytes()


def test_images_by_value_are_as_many_as_agreed_and_the_same_each_time(
    data: Path, tmp_path: Path
) -> None:
    """Without it a server could have other images answered under cover of a sum."""
    sizes = {"pool": 6, "evaluation": 7, "travel": "value"}
    scenario = tiny_sums.scenario(tmp_path, data, queries=sizes)
    hand = Hand(scenario, tmp_path, [Part("first", MEAN)], FEATURES)
    ours, others = _images(hand), _images(hand, seed=1)
    hand.asked = replace(hand.asked, images=hashlib.sha256(ours).hexdigest())
    hand.until("share")
    with pytest.raises(ClientRefused, match="came are 0 bytes; the scenario's are 43008"):
        hand.say("ada", hand.body("mask", "ada"))
    assert hand.say("ada", hand.body("mask", "ada"), ours)[1]
    again = hand.again([Part("first", MEAN)])
    again.asked = replace(again.asked, images=hashlib.sha256(others).hexdigest())
    again.until("share")
    with pytest.raises(ClientRefused, match="other images than before came as queries eval"):
        again.say("ada", again.body("mask", "ada"), others)
    third = hand.again([Part("first", MEAN)])
    third.asked = replace(third.asked, images=hand.asked.images)
    third.until("share")
    assert third.say("ada", third.body("mask", "ada"), ours)[1]


def test_images_do_not_come_where_queries_travel_by_reference(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Without it a server could choose the images that are answered in sums."""
    hand = Hand(scenario, tmp_path, [Part("first", MEAN)], FEATURES).until("share")
    with pytest.raises(ClientRefused, match="queries travel by reference"):
        hand.say("ada", hand.body("mask", "ada"), _images(hand))


# ---------------------------------------------------------------- stages


def test_a_stage_that_is_over_gives_no_more_sums(data: Path, tmp_path: Path) -> None:
    """Without it a server could go back to the sums of an earlier rule."""
    stages = [
        {"name": "sums", "share": tiny_sums.SHARE},
        {"name": "later", "share": tiny_sums.SHARE},
    ]
    hand = Hand(tiny_sums.scenario(tmp_path, data, stages=stages), tmp_path).until("share")
    later = replace(hand.asked.request, stage="later")
    hand.again([Part(None, MEAN)], later).until("reveal")
    _refused(
        hand.again([Part(None, MEAN)]), "advertise", "ada", "stage 'sums' is over: stage 'later'"
    )
