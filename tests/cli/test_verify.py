"""`neulig-fl verify`: what an auditor reads, and the exit code that a script reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_line import Line, clients
from rich.console import Console

from neulig_fl.cli.verify import show
from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import ClientRefused
from neulig_fl.privacy.keys import Identity
from neulig_fl.verification import whole_run

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
    first, second, *rest = ended.out.splitlines()
    assert (first, second) == (f"OK: {honest}", "  checked:")
    checked, unchecked = rest[: rest.index("  not checked:")], rest[rest.index("  not checked:") :]
    assert checked[0].startswith("    - manifest.json: signed by ed25519:")
    assert checked[1].startswith("    - receipts.jsonl: 3 entries, their chain and their clients'")
    key = ClientStore(honest / "clients" / "ada").identity.key
    assert checked[2].startswith(f"    - client ada: signed by {key} (fingerprint ")
    ends = "which nobody pinned; 1 receipts signed; its own ledger of 1 entries, whole to its signed end"
    assert [each.endswith(ends) for each in checked].count(True) == 3
    assert (
        sum(each.startswith("    - who the server was: nobody pinned") for each in unchecked) == 1
    )
    assert any("no model was run again" in each for each in unchecked)
    assert any("engine, reference, seconds.total" in each for each in unchecked)


def test_stores_that_are_not_there_are_an_error(line: Line, honest: Path) -> None:
    """Without it ledgers would seem to have been looked at."""
    ended = line("verify", honest, "--stores", honest / "nosuch")
    assert ended.code == 2
    assert "no such folder" in ended.err


def test_what_was_not_looked_at_is_said(line: Line, run: Path) -> None:
    """Without it a server's folder alone would look as if the clients had confirmed it."""
    shutil.rmtree(run / "clients")
    ended = line("verify", run)
    assert ended.code == 0
    assert ended.out.count("its own ledger is not here and was not looked at") == 3


@pytest.mark.parametrize("width", [24, 40, 80])
def test_every_line_fits_a_terminal(
    width: int, honest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it what was not checked would be cut off, or fold where no reader follows."""
    (found,) = whole_run.verify(honest)
    show(found, Console(width=width, force_terminal=True))
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= width
    show(found, Console(width=width, force_terminal=False))
    whole = capsys.readouterr().out
    assert "".join(narrow.split()) == "".join(whole.split())
    assert len(whole.splitlines()) == 3 + len(found.checked) + len(found.unchecked)


def test_a_changed_run_fails_and_the_entry_is_named(line: Line, run: Path) -> None:
    """Without it a script would go on with a forged ledger."""
    file = run / "clients" / "bob" / "ledger.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"rows":1', b'"rows":2'))
    ended = line("verify", run)
    assert ended.code == 1
    assert ended.out.startswith(f"FAILED: {run}\n  not checked:\n")
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
    facts = {"key", "fingerprint", "pinned", "signed", "own", "closed"}
    assert facts <= seed["clients"][0].keys()
    assert (seed["server"]["name"], seed["server"]["pinned"], seed["error"]) == (
        "server",
        None,
        None,
    )
    assert seed["checked"]
    assert seed["unchecked"]
    (run / "receipts.jsonl").write_bytes(b"")
    ended = line("verify", run, "--json")
    assert ended.code == 1
    unsound = json.loads(ended.out)["runs"][0]["unchecked"][0]
    assert unsound == "reasons, leverage, report and scenario: what they rest on does not hold"
    first, second = json.loads(ended.out)["runs"][0]["failures"]
    assert (first["file"], first["index"]) == (str(run / "report.json"), None)
    assert second["file"] == str(run / "receipts.jsonl")


def test_a_key_can_be_demanded(line: Line, run: Path) -> None:
    """Without it whoever forges everything, keys included, would pass."""
    key = ClientStore(run / "clients" / "ada").identity.key
    ended = line("verify", run, "--trust", f"ada={key}")
    assert ended.code == 0
    assert ", pinned by --trust; 1 receipts signed" in ended.out
    ended = line("verify", run, "--trust", f"ada={Identity.new().key}")
    assert ended.code == 1
    assert f"its key is {key}, not the one that it must be" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trust", "ada"], "error: --trust ada: write it as NAME=KEY"),
        (["--trust", "=ed25519:x"], "error: --trust =ed25519:x: write it as NAME=KEY"),
        (["--trust", "server=x"], "error: the key pinned for the server is 'x'; allowed"),
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
    assert "holds neither report.json nor manifest.json, nor does a seed-N in it" in ended.err


def test_keys_come_from_a_file(line: Line, run: Path, tmp_path: Path) -> None:
    """Without it whoever agreed to a scenario would copy its keys by hand, or not at all."""
    key = ClientStore(run / "clients" / "ada").identity.key
    for text in (f"ada: {key}\n", f"name: tiny\ntrust:\n  ada: {key}\n"):
        (tmp_path / "keys.yaml").write_text(text)
        ended = line("verify", run, "--trust", tmp_path / "keys.yaml")
        assert ended.code == 0
        assert "pinned by --trust" in ended.out
    (tmp_path / "keys.yaml").write_text(f"trust:\n  ada: {Identity.new().key}\n")
    assert line("verify", run, "--trust", tmp_path / "keys.yaml").code == 1
    for text, problem in (
        ("trust: {}\n", "names no key"),
        ("trust: 7\n", "names no key"),
        ("ada: 7\n", "keys.yaml: has no mapping `trust`, and is no file of keys alone ('ada' at "),
        (
            "name: tiny\nseed: 3\nclients: []\n",
            "keys.yaml:2:7 has another value); add `trust: {NAME: ed25519:...}`, or name a file",
        ),
        ("trust:\n  ada: [x]\n", "keys.yaml:2:8: \"['x']\" is no key"),
    ):
        (tmp_path / "keys.yaml").write_text(text)
        ended = line("verify", run, "--trust", tmp_path / "keys.yaml")
        assert (ended.code, problem in ended.err) == (2, True), ended.err


def test_a_run_that_failed_is_verified_as_one(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it whoever stops a run would make what left clients until then deniable."""
    never = {"clients": clients("bob", policy={"never": ["offset-sum"]})}
    with pytest.raises(ClientRefused):
        tiny.run(tmp_path, data, **SAID | never)
    out = tmp_path / "out"
    ended = line("verify", out)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1].startswith(
        "  the run failed, and has no report: ClientRefused: client 'bob', stage 'one'"
    )
    assert "its own ledger of 1 entries, whole to its signed end" in ended.out
    (out / "report.json").write_text("{}")
    ended = line("verify", out)
    assert ended.code == 1
    assert f"{out}/report.json: is of a run that failed, says manifest.json" in ended.err
