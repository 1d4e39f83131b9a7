"""One client's side: what it answers, from whichever process, and what it keeps to itself."""

from __future__ import annotations

import dataclasses
import json
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from neulig_fl import __version__
from neulig_fl.client import experts
from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.holdings import ClientHoldings
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import BadReply, ClientRefused, NeuligError, RunError
from neulig_fl.ledger import chain, handshake, key_store
from neulig_fl.ledger.opening import OPENING, Opening
from neulig_fl.models import outputs
from neulig_fl.records import kinds, payloads
from neulig_fl.records.kinds import Request
from neulig_fl.records.offset_sum import entry_sum

EVERYTHING = [
    {"kind": "inputs"},
    {"kind": "offset-sum"},
    {"kind": "features", "queries": ["pool", "evaluation", "train"]},
    {"kind": "logits", "queries": ["pool", "evaluation"]},
    {"kind": "parameters"},
]
RUN = "ab" * 16
STAGES = [{"name": "all", "share": EVERYTHING}]


@pytest.fixture
def scenario(data: Path, tmp_path: Path) -> Scenario:
    """One stage that shares everything."""
    return tiny.scenario(tmp_path, data, stages=STAGES)


def _party(scenario: Scenario, folder: Path, name: str = "ada") -> ClientHandler:
    return ClientHandler(scenario, scenario.seed, name, folder / name)


def _ask(
    party: ClientHandler, kind: str, queries: str | None = None, payload: bytes = b"", **more: Any
) -> tuple[dict[str, Any], kinds.Arrays]:
    body = asdict(Request("all", "A", kind, queries, **more))
    reply, released = tiny.say(party, "release", body, payload)
    fields = kinds.layout(kind, reply["rows"], party.setting.sizes)
    return reply, payloads.unpack(released, fields, party.name)


def _images(party: ClientHandler, name: str) -> np.ndarray:
    tasks = party.setting.tasks.values()
    most = getattr(party.scenario.queries, name)
    return np.concatenate([t.pixels(t.indices(name, most), 32) for t in tasks])


def test_hello_says_who_which_version_and_whose_keys(scenario: Scenario, tmp_path: Path) -> None:
    """Without it the server would not know whose answers it gets, nor whose signature to expect."""
    said, payload = _party(scenario, tmp_path).answer("hello", {}, b"")
    identity = ClientStore(tmp_path / "ada").identity.public
    assert (said, payload) == (
        {"client": "ada", "version": __version__, "identity": identity.record()},
        b"",
    )


def test_hello_is_signed_for_the_run_that_asks(scenario: Scenario, tmp_path: Path) -> None:
    """Without it a relay could say hello in another client's name, or with an old client hello."""
    party = _party(scenario, tmp_path)
    said, _ = party.answer("hello", tiny.opening(party, RUN), b"")
    assert handshake.checked(said, "ada", RUN).key == ClientStore(tmp_path / "ada").identity.key
    for body, name, run in (
        (said, "bob", RUN),
        (said, "ada", "cd" * 16),
        ({**said, "version": "9"}, "ada", RUN),
        ({**said, "client": "bob"}, "bob", RUN),
    ):
        with pytest.raises(BadReply):
            handshake.checked(body, name, run)


def test_keys_from_elsewhere_sign(scenario: Scenario, tmp_path: Path) -> None:
    """Without it a key that partners have pinned could not be used in a run's new store."""
    own = key_store.identity(tmp_path / "my keys")
    party = ClientHandler(scenario, scenario.seed, "ada", tmp_path / "ada", tmp_path / "my keys")
    assert party.answer("hello", {}, b"")[0]["identity"]["key"] == own.key
    assert _ask(party, "offset-sum")[0]["entry"]["key"] == own.key


def test_a_nodes_own_policy_is_asked(scenario: Scenario, tmp_path: Path) -> None:
    """Without it an owner's file on the node would be read and not kept."""
    file = tmp_path / "policy.yaml"
    file.write_text("never: [offset-sum]\n")
    party = ClientHandler(scenario, scenario.seed, "ada", tmp_path / "ada", policy_file=file)
    with pytest.raises(ClientRefused, match="this node's own policy: never offset-sum"):
        _ask(party, "offset-sum")
    assert _ask(party, "features", "pool")


def test_an_unknown_action_is_an_error(scenario: Scenario, tmp_path: Path) -> None:
    """Without it a newer server would get an empty answer."""
    with pytest.raises(NeuligError, match="action 'dance' is not known") as caught:
        _party(scenario, tmp_path).answer("dance", {}, b"")
    assert caught.value.public_reason == "unknown action"


