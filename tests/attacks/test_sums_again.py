"""Attacks on sums by what is beside them: other images, other names, other runs, models alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_sums
import torch
from tiny_sums import CLIENTS, MEAN, SHARE, Hand

from neulig_fl.client import address_book
from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import ClientRefused
from neulig_fl.ledger import key_store
from neulig_fl.privacy.secagg.messages import Advert
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg.requests import Part

RUN, OTHER = "ab" * 16, "cd" * 16
THREE = {name: 1 / 3 for name in CLIENTS if name != "dan"}
ALONE = asdict(Request("alone", "A", "parameters"))


# ---------------------------------------------------------------- images by value


class ByValue(Hand):
    """A server that sends each client images of its choice with the mask."""

    sent: Mapping[str, bytes]

    def say(self, name: str, body: Mapping[str, Any], payload: bytes = b"") -> Any:
        """As `Hand.say`."""
        return super().say(name, body, self.sent[name] if body["step"] == "mask" else payload)


def test_all_clients_of_a_sum_answer_to_the_same_images(data: Path, tmp_path: Path) -> None:
    """Attack: the mean twice, once with other images for ada: four times the difference is hers."""
    queries = {"pool": 6, "evaluation": 6, "train": 5, "travel": "value"}
    scenario = tiny_sums.scenario(tmp_path, data, queries=queries)
    request = Request("sums", "A", "features", "pool", protection="secure-aggregation")
    parts = [Part("first", MEAN), Part("second", MEAN)]
    hand = ByValue(scenario, tmp_path, parts, request)
    size = hand.setting.family.image_size
    ours, others = (bytes([n]) * (sum(hand.by_task.values()) * 3 * size**2) for n in (7, 90))
    hand.asked = replace(hand.asked, images=hashlib.sha256(ours).hexdigest())
    hand.sent = {**dict.fromkeys(CLIENTS, ours), "ada": others}
    hand.until("share")
    with pytest.raises(ClientRefused, match="other images came than all clients of the sum agreed"):
        hand.say("ada", hand.body("mask", "ada"))
    assert hand.say("bob", hand.body("mask", "bob"))[1]


def test_other_images_for_one_are_other_terms(data: Path, tmp_path: Path) -> None:
    """Attack: tell ada another hash than the others, so that each finds its own images right."""
    queries = {"pool": 6, "evaluation": 6, "train": 5, "travel": "value"}
    scenario = tiny_sums.scenario(tmp_path, data, queries=queries)
    request = Request("sums", "A", "features", "pool", protection="secure-aggregation")
    hand = Hand(scenario, tmp_path, [Part("first", MEAN), Part("second", MEAN)], request)
    hand.asked = replace(hand.asked, images="ab" * 32)
    lie = {**hand.asked.to_body(), "images": "cd" * 32}
    body, _ = hand.say("ada", hand.body("advertise", "ada", sum=lie))
    with pytest.raises(ValueError, match="other terms"):
        Advert.read(bytes.fromhex(body["message"]), hand.terms.digest)


# ---------------------------------------------------------------- one client, one column


class Stripping(Hand):
    """A server that keeps some clients' hand-overs from others."""

    strip: Mapping[str, Sequence[str]] = {}

    def body(self, step: str, name: str, /, **changes: Any) -> dict[str, Any]:
        """As `Hand.body`."""
        if step == "advertise":
            said = self.identities()
            for other in self.strip.get(name, ()):
                said[other] = {**said[other], "hand_overs": []}
            changes = {"identities": said, **changes}
        return super().body(step, name, **changes)


def test_a_client_is_called_the_same_by_all(data: Path, tmp_path: Path) -> None:
    """Attack: to some, a client that renewed its keys is told without its old one: two columns."""
    scenario = tiny_sums.scenario(tmp_path, data)
    book = {}
    for name in CLIENTS:
        keys = tmp_path / "clients" / name / "keys"
        key_store.private_folder(keys.parent)
        key_store.identity(keys)
        if name == "dan":
            key_store.rotate(keys)
        book[name] = key_store.identity(keys).key
    (tmp_path / address_book.FILE).write_text(json.dumps(book))
    hand = Stripping(scenario, tmp_path)
    hand.strip = {"ada": ["dan"]}
    hand.until("advertise")
    with pytest.raises(ClientRefused, match="keys of 'dan' came without its hand-overs"):
        hand.say("ada", hand.body("share", "ada"))
    assert hand.say("bob", hand.body("share", "bob"))[0]["message"]


# ---------------------------------------------------------------- one vector, two names


def test_a_recipe_that_trains_the_same_expert_is_no_other_expert_in_sums(
    data: Path, tmp_path: Path
) -> None:
    """Attack: a sum without dan under one recipe, one with him under another that differs in a word."""
    experts = {"epochs": 1, "lr": 1e-3, "batch_size": 16}
    one, two = (
        tiny_sums.scenario(tmp_path / str(norm), data, experts={**experts, "clip_norm": norm})
        for norm in (1e6, 2e6)
    )
    Hand(one, tmp_path, [Part(None, THREE)], run=RUN).until("reveal")
    again = Hand(two, tmp_path, [Part(None, MEAN)], run=OTHER)
    with pytest.raises(ClientRefused, match="leverage of client 'dan' in sums over parameters"):
        again.until("share")
    assert not [e for e in ClientStore(tmp_path / "clients" / "dan").entries() if e.get("sums")]


