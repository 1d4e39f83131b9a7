"""`neulig-fl verify`: what an auditor reads, and the exit code that a script reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_line import Line, clients

from neulig_fl.client_store import ClientStore
from neulig_fl.keys import Identity

SAID: dict[str, Any] = {
    "clients": clients(),
    "stages": [{"name": "one", "share": [{"kind": "offset-sum"}]}],
}


@pytest.fixture(scope="module")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest run's folder; not to be changed."""
    folder = tmp_path_factory.mktemp("honest")
    tiny.run(folder, data, **SAID)
    return folder / "out"


@pytest.fixture
def run(honest: Path, tmp_path: Path) -> Path:
    """A copy of the honest run."""
    return Path(shutil.copytree(honest, tmp_path / "run"))


def test_an_honest_run(line: Line, honest: Path) -> None:
    """Without it a reader could not tell what was looked at and whose keys it rests on."""
    ended = line("verify", honest)
    assert (ended.code, ended.err) == (0, "")
    first, *rest = ended.out.splitlines()
    assert first.startswith(f"OK: {honest}: 3 receipts, head ")
    key = ClientStore(honest / "clients" / "ada").identity.key
    assert rest[0].startswith(f"  ada: key {key} (fingerprint ")
    assert all("trusted on first use; 1 receipts signed; its own ledger of 1 " in r for r in rest)
    assert len(rest) == 3


def test_what_was_not_looked_at_is_said(line: Line, run: Path) -> None:
    """Without it a server's folder alone would look as if the clients had confirmed it."""
    shutil.rmtree(run / "clients")
    ended = line("verify", run)
    assert ended.code == 0
    assert ended.out.count("its own ledger is not here and was not looked at") == 3


def test_a_changed_run_fails_and_the_entry_is_named(line: Line, run: Path) -> None:
    """Without it a script would go on with a forged ledger."""
    file = run / "clients" / "bob" / "ledger.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"rows":1', b'"rows":2'))
    ended = line("verify", run)
    assert ended.code == 1
    assert ended.out.startswith(f"FAILED: {run}: ")
    assert ended.err == (
        f"error: {file}, entry 0: was changed: its hash is not that of what it says\n"
    )


def test_json_for_programs(line: Line, run: Path) -> None:
    """Without it a pipeline would have to read sentences."""
    found = json.loads(line("verify", run, "--json").out)
    assert found["verified"] is True
    (seed,) = found["runs"]
    assert (seed["entries"], seed["failures"]) == (3, [])
    assert [c["name"] for c in seed["clients"]] == ["ada", "bob", "cyd"]
    assert {"key", "fingerprint", "pinned", "signed", "own"} <= seed["clients"][0].keys()
    (run / "receipts.jsonl").write_bytes(b"")
    ended = line("verify", run, "--json")
    assert ended.code == 1
    (failure,) = json.loads(ended.out)["runs"][0]["failures"]
    assert (failure["file"], failure["index"]) == (str(run / "report.json"), None)


def test_a_key_can_be_demanded(line: Line, run: Path) -> None:
    """Without it whoever forges everything, keys included, would pass."""
    key = ClientStore(run / "clients" / "ada").identity.key
    ended = line("verify", run, "--trust", f"ada={key}")
    assert ended.code == 0
    assert ", pinned; 1 receipts signed" in ended.out
    ended = line("verify", run, "--trust", f"ada={Identity.new().key}")
    assert ended.code == 1
    assert f"its key is {key}, not the one that it must be" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trust", "ada"], "error: --trust ada: write it as CLIENT=KEY"),
        (["--trust", "=ed25519:x"], "error: --trust =ed25519:x: write it as CLIENT=KEY"),
        (["--trust", "ada=north"], "error: the key pinned for client 'ada' is 'north'; allowed"),
        (["--trust", f"dora=ed25519:{'A' * 43}"], "error: no client is called 'dora' in "),
        (
            ["--trust", "ada=ed25519:x", "--trust", "ada=ed25519:y"],
            "error: --trust ada=ed25519:y: another key was given for 'ada'; give one",
        ),
    ],
)
def test_a_wrong_key_is_bad_input(
    arguments: list[str], message: str, line: Line, honest: Path
) -> None:
    """Without it a typo would look like a forgery."""
    ended = line("verify", honest, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(message)


def test_a_folder_without_a_run_is_bad_input(line: Line, tmp_path: Path) -> None:
    """Without it a typo in a path would pass, or look like a forgery."""
    ended = line("verify", tmp_path / "nowhere")
    assert (ended.code, ended.out) == (2, "")
    assert "holds neither report.json nor seed-N/report.json; give the folder of a run" in ended.err