def test_prepare_trains_once_and_notes_the_truth_for_the_engine(
    scenario: Scenario, tmp_path: Path, own_cache: Path
) -> None:
    """Without it the report would have no reference, or every message would train."""
    both = scenario.experts.model_copy(update={"groups": ("A", "B")})
    scenario = scenario.model_copy(update={"experts": both})
    party = dataclasses.replace(_party(scenario, tmp_path), reference=True)
    assert tiny.say(party, "prepare", {"group": "A"}, b"") == ({"trained": True}, b"")
    again, _ = tiny.say(party, "prepare", {"group": "A"}, b"")
    assert again == {"trained": False}
    tiny.say(party, "prepare", {"group": "B"}, b"")
    said = json.loads((tmp_path / "ada" / "reference.json").read_text())
    facts = said["experts"]
    assert said["run"] == tiny.run_of(scenario)
    assert [(f["client"], f["task"], f["group"], f["origin"], f["n_eval"]) for f in facts] == [
        ("ada", "first", "A", "shared", 7), ("ada", "first", "B", "shared", 7)
    ]  # fmt: skip
    assert all(0 <= f["accuracy"] <= 100 and f["n_train"] > 0 for f in facts)


@pytest.mark.parametrize("where", ["scenario", "node"])
def test_after_a_policys_time_no_expert_is_trained_and_the_ledgers_end_is_told(
    where: str, data: Path, tmp_path: Path, own_cache: Path
) -> None:
    """Without it a policy that is over would have its client train for others, or end unsigned."""
    over = {"budgets": {"not_after": "2020-01-01"}}
    clients = tiny.said(data)["clients"]
    clients[0] |= {"policy": over} if where == "scenario" else {}
    file = tmp_path / "policy.yaml"
    file.write_text("budgets: {not_after: 2020-01-01}\n")
    said = tiny.scenario(tmp_path, data, clients=clients)
    node = file if where == "node" else None
    party = ClientHandler(said, said.seed, "ada", tmp_path / "ada", policy_file=node)
    with pytest.raises(ClientRefused, match="limit not_after 2020-01-01: its time is over"):
        tiny.say(party, "prepare", {"group": "A"}, b"")
    assert not list(own_cache.rglob("*.safetensors"))
    assert party._store().entries() == [], "no record was asked for"
    assert tiny.say(party, "close", {}, b"")[0]["entries"] == 0