# ---------------------------------------------------------------- models that leave alone


def _with_alone(folder: Path, data: Path, **policies: Any) -> Any:
    stages = [
        {"name": "alone", "share": [{"kind": "parameters"}]},
        {"name": "sums", "share": SHARE},
    ]
    return tiny_sums.scenario(folder, data, stages=stages, policies=policies)


def test_a_sum_with_those_whose_models_left_alone_is_refused(data: Path, tmp_path: Path) -> None:
    """Attack: the others release their models; the mean of all, less those, is ada's."""
    hand = Hand(_with_alone(tmp_path, data, ada={"preset": "sums-only"}), tmp_path)
    for name in ("bob", "cyd", "dan"):
        assert tiny.say(hand.party(name), "release", {"run": hand.run, **ALONE})[1]
    hand.until("advertise")
    with pytest.raises(ClientRefused, match="leverage of client 'ada' in sums over parameters"):
        hand.say("ada", hand.body("share", "ada"))
    assert not [e for e in hand.store("ada").entries() if e["event"] == "release"]


NOISED = {"gaussian": {"noise_multiplier": 1e-6, "clip": 10.0, "delta": 1e-5}}
PARTS = [
    ("trimmed-task-vector", {"fraction": 0.9}),
    ("trimmed-task-vector", {"fraction": 0.01}),
    ("trimmed-task-vector", {"fraction": 0.9, "protection": "sealed"}),
    ("parameters", {"protection": NOISED}),
    ("task-vector", {"protection": NOISED}),
    ("gram", {"examples": 4}),
    ("fisher", {"examples": 4}),
]
OUTPUTS = [
    ("features", {}),
    ("features", {"fraction": 0.5}),
    ("features", {"protection": NOISED}),
    ("logits", {}),
    ("probabilities", {"protection": "sealed"}),
    ("top-k", {}),
    ("labels", {}),
]


def _alone(kind: str, share: Mapping[str, Any], queries: str | None = None) -> dict[str, Any]:
    """What a server asks for of one entry of a stage's `share`."""
    guard = share.get("protection", "none")
    name = guard if isinstance(guard, str) else next(iter(guard))
    part = share.get("fraction", 1.0)
    return asdict(Request("alone", "A", kind, queries, fraction=part, protection=name))


def _beside(folder: Path, data: Path, share: Mapping[str, Any], **policies: Any) -> Any:
    """A stage in which a record leaves alone, and one of sums."""
    stages = [{"name": "alone", "share": [share]}, {"name": "sums", "share": SHARE}]
    return tiny_sums.scenario(folder, data, stages=stages, policies=policies)


def _outputs(scenario: Any, folder: Path, queries: str = "pool") -> Hand:
    """A server that asks for the mean of all clients' features."""
    request = Request("sums", "A", "features", queries, protection="secure-aggregation")
    return Hand(scenario, folder, [Part("first", MEAN), Part("second", MEAN)], request)


