"""Attacks on what `verify` says of noise: less of it, or none, than the scenario asks for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import forged
import pytest
import tiny

from neulig_fl.client.store import ClientStore
from neulig_fl.ledger import key_store, manifest
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge
from neulig_fl.privacy.keys import Identity
from neulig_fl.study import runs
from neulig_fl.verification.whole_run import verify

FEATURES = tiny.noised({"kind": "features", "queries": ["pool"]}, clip=1.0, delta=1e-5)
SAID: dict[str, Any] = {
    "clients": [{"name": "ada", "task": "first"}, {"name": "bob", "task": "second"}],
    "on_refusal": "continue",
    "stages": [
        {
            "name": "one",
            "share": [{"kind": "offset-sum"}, tiny.noised(FEATURES, noise_multiplier=2.0)],
        }
    ],
}


def _ran(folder: Path, data: Path) -> Path:
    scenario = tiny.write(folder, data, **SAID)
    keys = folder / "server"
    runs.run(scenario, engine="local", out=folder / "out", server_keys=keys)
    return folder / "out"


@pytest.fixture(scope="module")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest run's folder with a noised record and one without noise; not to be changed."""
    return _ran(tmp_path_factory.mktemp("honest"), data)


@pytest.fixture(scope="module")
def server(honest: Path) -> Identity:
    """The honest run's server."""
    return key_store.identity(honest.parent / "server")


def _failures(run: Path) -> list[str]:
    return [str(each).removeprefix(f"{run}/") for each in verify(run)[0].failures]


def test_an_honest_run_holds(honest: Path) -> None:
    """Without it every attack here would be found for the wrong reason."""
    (found,) = verify(honest)
    assert found.failures == ()
    assert "protection and noise of each entry: what scenario.json asks for" in found.checked


def _other(**options: Any) -> dict[str, Any]:
    return tiny.noised(SAID["stages"][0]["share"][1], **options)


NO_SHARE: dict[str, Any] = {"kind": "labels", "queries": ["pool"]}
SCENARIOS: dict[str, tuple[int, dict[str, Any], str]] = {
    "twice the noise": (
        1, _other(noise_multiplier=4.0), "says noise_multiplier 2.0, and stage 'one' asks for 4.0"
    ),
    "a little more noise": (
        1, _other(noise_multiplier=2.001), "says noise_multiplier 2.0, and stage 'one' asks for 2.001"
    ),
    "less noise": (
        1, _other(noise_multiplier=1.0), "says noise_multiplier 2.0, and stage 'one' asks for 1.0"
    ),
    "a smaller epsilon": (
        1, _other(noise_multiplier=None, epsilon=0.5),
        "says noise_multiplier 2.0, and stage 'one' asks for 7.",
    ),
    "a larger clip": (1, _other(clip=2.0), "says clip 1.0, and stage 'one' asks for 2.0"),
    "a smaller delta": (1, _other(delta=1e-7), "says delta 1e-05, and stage 'one' asks for 1e-07"),
    "noise that cannot be": (1, _other(clip=None), "claims noise, and stage 'one' says none that can"),
    "no noise at all": (
        1, {"protection": "none"}, "says protection gaussian of features of pool, and stage 'one' "
        "asks for none",
    ),
    "a sealed record": (
        0, {"protection": "sealed"}, "says protection none of offset-sum, and stage 'one' asks for "
        "sealed",
    ),
    "no such record": (0, NO_SHARE, "is of offset-sum, which stage 'one' does not share"),
    "other queries": (
        1, {"queries": ["evaluation"]}, "is of features of pool, which stage 'one' does not share"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_that_asks_for_other_noise_than_left_is_found(
    name: str, honest: Path, server: Identity, tmp_path: Path
) -> None:
    """The attacker, a server, would sign a scenario with more noise than its clients' records had."""
    run = Path(shutil.copytree(honest, tmp_path / "run"))
    for each in ("scenario.yaml", "given.yaml"):
        (run / each).unlink()
    said = json.loads((run / manifest.SCENARIO).read_text())
    at, changes, told = SCENARIOS[name]
    said["stages"][0]["share"][at] |= changes
    (run / manifest.SCENARIO).write_text(json.dumps(said))
    forged.signed(run, server)
    found = _failures(run)
    wanted = f"receipts.jsonl, entry {2 * at}: the entry that client 'ada' signed {told}"
    assert [each for each in found if each.startswith(wanted)], found


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ({"noise_multiplier": 0.5}, "says noise_multiplier 0.5, and stage 'one' asks for 2.0"),
        ({"clip": 0.5}, "says clip 0.5, and stage 'one' asks for 1.0"),
        ({"adjacency": "one pixel"}, "says adjacency one pixel, and stage 'one' asks for replace"),
        (
            {
                "protection": "sealed",
                **dict.fromkeys(("noise_multiplier", "epsilon", "delta", "adjacency")),
            },
            "says protection",
        ),
    ],
    ids=str,
)
def test_a_client_that_signs_other_noise_is_told_by_its_own_ledger(
    lie: dict[str, Any], told: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker, a client, would pass for an honest one where the server refused its record."""
    keep = ClientStore.keep

    def lying(self: Any, mark: str, payload: bytes, rows: int, fact: Any, *wrap: Any) -> Any:
        if fact["client"] == "ada" and fact.get("noise_multiplier"):
            fact = {**fact, **lie}
            if fact["noise_multiplier"]:
                charge = Charge("one", fact["noise_multiplier"])
                fact["epsilon"] = accountant.spent([charge], fact["delta"]).epsilon
        return keep(self, mark, payload, rows, fact, *wrap)

    with monkeypatch.context() as patch:
        patch.setattr(ClientStore, "keep", lying)
        run = _ran(tmp_path, data)
    failures = _failures(run)
    assert failures
    assert all(each.startswith("clients/ada/ledger.jsonl, entry 1: ") for each in failures)
    assert told in failures[0]
    shutil.rmtree(run / "clients")
    assert _failures(run) == [], "the server believed nothing of it"