def test_the_reply_to_prepare_tells_the_server_no_accuracy(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Without it the server would know what only a simulation may."""
    reply, _ = tiny.say(_party(scenario, tmp_path), "prepare", {"group": "A"}, b"")
    assert list(reply) == ["trained"]
    assert not (tmp_path / "ada" / "reference.json").exists(), "nobody asked for it"


@pytest.mark.parametrize(("queries", "rows"), [("pool", 12), ("evaluation", 14)])
def test_outputs_are_the_experts_on_the_queries_in_order(
    queries: str, rows: int, scenario: Scenario, tmp_path: Path
) -> None:
    """Without it Portland would be trained on other inputs than it is used on."""
    party = _party(scenario, tmp_path)
    reply, features = _ask(party, "features", queries)
    _, logits = _ask(party, "logits", queries)
    encoder = party.encoder("A")[0]
    expected = outputs.encode(encoder, _images(party, queries), party.setting.family)
    assert reply["rows"] == rows
    assert np.array_equal(features["features"], expected.numpy())
    heads = [
        party.setting.family.head(t.source.class_names, t.source.templates)
        for t in party.setting.tasks.values()
    ]
    assert logits["logits"].shape == (rows, 5)
    assert torch.allclose(
        torch.tensor(logits["logits"]), outputs.classify(expected, torch.cat(heads))
    )


def test_a_fraction_is_the_first_part_of_every_task(scenario: Scenario, tmp_path: Path) -> None:
    """Without it half of the queries would be all of the first task's."""
    party = _party(scenario, tmp_path)
    _, whole = _ask(party, "features", "pool")
    reply, half = _ask(party, "features", "pool", fraction=0.5)
    assert reply["rows"] == 6
    kept = whole["features"][[0, 1, 2, 6, 7, 8]]
    assert np.allclose(half["features"], kept, rtol=1e-4, atol=1e-6)


def test_queries_by_value_get_the_same_answers(data: Path, tmp_path: Path) -> None:
    """Without it results would depend on how queries travel."""
    sizes = {"pool": 6, "evaluation": 7, "travel": "value"}
    scenario = tiny.scenario(tmp_path, data, stages=STAGES, queries=sizes)
    party = _party(scenario, tmp_path)
    _, found = _ask(party, "features", "pool", _images(party, "pool").tobytes())
    reference = tiny.scenario(
        tmp_path, data, stages=STAGES, queries=sizes | {"travel": "reference"}
    )
    _, expected = _ask(_party(reference, tmp_path / "other"), "features", "pool")
    assert np.array_equal(found["features"], expected["features"])


def test_queries_by_value_must_be_whole_images(data: Path, tmp_path: Path) -> None:
    """Without it a torn message would be answered for noise."""
    scenario = tiny.scenario(
        tmp_path, data, stages=STAGES, queries={"pool": 6, "evaluation": 7, "travel": "value"}
    )
    with pytest.raises(ClientRefused, match="3073 bytes; the scenario's are 36864") as caught:
        _ask(_party(scenario, tmp_path), "features", "pool", bytes(3073))
    assert caught.value.public_reason
    (entry,) = chain.read(ClientStore(tmp_path / "ada").ledger_file)
    assert entry["event"] == "refusal"


def test_a_client_gives_its_own_inputs_and_nobody_elses(scenario: Scenario, tmp_path: Path) -> None:
    """Without it one party would disclose another's training images."""
    for name, task in (("ada", "first"), ("bob", "second")):
        party = _party(scenario, tmp_path, name)
        reply, found = _ask(party, "inputs", "train")
        own = party.setting.tasks[task]
        at = own.indices("train-A", 5)
        assert reply["rows"] == 5
        assert np.array_equal(found["images"], own.pixels(at, 32))
        assert found["labels"].tolist() == own.labels(at).tolist()


def test_the_offset_sum_and_the_parameters_are_the_same_experts(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Without it the alignment term would be about other parameters than the merge's."""
    party = _party(scenario, tmp_path)
    _, parameters = _ask(party, "parameters")
    _, offset = _ask(party, "offset-sum")
    state = party.encoder("A")[0].state_dict()
    assert list(parameters) == list(party.setting.family.entries())
    assert all(np.array_equal(parameters[k], state[k].numpy()) for k in parameters)
    slow = sum(float(v.astype(np.float64).sum()) for v in parameters.values())
    start = entry_sum(
        {k: v.numpy() for k, v in party.setting.family.encoder().state_dict().items()}
    )
    assert offset["sum"][0] == pytest.approx(slow, abs=abs(slow - start) * 2.0**-9)
    assert offset["sum"][0] != slow


def test_a_task_vector_is_the_difference_to_the_common_checkpoint(
    data: Path, tmp_path: Path
) -> None:
    """Without it the server would add theta_0 to something else, and merge other experts."""
    stages = [{"name": "all", "share": [{"kind": "task-vector"}, {"kind": "parameters"}]}]
    party = _party(tiny.scenario(tmp_path, data, stages=stages), tmp_path)
    vector, whole = _ask(party, "task-vector")[1], _ask(party, "parameters")[1]
    start = party.setting.family.encoder().state_dict()
    assert list(vector) == list(whole)
    assert any(np.abs(change).max() > 1e-3 for change in vector.values())
    for name, change in vector.items():
        assert np.allclose(start[name].numpy() + change, whole[name], atol=1e-7)


def test_the_receipt_is_the_ledgers(scenario: Scenario, tmp_path: Path) -> None:
    """Without it a report's releases could not be found in the clients' ledgers (law 9)."""
    party = _party(scenario, tmp_path)
    replies = [_ask(party, "offset-sum")[0], _ask(party, "features", "pool")[0]]
    store = ClientStore(party.root)
    entries = chain.read(store.ledger_file)
    assert chain.verify(entries)
    assert chain.signature_fault(entries, [store.identity.key]) is None
    assert [e["sha256"] for e in entries] == [r["sha256"] for r in replies]
    assert [r["entry"] for r in replies] == entries
    assert all(set(r) == {"rows", "sha256", "entry"} for r in replies)
    assert [(e["client"], e["kind"], e["rows"]) for e in entries] == [
        ("ada", "offset-sum", 1),
        ("ada", "features", 12),
    ]


def test_the_receipt_does_not_tell_which_expert_it_is(scenario: Scenario, tmp_path: Path) -> None:
    """Without it a server could compare a receipt with the experts that it knows (law 7)."""
    entries = [
        _ask(ClientHandler(scenario, scenario.seed, "ada", tmp_path / name), "features", "pool")[0][
            "entry"
        ]
        for name in ("one store", "another")
    ]
    differing = {name for name in entries[0] if entries[0][name] != entries[1][name]}
    assert entries[0].keys() == entries[1].keys()
    assert differing - {"time"} == {
        "key", "signature", "hash", "fingerprint", "expert", "data", "content"
    }  # fmt: skip
    recipe = ClientHoldings(
        ClientHandler(scenario, scenario.seed, "ada", tmp_path),
        Request("all", "A", "features", "pool"),
        b"",
    )
    told = json.dumps(entries)
    assert recipe.expert not in told
    assert recipe.data_hash not in told


def test_another_run_gets_the_stored_bytes_and_an_entry_of_its_own(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Without it a second run's server would have no receipt, or the client would pay twice."""
    body = asdict(Request("all", "A", "features", "pool"))
    replies = [
        tiny.say(_party(scenario, tmp_path), "release", {**body, "run": run}, b"")
        for run in (RUN, RUN, "cd" * 16)
    ]
    assert replies[0] == replies[1]
    (first, payload), (second, again) = replies[1:]
    assert payload == again
    assert (first["entry"]["event"], second["entry"]["event"]) == ("release", "repeat")
    assert (first["entry"]["run"], second["entry"]["run"]) == (RUN, "cd" * 16)
    assert (second["entry"]["repeats"], second["entry"]["index"]) == (0, 1)
    assert first["sha256"] == second["sha256"]


@pytest.mark.parametrize("run", [7, "RUN", "ab" * 15, "AB" * 16, ["ab" * 16]])
def test_a_run_that_is_no_id_does_not_begin(run: Any, scenario: Scenario, tmp_path: Path) -> None:
    """Without it a server could write what it likes into a client's ledger."""
    party = _party(scenario, tmp_path)
    made = dataclasses.replace(Opening.of(scenario, RUN, "", tiny.SERVER_KEYS), run=run)
    with pytest.raises(ClientRefused, match="is malformed"):
        party.answer("hello", {OPENING: made.signed(tiny.SERVER_KEYS)}, b"")
    (entry,) = ClientStore(tmp_path / "ada").entries()
    assert (entry["event"], entry["run"]) == ("refusal", None)


def test_a_client_whose_ledger_is_damaged_releases_nothing(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Without it a client would forget what it released and begin its limits anew."""
    _ask(_party(scenario, tmp_path), "offset-sum")
    _ask(_party(scenario, tmp_path), "features", "pool")
    file = ClientStore(tmp_path / "ada").ledger_file
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[1])
    with pytest.raises(
        RunError, match="entry 0 says that it is entry 1; put back a copy of the whole store"
    ) as caught:
        _ask(_party(scenario, tmp_path), "features", "evaluation")
    assert caught.value.public_reason == "its ledger is damaged"


def test_a_clients_folder_is_its_owners_alone(scenario: Scenario, tmp_path: Path) -> None:
    """Without it another user of the machine could read releases, keys and the reference."""
    tiny.say(_party(scenario, tmp_path), "prepare", {"group": "A"}, b"")
    _ask(_party(scenario, tmp_path), "offset-sum")
    root = tmp_path / "ada"
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in (root / "keys").iterdir()} == {0o600}
    assert {stat.S_IMODE(p.stat().st_mode) for p in (root / "releases").iterdir()} == {0o600}


def test_a_new_process_hands_out_the_stored_bytes(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a repeated request would be computed, and charged, again."""
    first, _ = _ask(_party(scenario, tmp_path), "features", "pool")
    monkeypatch.setattr(experts, "encode", None)
    again, _ = _ask(_party(scenario, tmp_path), "features", "pool")
    assert again == first


def test_another_expert_is_another_release(data: Path, scenario: Scenario, tmp_path: Path) -> None:
    """Without it an old expert's features would be sent for a new one's."""
    first, _ = _ask(_party(scenario, tmp_path), "features", "pool")
    trained = {"epochs": 2, "lr": 1.0e-3, "batch_size": 16}
    other = tiny.scenario(tmp_path / "other", data, stages=STAGES, experts=trained)
    second, _ = _ask(_party(other, tmp_path), "features", "pool")
    assert second["sha256"] != first["sha256"]
    assert len(chain.read(ClientStore(tmp_path / "ada").ledger_file)) == 2


def test_a_given_checkpoint_that_changes_is_another_release(data: Path, tmp_path: Path) -> None:
    """Without it the stored release of an old checkpoint would be sent for ever."""
    clients = [
        {"name": "ada", "task": "first", "checkpoint": str(tmp_path / "own.pt")},
        {"name": "bob", "task": "second"},
    ]
    sums = []
    for value in (0.0, 1.0):
        scenario_without = tiny.scenario(tmp_path / "plain", data)
        state = _party(scenario_without, tmp_path).setting.family.encoder().state_dict()
        torch.save({k: torch.full_like(v, value) for k, v in state.items()}, tmp_path / "own.pt")
        scenario = tiny.scenario(tmp_path, data, stages=STAGES, clients=clients)
        sums.append(float(_ask(_party(scenario, tmp_path), "offset-sum")[1]["sum"][0]))
    assert sums[1] > 100 * abs(sums[0])