@pytest.mark.parametrize(("kind", "share"), PARTS)
def test_what_a_model_follows_from_in_part_or_with_noise_is_subtracted_from_no_sum(
    kind: str, share: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    """Attack: the others release their models trimmed, noised or as statistics; then the mean."""
    scenario = _beside(tmp_path, data, {"kind": kind, **share}, ada={"preset": "sums-only"})
    hand = Hand(scenario, tmp_path)
    for name in ("bob", "cyd", "dan"):
        said = {"run": hand.run, **_alone(kind, share)}
        assert tiny.say(hand.party(name), "release", said)[1]
    hand.until("advertise")
    with pytest.raises(ClientRefused, match=r"client 'ada' in sums over parameters .* be 1\.000"):
        hand.say("ada", hand.body("share", "ada"))
    assert not [e for e in hand.store("ada").entries() if e["event"] == "release"]


@pytest.mark.parametrize(("kind", "share"), OUTPUTS)
def test_outputs_that_left_alone_are_subtracted_from_no_sum_of_outputs(
    kind: str, share: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    """Attack: the others answer the pool, or a part of it, alone; then the mean of all answers."""
    entry = {"kind": kind, "queries": ["pool"], **share}
    hand = _outputs(_beside(tmp_path, data, entry, ada={"preset": "sums-only"}), tmp_path)
    for name in ("bob", "cyd", "dan"):
        said = {"run": hand.run, **_alone(kind, share, "pool")}
        assert tiny.say(hand.party(name), "release", said)[1]
    hand.until("advertise")
    with pytest.raises(ClientRefused, match=r"client 'ada' in sums over features .* be 1\.000"):
        hand.say("ada", hand.body("share", "ada"))
    assert not [e for e in hand.store("ada").entries() if e["event"] == "release"]


def test_outputs_on_other_images_that_left_alone_end_no_sum(data: Path, tmp_path: Path) -> None:
    """Without it whoever shares outputs on the pool would never sum those of the evaluation."""
    entry = {"kind": "features", "queries": ["pool"]}
    scenario = _beside(tmp_path, data, entry, ada={"preset": "sums-only"})
    hand = _outputs(scenario, tmp_path, "evaluation")
    for name in ("bob", "cyd", "dan"):
        assert tiny.say(hand.party(name), "release", _alone("features", {}, "pool"))[1]
    hand.until("reveal")
    assert hand.store("ada").entries()[-2]["leverage"] == pytest.approx(0.25)


def test_whose_outputs_left_may_sum_them(data: Path, tmp_path: Path) -> None:
    """Without it a study of outputs first and their sums afterwards would have no sums."""
    hand = _outputs(_beside(tmp_path, data, {"kind": "features", "queries": ["pool"]}), tmp_path)
    for name in CLIENTS:
        assert tiny.say(hand.party(name), "release", _alone("features", {}, "pool"))[1]
    hand.until("reveal")
    assert hand.store("ada").entries()[-2]["leverage"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("kind", "share"), [PARTS[0], PARTS[3], ("features", {"queries": ["pool"]})]
)
def test_who_gave_less_alone_still_guards_the_rest(
    kind: str, share: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    """Attack: ada too releases something alone, of which her model does not follow as it is."""
    more = {"kind": kind, **share}
    stages = [
        {"name": "alone", "share": [{"kind": "fisher", "examples": 4}, more]},
        {"name": "sums", "share": SHARE},
    ]
    hand = Hand(tiny_sums.scenario(tmp_path, data, stages=stages), tmp_path)
    said = _alone(kind, share, *share.get("queries", ()))
    assert tiny.say(hand.party("ada"), "release", said)[1]
    for name in ("bob", "cyd", "dan"):
        assert tiny.say(hand.party(name), "release", _alone("fisher", {}))[1]
    hand.until("advertise")
    with pytest.raises(ClientRefused, match=r"client 'ada' in sums over parameters .* be 1\.000"):
        hand.say("ada", hand.body("share", "ada"))


def test_a_part_that_left_alone_excuses_no_second_sum(data: Path, tmp_path: Path) -> None:
    """Attack: ada released a hundredth of her task vector; the mean; the mean without her."""
    kind, share = PARTS[1]
    hand = Hand(_beside(tmp_path, data, {"kind": kind, **share}), tmp_path)
    assert tiny.say(hand.party("ada"), "release", _alone(kind, share))[1]
    hand.until("reveal")
    again = hand.again([Part(None, dict.fromkeys(CLIENTS[1:], 1 / 3))])
    with pytest.raises(ClientRefused, match=r"client 'ada' in sums over parameters .* be 1\.000"):
        again.until("share")


def test_whose_model_left_may_sum_it(data: Path, tmp_path: Path) -> None:
    """Without it a study of parameters first and sums afterwards would have no sums."""
    hand = Hand(_with_alone(tmp_path, data), tmp_path)
    for name in CLIENTS:
        assert tiny.say(hand.party(name), "release", {"run": hand.run, **ALONE})[1]
    hand.until("reveal")
    assert hand.store("ada").entries()[-2]["leverage"] == pytest.approx(0.25)


# ---------------------------------------------------------------- one model, several starts


def test_a_model_is_told_against_one_start(data: Path, tmp_path: Path) -> None:
    """Attack: 25 seeds, each with a theta_0 of its own: a fifth of the difference each is all of it."""
    first = tiny.scenario(tmp_path / "look", data)
    state = ClientHandler(first, 3, "ada", tmp_path / "look").setting.family.encoder().state_dict()
    torch.save({k: v + 0.02 if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "own.pt")  # fmt: skip
    clients = tiny.said(data)["clients"]
    clients[0] |= {"checkpoint": {"A": str(tmp_path / "own.pt")}}
    shares = [{"kind": "offset-sum"}, {"kind": "trimmed-task-vector", "fraction": 0.2}]
    asked = [
        asdict(Request("one", "A", "offset-sum")),
        asdict(Request("one", "A", "trimmed-task-vector", fraction=0.2)),
    ]
    for seed in (3, 4):
        scenario = tiny.scenario(
            tmp_path / str(seed), data, clients=clients, seed=seed,
            stages=[{"name": "one", "share": shares}],
        )  # fmt: skip
        party = ClientHandler(scenario, seed, "ada", tmp_path / "ada")
        for body in asked:
            if seed == 3:
                assert len(tiny.say(party, "release", body)[1])
                continue
            with pytest.raises(ClientRefused, match=f"{body['kind']} was of another start before"):
                tiny.say(party, "release", body)
    assert np.unique([e["expert"] for e in ClientStore(party.root).entries()]).size == 1
