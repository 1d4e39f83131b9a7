"""Attacks by names: a client's store, which is its node's, asked under another name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny

from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import ClientRefused
from neulig_fl.ledger import chain, key_store, manifest
from neulig_fl.records.kinds import Request
from neulig_fl.study import runs
from neulig_fl.verification.whole_run import verify

STAGES: list[dict[str, Any]] = [
    {"name": "one", "share": [{"kind": "labels", "queries": ["pool"]}, {"kind": "offset-sum"}]}
]


def _said(name: str) -> dict[str, Any]:
    """A scenario that calls its first client so."""
    return {
        "clients": [{"name": name, "task": "first"}, {"name": "bob", "task": "second"}],
        "stages": STAGES,
    }


@pytest.fixture
def ran(data: Path, tmp_path: Path) -> Path:
    """The folder of a run in which a node's client is called ada; its store outlives the run."""
    return _ran(tmp_path, "ada", tmp_path, data)


def _ran(folder: Path, name: str, kept: Path, data: Path) -> Path:
    runs.run(
        tiny.write(folder, data, **_said(name)),
        engine="local",
        out=folder / "out",
        stores=kept / "stores",
    )
    return folder / "out"


def _failures(run: Path, stores: Path) -> list[str]:
    return [each.what for found in verify(run, stores=stores) for each in found.failures]


def test_a_run_verifies_after_another_scenario_renamed_its_client(
    ran: Path, data: Path, tmp_path: Path
) -> None:
    """The attacker, a scenario's author, would spoil the proof of all earlier runs by one request."""
    stores, server = tmp_path / "stores", key_store.identity(tmp_path / "stores" / "server")
    assert _failures(ran, stores) == []
    scenario = tiny.scenario(tmp_path / "later", data, **_said("zoe"))
    party = ClientHandler(scenario, scenario.seed, "zoe", stores / "ada")
    tiny.say(party, "release", asdict(Request("one", "A", "offset-sum")), server=server)
    with pytest.raises(ClientRefused, match="does not share parameters"):
        tiny.say(party, "release", asdict(Request("one", "A", "parameters")), server=server)
    assert [e["client"] for e in ClientStore(party.root).entries()] == ["ada", "ada", "zoe", "zoe"]
    assert _failures(ran, stores) == []


def test_a_run_verifies_though_its_client_was_called_otherwise_before(
    ran: Path, data: Path, tmp_path: Path
) -> None:
    """The attacker, a scenario's author, would keep a node from ever proving a run of its own."""
    stores = tmp_path / "stores"
    (stores / "ada").rename(stores / "zoe")
    later = _ran(tmp_path / "later", "zoe", tmp_path, data)
    assert _failures(later, stores) == []
    (stores / "zoe").rename(stores / "ada")
    assert _failures(ran, stores) == []


@pytest.mark.parametrize("event", [chain.RELEASE, chain.REPEAT, chain.REFUSAL, chain.OUTCOME])
def test_an_entry_of_this_run_under_another_name_is_found(event: str, ran: Path) -> None:
    """The attacker, a client, would lay what it did in this run at another's door."""
    store = ClientStore(ran.parent / "stores" / "ada")
    kept = store.entries()
    assert manifest.parsed((ran / manifest.FILE).read_bytes()).run == kept[-1]["run"]
    other = {**kept[-1], "event": event, "client": "zoe", "survivors": ["zoe"]}
    chain.append(store.ledger_file, other, store.identity)
    assert _failures(ran, store.root.parent) == ["is of client 'zoe'"]
