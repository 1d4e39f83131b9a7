"""Attacks on what `verify` vouches for: by an auditor with an editor, a lying server, a forger."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forged
import pytest
import tiny

from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import ClientRefused, RunError
from neulig_fl.ledger import chain, closing, key_store, manifest, receipts
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.signed_requests import signed
from neulig_fl.records.transport import Ask
from neulig_fl.report import Report
from neulig_fl.study import runs
from neulig_fl.verification.findings import OWN, SCENARIO, Findings
from neulig_fl.verification.whole_run import verify

NEVER = "policy of client 'bob': never offset-sum"
SAID: dict[str, Any] = {
    "clients": [
        {"name": "ada", "task": "first"},
        {"name": "bob", "task": "second", "policy": {"never": ["offset-sum"]}},
    ],
    "on_refusal": "continue",
    "portland": {"epochs": 1, "batch_size": 4, "alignment": "none"},
    "stages": [
        {
            "name": "one",
            "share": [
                {"kind": "offset-sum"},
                {"kind": "features", "queries": ["pool", "evaluation"]},
            ],
            "run": ["train-portland", "ensemble"],
        }
    ],
}
SUMS: dict[str, Any] = {
    "clients": [
        {"name": name, "task": task}
        for name, task in zip(tiny.CLIENTS, ("first", "second", "first"), strict=True)
    ],
    "on_refusal": "continue",
    "stages": [
        {
            "name": "sums",
            "share": [
                {"kind": "features", "queries": ["evaluation"], "protection": "secure-aggregation"},
                {"kind": "parameters", "protection": "secure-aggregation"},
            ],
            "run": ["merge"],
        }
    ],
}


def _ran(folder: Path, data: Path, said: dict[str, Any]) -> Path:
    """A run whose server keeps its keys, so that a test can be that server."""
    runs.run(
        tiny.write(folder, data, **said),
        engine="local",
        out=folder / "out",
        server_keys=folder / "server",
    )
    return folder / "out"


@pytest.fixture(scope="module")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest run's folder with Portland, results and a refusal; not to be changed."""
    return _ran(tmp_path_factory.mktemp("honest"), data, SAID)


@pytest.fixture(scope="module")
def summed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest run's folder with a secure sum; not to be changed."""
    return _ran(tmp_path_factory.mktemp("summed"), data, SUMS)


@pytest.fixture
def run(honest: Path, tmp_path: Path) -> Path:
    """A copy of the honest run."""
    return Path(shutil.copytree(honest, tmp_path / "run"))


@pytest.fixture
def sums(summed: Path, tmp_path: Path) -> Path:
    """A copy of the honest run with a sum."""
    return Path(shutil.copytree(summed, tmp_path / "sums"))


@pytest.fixture(scope="module")
def server(honest: Path) -> Identity:
    """The honest run's server."""
    return key_store.identity(honest.parent / "server")


def _found(run: Path, **trust: str) -> Findings:
    return verify(run, trust)[0]


def _failures(run: Path, **trust: str) -> list[str]:
    return [str(each).removeprefix(f"{run}/") for each in _found(run, **trust).failures]


def _own(run: Path, name: str) -> Path:
    return run / "clients" / name / "ledger.jsonl"


def test_an_honest_run_holds(honest: Path, summed: Path, server: Identity) -> None:
    """Without it every attack here would be found for the wrong reason."""
    for folder in (honest, summed):
        assert _failures(folder) == []
    found = _found(honest, server=server.key)
    assert found.server is not None
    assert (found.failures, found.server.pinned) == ((), OWN)
    assert [client.closed for client in found.clients] == [None, None]
    report = Report.load(honest)
    assert [r["reason"] for r in report.data["stages"][0]["refusals"]] == [f"refused: {NEVER}"]
    assert (honest / manifest.PORTLAND).is_file()


# ---------------------------------------------------------------- an auditor with an editor


def _json(name: str, edit: Callable[[Any], object]) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        said = json.loads((run / name).read_text())
        edit(said)
        (run / name).write_text(json.dumps(said))
        if name == "report.json":  # the page says the same
            (run / "report.md").write_text(Report(said).markdown())

    return change


def _accuracy(said: Any) -> None:
    task = said["stages"][0]["results"][0]["tasks"][0]
    task["ensemble_accuracy"] = 99.9


def _bytes(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        content = (run / name).read_bytes()
        assert old in content
        (run / name).write_bytes(content.replace(old, new, 1))

    return change


def _receipts(run: Path) -> None:
    kept = [
        {**each, "reason": "refused: bob is ill"} if "reason" in each else each
        for each in forged.entries(run / receipts.FILE)
    ]

    def refused(said: Any) -> None:
        for each in said["stages"][0]["refusals"]:
            each["reason"] = "refused: bob is ill"

    forged.receipts(run, kept, refused)


def _truncated(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-1])


EDITS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a forged accuracy": (_json("report.json", _accuracy), "report.json: stages[0].results[0]"),
    "a forged epsilon": (
        _json("report.json", lambda r: r["privacy"].update(
                epsilon=0.1, delta=1e-5, adjacency="x"
            )),
        "report.json: its epsilons are not",
    ),
    "a note left out": (_json("report.json", lambda r: r["notes"].pop()), "report.json: notes is"),
    "another version": (
        _json("report.json", lambda r: r["versions"].update(torch="9.9")),
        "report.json: versions.torch is '9.9'",
    ),
    "another seed in the report": (
        _json("report.json", lambda r: r["scenario"].update(seed=77)),
        "report.json: scenario.seed is '77'",
    ),
    "another hash of the scenario": (
        _json("report.json", lambda r: r["scenario"].update(hash="ab" * 32)),
        "report.json: scenario.hash is 'abab",
    ),
    "another accuracy of an expert alone": (
        _json("report.json", lambda r: r["reference"]["experts"][0].update(accuracy=99.9)),
        "report.json: reference of client 'ada' is not what its store says",
    ),
    "a report that contradicts its contract": (
        _json("report.json", lambda r: r["reference"].update(more=1)),
        "report.json: is not what its contract says",
    ),
    "an edited page": (_bytes("report.md", b"## How to read it", b"## 99.9 %"), "report.md: is not"),
    "no page": (lambda run: (run / "report.md").unlink(), "report.md: is not there"),
    "another outcome": (
        lambda run: forged.told(run, lambda said: said["notes"].append("all is well")),
        "outcome.json: is not the file that the server signed",
    ),
    "no outcome": (lambda run: (run / "outcome.json").unlink(), "outcome.json: is not there"),
    "another scenario that was run": (
        _json("scenario.json", lambda s: s["portland"].update(epochs=9)),
        "scenario.json: is not the file that the server signed",
    ),
    "no scenario": (lambda run: (run / "scenario.json").unlink(), "scenario.json: is not there"),
    "another scenario that was given": (
        _bytes("given.yaml", b"epochs: 1\n", b"epochs: 9\n"),
        "given.yaml: is not what scenario.json says: there experts.epochs",
    ),
    "another scenario to be run again": (
        _bytes("scenario.yaml", b"epochs: 1\n", b"epochs: 9\n"),
        "scenario.yaml: is not what scenario.json says: there experts.epochs",
    ),
    "a scenario to be run again on images from elsewhere": (
        _bytes("scenario.yaml", b"/first", b"/other"),
        "scenario.yaml: is not what scenario.json says: there tasks.first.root",
    ),
    "a scenario that cannot be run again": (
        _bytes("scenario.yaml", b"stages:", b"stadges:"), "scenario.yaml: is not valid: "
    ),
    "another folder of images": (
        _bytes("given.yaml", b"/first", b"/other"),
        "given.yaml: is not what scenario.json says: there tasks.first.root",
    ),
    "values that were not replaced": (
        lambda run: (run / "overrides.json").write_text('["portland.epochs=2"]'),
        "given.yaml: is not what scenario.json says: there portland.epochs is '1', and '2' was",
    ),
    "another Portland": (
        _truncated(manifest.PORTLAND), "portland.safetensors: is not the file that the server"
    ),
    "no Portland": (
        lambda run: (run / manifest.PORTLAND).unlink(), "portland.safetensors: is not there"
    ),
    "other predictions": (
        _truncated(manifest.PREDICTIONS), "predictions.safetensors: is not the file that the server"
    ),
    "no predictions": (
        lambda run: (run / manifest.PREDICTIONS).unlink(), "predictions.safetensors: is not there"
    ),
    "a refusal's reason rewritten": (
        _receipts, "clients/bob/ledger.jsonl, entry 0: is \"refused: policy of client 'bob'"
    ),
    "a manifest that is gone": (
        lambda run: (run / manifest.FILE).unlink(), "manifest.json: is not there"
    ),
    "a manifest with another file": (
        _json(manifest.FILE, lambda m: m["files"].pop("outcome.json")),
        "manifest.json: is not as a run writes it",
    ),
    "a run that says it failed": (
        _bytes(manifest.FILE, b'"error":null', b'"error":{}'), "manifest.json: is not signed by the"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_what_somebody_changed_who_has_no_key_is_found(name: str, run: Path) -> None:
    """The attacker would show a partner, or a reviewer, figures that no run gave."""
    edit, wanted = EDITS[name]
    edit(run)
    found = _failures(run)
    assert [each for each in found if each.startswith(wanted)], found


def test_a_last_outcome_that_is_cut_off_is_found(sums: Path) -> None:
    """The attacker, a client or who has its store, would deny with whom its vector was summed."""
    file = _own(sums, "ada")
    *kept, last = forged.entries(file)
    assert last["event"] == chain.OUTCOME
    file.write_text(chain.text(kept))
    assert _failures(sums) == [
        f"clients/ada/ledger.jsonl, entry {len(kept)}: is cut off: when the run ended, its ledger "
        f"had {len(kept) + 1} entries"
    ]


def test_a_last_outcome_that_its_client_signs_anew_is_found(sums: Path) -> None:
    """The attacker, a client, would say afterwards that others survived."""
    file, ada = _own(sums, "ada"), ClientStore(sums / "clients" / "ada").identity
    *kept, last = forged.entries(file)
    file.write_text(chain.text([*kept, chain.extended(kept, {**last, "survivors": ["ada"]}, ada)]))
    (found,) = _failures(sums)
    assert found.endswith(
        f"entry {len(kept)}: is not the last entry that the ledger had when the run ended"
    )


def test_a_summary_of_other_seeds_is_found(data: Path, tmp_path: Path) -> None:
    """The attacker would leave the seed out in which the method failed."""
    said = {k: v for k, v in tiny.said(data, **SAID).items() if k != "seed"}
    (tmp_path / "scenario.yaml").write_text(json.dumps({**said, "seeds": [9, 10]}))
    out = tmp_path / "out"
    runs.run(tmp_path / "scenario.yaml", engine="local", out=out)
    assert [each.failures for each in verify(out)] == [(), (), ()]
    content = (out / "summary.json").read_text()
    (out / "summary.json").write_text(content.replace('"seeds": [', '"seeds": [ 8,', 1))
    assert str(verify(out)[-1].failures[0]) == (
        f"{out}/summary.json: is not the summary of the seeds' reports"
    )
    (out / "summary.json").write_text(content)
    shutil.rmtree(out / "seed-10")
    assert not all(each.holds for each in verify(out))


# ---------------------------------------------------------------- a server that lies, and signs


def test_a_server_that_rewrites_a_refusals_reason_is_found(run: Path, server: Identity) -> None:
    """The attacker, the server, would blame a client for what its policy forbade."""
    _receipts(run)
    forged.signed(run, server)
    (found,) = _failures(run, server=server.key)
    assert found.startswith(f'clients/bob/ledger.jsonl, entry 0: is "refused: {NEVER[:40]}')
    assert found.endswith("and a receipt tells of 'refused: bob is ill'")


def test_a_server_whose_predictions_give_other_figures_is_found(
    run: Path, server: Identity
) -> None:
    """The attacker, the server, would sign an accuracy, and forget what it rests on."""

    def better(said: Any) -> None:
        row = next(r for r in said["stages"][0]["results"] if r["method"] == "neulig")
        for part in (row["average"], *row["tasks"]):
            part["ensemble_accuracy"] = 100.0

    forged.told(run, better)
    forged.signed(run, server)
    (found,) = _failures(run, server=server.key)
    assert found.startswith(
        "predictions.safetensors: does not give stages[0].results[0].tasks[0].ensemble_accuracy"
    )
    forged.signed(run, server, files={
        name: digest
        for name, digest in manifest.parsed((run / manifest.FILE).read_bytes()).files.items()
        if name != manifest.PREDICTIONS
    })  # fmt: skip
    (run / manifest.PREDICTIONS).unlink()
    honest = _found(run, server=server.key)
    assert honest.failures == ()
    assert [each for each in honest.unchecked if "nothing was counted again" in each]


def test_a_refusal_that_a_server_calls_a_lost_reply_is_told(run: Path, server: Identity) -> None:
    """The attacker, the server, would hide that a policy forbade it; a lost reply looks the same."""
    lost = "missing: client bob did not answer"
    kept = [
        {**e, "reason": lost} if "reason" in e else e for e in forged.entries(run / receipts.FILE)
    ]
    forged.receipts(run, kept, lambda said: said["stages"][0]["refusals"][0].update(reason=lost))
    forged.signed(run, server)
    found = _found(run)
    assert found.failures == ()
    (line,) = [each for each in found.unchecked if "whether a reply was lost" in each]
    assert f'client bob entered "refused: {NEVER}", which the server notes as {lost!r}' in line


def test_a_server_cannot_say_that_a_ledger_ended_earlier(sums: Path) -> None:
    """The attacker, a server and a client together, would shorten the client's ledger."""
    server = key_store.identity(sums.parent / "nobody")
    made = manifest.parsed((sums / manifest.FILE).read_bytes())
    own = forged.entries(_own(sums, "ada"))
    short = {**made.clients["ada"], "entries": len(own) - 1, "head": own[-2]["hash"]}
    forged.signed(sums, server, clients={**made.clients, "ada": short})
    assert any("the closing of client 'ada'" in each for each in _failures(sums))


def test_a_server_that_does_not_ask_for_a_ledgers_end_is_told(run: Path, server: Identity) -> None:
    """The attacker, the server, would let a client cut its ledger, and `verify` would say nothing."""
    made = manifest.parsed((run / manifest.FILE).read_bytes())
    forged.signed(run, server, clients={**made.clients, "ada": {"reason": "missing: it rains"}})
    found = _found(run)
    assert found.failures == ()
    assert [each for each in found.unchecked if "ada: a cut at the end of its ledger" in each]
    forged.signed(run, server, clients={"bob": made.clients["bob"]})
    assert _failures(run) == ["manifest.json: does not name the clients that trust.json names"]


def test_a_manifest_of_another_run_is_found(run: Path, sums: Path, server: Identity) -> None:
    """The attacker would put the clean manifest of one run beside the figures of another."""
    shutil.copy(sums / manifest.FILE, run / manifest.FILE)
    found = _failures(run)
    assert any(each.startswith("manifest.json: is of run ") for each in found)
    assert any(each.startswith("outcome.json: is not the file") for each in found)


def test_a_manifest_names_no_file_outside_the_folder(run: Path, server: Identity) -> None:
    """The attacker would have `verify` read and compare any file of the user's."""
    made = manifest.parsed((run / manifest.FILE).read_bytes())
    files = {**made.files, "../../etc/passwd": "ab" * 32}
    forged.signed(run, server, files=files)
    assert _failures(run) == ["manifest.json: names a file that no run has: '../../etc/passwd'"]


# ---------------------------------------------------------------- a forger of everything


def test_a_run_that_is_signed_anew_never_says_pinned(run: Path, server: Identity) -> None:
    """The attacker, with keys of its own, would pass for the partners on the server's word."""
    forger = Identity.new()
    forged.signed(run, forger)
    found = _found(run)
    assert found.server is not None
    assert (found.server.key, found.server.pinned) == (forger.key, None)
    assert any("says server" in str(each) for each in found.failures), "the clients knew another"

    def pinned(said: Any) -> None:
        for each in said["ledger"]["trust"].values():
            each["pinned"] = True

    keys = json.loads((run / manifest.TRUST).read_text())
    for each in keys["clients"].values():
        each["pinned"] = True
    (run / manifest.TRUST).write_text(chain.canonical(keys) + "\n")
    forged.told(run, pinned)
    forged.signed(run, server)
    assert _failures(run) == ["trust.json: client 'ada': scenario.json does not pin its key"]


def test_a_forgers_own_scenario_pins_for_its_reader_alone(
    data: Path, tmp_path: Path, server: Identity
) -> None:
    """The attacker would pin its own keys in its own scenario, and seem to be pinned by yours."""
    own = key_store.identity(tmp_path / "server")
    out = _ran(tmp_path, data, {**SAID, "trust": {"server": own.key}})
    found = _found(out)
    assert found.server is not None
    assert (found.failures, found.server.pinned) == ((), SCENARIO)
    assert any("whether scenario.json is the one that you agreed to" in u for u in found.unchecked)
    assert _failures(out, server=server.key) == [
        f"manifest.json: the server: its key is {own.key}, not the one that it must be, {server.key}"
    ]


def test_the_pin_of_one_client_shows_another_server(run: Path) -> None:
    """The attacker would keep the clients' real entries, and be the server of their run."""
    ada = ClientStore(run / "clients" / "ada").identity.key
    shutil.rmtree(run / "clients")
    forger = Identity.new()
    forged.signed(run, forger)
    (found,) = _failures(run, ada=ada)
    assert found.startswith("manifest.json: the closing of client 'ada' says server 'ed25519:")


def test_without_a_pin_verify_says_whose_word_it_is(honest: Path, server: Identity) -> None:
    """The attacker would have a signature taken for a proof of who signed."""
    found = _found(honest)
    (line,) = [each for each in found.unchecked if each.startswith("who the server was")]
    assert server.key in line
    assert found.server is not None
    assert found.server.fingerprint in line
    assert not any("pinned by" in each for each in found.checked)
    assert any(each.startswith("who ada, bob were") for each in found.unchecked)


# ---------------------------------------------------------------- what is asked of clients


@pytest.fixture
def asked(data: Path, tmp_path: Path) -> Callable[..., Any]:
    """Ask ada how far its ledger goes; the reply's details."""
    scenario, numbers = tiny.scenario(tmp_path, data, **SAID), itertools.count(1)

    def ask(
        run: Any = "ab" * 16,
        payload: bytes = b"",
        hello: Identity | None = None,
        pin: str | None = None,
        **more: Any,
    ) -> Any:
        party = ClientHandler(scenario, scenario.seed, "ada", tmp_path / "ada", server_pin=pin)
        server = hello or Identity.new()
        if hello is not None:
            party.answer("hello", tiny.opening(party, run, hello), b"")
        body = signed(server, run, next(numbers), Ask("ada", "close", more, payload)).body
        said, sent = party.answer("close", body, payload)
        assert sent == b""
        return said

    return ask


def test_nobody_but_the_server_of_the_run_gets_the_end_of_a_ledger(
    asked: Callable[..., Any], tmp_path: Path
) -> None:
    """The attacker would learn how much a client released in runs of others."""
    server = Identity.new()
    for wrong, reason in (
        ({}, "no server has begun this run here"),
        ({"hello": server, "run": "cd" * 16, "pin": Identity.new().key}, "not the pinned one"),
        ({"hello": server, "stage": "one"}, "not one that neulig-fl makes"),
        ({"hello": server, "payload": b"x"}, "not one that neulig-fl makes"),
    ):
        with pytest.raises(ClientRefused, match=reason):
            asked(**wrong)
    with pytest.raises((ClientRefused, RunError)):
        asked(run=7)
    entries = ClientStore(tmp_path / "ada").entries()
    assert [each["event"] for each in entries] == ["refusal"] * 5


def test_the_end_of_a_ledger_tells_nothing_that_entries_do_not(
    asked: Callable[..., Any], tmp_path: Path
) -> None:
    """The attacker would get more than the number and the hash that every entry shows."""
    server, run = Identity.new(), "ab" * 16
    with pytest.raises(ClientRefused):
        asked(stage="one", hello=server)
    said = asked(hello=server)
    (last,) = ClientStore(tmp_path / "ada").entries()
    assert said.pop("signature")
    assert said == {
        "client": "ada", "run": run, "server": server.key, "entries": 1, "head": last["hash"]
    }  # fmt: skip
    again = asked(hello=server)
    key = ClientStore(tmp_path / "ada").identity.key
    assert closing.problem(again, "ada", run, server.key, key, last) is None
    assert ClientStore(tmp_path / "ada").entries() == [last], "asking leaves no entry"
