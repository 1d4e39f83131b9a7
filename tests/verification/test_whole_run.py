"""Verification: an honest run passes, and whatever was changed is named where it is (law 9)."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forged
import pytest
import tiny
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import InputError
from neulig_fl.ledger import chain, key_store, manifest, receipts
from neulig_fl.privacy.keys import Identity
from neulig_fl.study import runs
from neulig_fl.verification import findings
from neulig_fl.verification.findings import Findings
from neulig_fl.verification.whole_run import verify

Entries = list[chain.Entry]
SHARE = [{"kind": "offset-sum"}, {"kind": "features", "queries": ["evaluation"]}]
SAID: dict[str, Any] = {
    "clients": [
        {"name": "ada", "task": "first"},
        {"name": "bob", "task": "second", "policy": {"never": ["offset-sum"]}},
    ],
    "on_refusal": "continue",
    "stages": [{"name": "one", "share": SHARE}, {"name": "two", "share": [{"kind": "parameters"}]}],
}
"""Five releases and one refusal."""


def _ran(folder: Path, data: Path, said: dict[str, Any]) -> Path:
    """A run whose server keeps its keys, so that a test can be that server."""
    path = tiny.write(folder, data, **said)
    runs.run(path, engine="local", out=folder / "out", server_keys=folder / "server")
    return folder / "out"


@pytest.fixture(scope="module")
def server(honest: Path) -> Identity:
    """The honest run's server."""
    return key_store.identity(honest.parent / "server")


@pytest.fixture(scope="module")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest run's folder, of one seed; not to be changed."""
    return _ran(tmp_path_factory.mktemp("honest"), data, SAID)


@pytest.fixture(scope="module")
def small(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest run's folder with one release and one refusal."""
    stages = [{"name": "one", "share": SHARE[:1]}]
    return _ran(tmp_path_factory.mktemp("small"), data, SAID | {"stages": stages})


@pytest.fixture
def run(honest: Path, tmp_path: Path) -> Path:
    """A copy of the honest run."""
    return Path(shutil.copytree(honest, tmp_path / "run"))


def _lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True)


def _own(run: Path, name: str = "ada") -> Path:
    return run / "clients" / name / "ledger.jsonl"


def _failed(run: Path, **trust: str) -> str:
    """The first failure."""
    (found,) = verify(run, trust)
    assert not found.holds
    return str(found.failures[0]).removeprefix(f"{run}/")


# ---------------------------------------------------------------- honest runs


def test_an_honest_run_holds(honest: Path) -> None:
    """Without it every run would be called forged, and nobody would look any more."""
    (found,) = verify(honest)
    assert found.failures == ()
    assert found.holds
    report = json.loads((honest / "report.json").read_text())
    assert (found.entries, found.head) == (6, report["ledger"]["head"])
    assert [(c.name, c.signed, c.own, c.pinned) for c in found.clients] == [
        ("ada", 3, 3, None), ("bob", 2, 3, None)
    ]  # fmt: skip
    store = ClientStore(honest / "clients" / "ada")
    assert (found.clients[0].key, len(found.clients[0].fingerprint)) == (store.identity.key, 39)


def test_a_store_that_is_not_here_is_said_not_to_have_been_looked_at(run: Path) -> None:
    """Without it a server's folder alone would seem to have been checked against the clients'."""
    shutil.rmtree(run / "clients" / "bob")
    (found,) = verify(run)
    assert found.holds
    assert [(c.name, c.own) for c in found.clients] == [("ada", 3), ("bob", None)]


def test_every_seed_is_verified(data: Path, tmp_path: Path) -> None:
    """Without it the second seed's ledgers could be anything."""
    changes = {k: v for k, v in tiny.said(data, **SAID).items() if k != "seed"}
    path = tmp_path / "scenario.yaml"
    path.write_text(json.dumps({**changes, "seeds": [9, 10]}))
    tiny.runs.run(path, engine="local", out=tmp_path / "out")
    found = verify(tmp_path / "out")
    assert [each.folder.name for each in found] == ["seed-9", "seed-10", "out"]
    assert all(each.holds for each in found)
    assert len(verify(tmp_path / "out" / "seed-10")) == 1
    file = tmp_path / "out" / "seed-10" / receipts.FILE
    file.write_bytes(b"".join(_lines(file)[1:]))
    first, second, _ = verify(tmp_path / "out")
    assert first.holds
    assert [str(f.file) for f in second.failures[:1]] == [str(file)]


def test_entries_of_other_runs_are_left_alone(run: Path) -> None:
    """Without it a client that takes part in two runs could verify neither."""
    store = ClientStore(run / "clients" / "ada", "cd" * 16)
    of = ("time", "client", "stage", "group", "kind", "queries", "protection", "fraction")
    said = {key: store.entries()[1][key] for key in (*of, "expert", "data")}
    store.keep("12" * 16, b"x", 1, said)
    store.note_refusal({"client": "ada", "time": 1.0}, "not understood")
    (found,) = verify(run)
    assert found.failures == ()
    assert found.clients[0].own == 5


def test_a_run_after_a_rotation_holds(honest: Path, data: Path, tmp_path: Path) -> None:
    """Without it a ledger that two keys of one client signed would be called forged."""
    out = tmp_path / "out"
    shutil.copytree(honest / "clients", out / "clients")
    old = ClientStore(out / "clients" / "ada").identity.key
    new = key_store.rotate(out / "clients" / "ada" / "keys").key
    tiny.run(tmp_path, data, **SAID)
    for pin in (old, new):
        (found,) = verify(out, {"ada": pin})
        assert found.failures == ()
        assert found.clients[0].own == 6
    entries = ClientStore(out / "clients" / "ada").entries()
    assert [e["key"] for e in entries] == [old] * 3 + [new] * 3
    assert [e["event"] for e in entries[3:]] == ["repeat"] * 3


def _texts(secret: bytes) -> list[bytes]:
    """How a secret may stand in a file."""
    coded = base64.b64encode(secret).rstrip(b"=")
    return [secret, secret.hex().encode(), coded, coded.translate(bytes.maketrans(b"+/", b"-_"))]


def test_no_secret_is_in_any_file_but_its_own(honest: Path) -> None:
    """Without it a log, a report or a receipt could give a client's key away."""
    secrets = [p for p in honest.rglob("keys/*") if p.suffix in (".pem", ".key")]
    assert len(secrets) == 6
    found = []
    for file in secrets:
        content = file.read_bytes()
        if file.suffix == ".pem":
            key: Any = load_pem_private_key(content, None)
            content = key.private_bytes_raw()
        found += _texts(content)
    others = [p for p in honest.rglob("*") if p.is_file() and p not in secrets]
    assert {"report.json", "receipts.jsonl", "trust.json", "ledger.jsonl"} <= {
        p.name for p in others
    }
    for path in others:
        content = path.read_bytes()
        assert not [text for text in found if text in content], path


# ---------------------------------------------------------------- any byte, any entry


def _files(run: Path) -> list[Path]:
    server = [run / name for name in (receipts.FILE, receipts.TRUST_FILE, manifest.FILE)]
    return [*server, _own(run), _own(run, "bob")]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_any_byte_that_is_changed_is_found(number: int, small: Path, tmp_path: Path) -> None:
    """Without it a ledger could be edited where nobody looks (law 9)."""
    run = Path(shutil.copytree(small, tmp_path / "run"))
    file = _files(run)[number]
    content = file.read_bytes()
    before = verify(run)
    assert before[0].holds
    for at in range(len(content)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        (found,) = verify(run)
        assert not found.holds, (file.name, at)
        # A client's name that was changed among the keys is missed elsewhere.
        assert found.failures[0].file == file or file.name == receipts.TRUST_FILE, (file.name, at)
    file.write_bytes(content)
    assert verify(run) == before


@pytest.mark.parametrize("number", [0, 3, 4])
def test_entries_dropped_doubled_swapped_or_cut_are_found(number: int, run: Path) -> None:
    """Without it a release could be taken out of the books (law 9)."""
    file = _files(run)[number]
    lines = _lines(file)
    changes: Iterator[tuple[str, list[bytes]]] = iter(
        [
            *((f"drop {i}", lines[:i] + lines[i + 1 :]) for i in range(len(lines))),
            *((f"double {i}", lines[: i + 1] + lines[i:]) for i in range(len(lines))),
            *(
                (f"swap {i}", [*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]])
                for i in range(len(lines) - 1)
            ),
            *((f"cut {i}", lines[:i]) for i in range(len(lines))),
            ("half a line", [*lines[:-1], lines[-1][: len(lines[-1]) // 2]]),
            ("no end", [*lines[:-1], lines[-1][:-1]]),
            ("backwards", lines[::-1]),
        ]
    )
    for what, changed in changes:
        file.write_bytes(b"".join(changed))
        (found,) = verify(run)
        assert not found.holds, what
        first = found.failures[0]
        assert first.file in (file, run / "report.json"), (what, first)


def test_the_first_entry_that_fails_is_named(run: Path) -> None:
    """Without it an auditor would have to search for what was changed."""
    lines = _lines(_own(run, "bob"))
    _own(run, "bob").write_bytes(lines[0] + lines[1].replace(b'"rows":', b'"rows":1') + lines[2])
    assert _failed(run) == (
        "clients/bob/ledger.jsonl, entry 1: was changed: its hash is not that of what it says"
    )


# ---------------------------------------------------------------- forgers who know the format


def test_a_ledger_of_another_client_is_not_ones_own(run: Path) -> None:
    """Without it a client could show its neighbour's clean ledger."""
    for one, other in (("ada", "bob"), ("bob", "ada")):
        content = _own(run, one).read_bytes()
        _own(run, one).write_bytes(_own(run, other).read_bytes())
        found = _failed(run)
        assert found.startswith(f"clients/{one}/ledger.jsonl, entry 0: is signed with another key")
        _own(run, one).write_bytes(content)
    renamed = [{**e, "client": "bob"} for e in forged.entries(_own(run))]
    bob = ClientStore(run / "clients" / "bob").identity
    _own(run, "bob").write_bytes(forged.chained(renamed, bob))
    assert "is not the entry that the server has in receipt" in _failed(run)
    foreign = ClientStore(run / "clients" / "ada").identity
    _own(run).write_bytes(forged.chained(forged.entries(_own(run, "bob")), foreign))
    assert any("is of client 'bob'" in f.what for f in verify(run)[0].failures)


def test_a_ledger_that_somebody_else_rewrote_is_found(run: Path) -> None:
    """Without it hashes alone would have to be trusted."""
    changed = [{**e, "rows": 1} for e in forged.entries(_own(run))]
    _own(run).write_bytes(forged.chained(changed, Identity.new()))
    assert "entry 0: is signed with another key" in _failed(run)
    unsigned = forged.chained(changed)
    _own(run).write_bytes(unsigned)
    assert "entry 0: is signed with another key, None" in _failed(run)


def test_a_client_cannot_deny_what_it_signed(run: Path) -> None:
    """Without it a client could rewrite its own past with its own key."""
    ada = ClientStore(run / "clients" / "ada").identity
    entries = forged.entries(_own(run))
    _own(run).write_bytes(forged.chained(entries[:2], ada))
    assert _failed(run).startswith(
        "clients/ada/ledger.jsonl, entry 2: is not the entry that the server has in receipt"
    )
    _own(run).unlink()
    assert "entry 0: is not the entry that the server has in receipt 0" in _failed(run)
    _own(run).write_bytes(forged.chained([entries[0], {**entries[1], "rows": 1}, entries[2]], ada))
    assert "entry 1: is not the entry that the server has" in _failed(run)


def test_a_server_cannot_say_something_else_than_was_signed(run: Path) -> None:
    """Without it a server could report fewer bytes than it took."""
    entries = forged.entries(run / receipts.FILE)
    (run / receipts.FILE).write_bytes(forged.chained([{**entries[0], "bytes": 4}, *entries[1:]]))
    assert _failed(run).startswith("report.json: of the ledger it says head ")
    at = next(i for i, e in enumerate(entries) if "entry" in e)
    for fact in ("client", "stage", "group", "kind", "queries", "protection", "rows", "bytes"):
        changed = {**entries[at], fact: "bob" if fact == "client" else "other"}
        forged.receipts(run, [*entries[:at], changed, *entries[at + 1 :]])
        assert _failed(run).startswith(f"receipts.jsonl, entry {at}: the entry that client")
    forged.receipts(run, [*entries[:at], {**entries[at], "epsilon": 1.0}, *entries[at + 1 :]])
    assert "signed says epsilon 'None' where '1.0' is right" in _failed(run)
    forged.receipts(run, [*entries[:at], {**entries[at], "client": "eve"}, *entries[at + 1 :]])
    assert "is of client 'eve', who never said hello" in _failed(run)
    bare = {k: v for k, v in entries[at].items() if k != "entry"}
    forged.receipts(run, [*entries[:at], bare, *entries[at + 1 :]])
    assert "holds neither the client's signed entry nor a reason" in _failed(run)
    forged.receipts(run, [*entries[:at], {**entries[at], "entry": None}, *entries[at + 1 :]])
    assert "holds no signed entry of the client" in _failed(run)


def test_a_server_cannot_use_an_entry_twice_or_from_another_run(run: Path) -> None:
    """Without it one signed release could stand for another one."""
    entries = forged.entries(run / receipts.FILE)
    forged.receipts(run, [*entries, entries[-2]])
    assert "its ledger was forked" in _failed(run)
    ada = ClientStore(run / "clients" / "ada").identity
    at = next(i for i, e in enumerate(entries) if e["client"] == "ada")
    body = {k: v for k, v in entries[at]["entry"].items() if k not in ("hash", "signature")}
    other = chain.extended([], {**body, "run": "cd" * 16}, ada)
    forged.receipts(run, [*entries[:at], {**entries[at], "entry": other}, *entries[at + 1 :]])
    assert "says run 'cdcd" in _failed(run)


def test_a_release_that_the_server_hides_is_in_the_clients_ledger(run: Path) -> None:
    """Without it a server could take parameters and report outputs only."""
    entries = forged.entries(run / receipts.FILE)
    kept = [e for e in entries if (e["client"], e["kind"]) != ("ada", "parameters")]

    def hide(report: Any) -> None:
        two = report["stages"][1]
        two["releases"] = [r for r in two["releases"] if r["client"] != "ada"]

    forged.receipts(run, kept, hide)
    assert _failed(run) == (
        "clients/ada/ledger.jsonl, entry 2: is a release that no receipt tells of"
    )


def test_refusals_agree_on_both_sides(run: Path) -> None:
    """Without it a server could hide that a client refused, or make a refusal up."""
    entries = forged.entries(run / receipts.FILE)

    def no_refusals(report: Any) -> None:
        report["stages"][0]["refusals"] = []

    forged.receipts(run, [e for e in entries if "reason" not in e], no_refusals)
    assert _failed(run) == (
        "clients/bob/ledger.jsonl, entry 0: is a refusal that no receipt tells of"
    )

    def one_more(report: Any) -> None:
        made_up = {"client": "ada", "kind": "parameters", "reason": "refused: no"}
        report["stages"][1]["refusals"] = [made_up]
        report["stages"][0]["refusals"] = [
            {k: e[k] for k in ("client", "kind", "reason")} for e in entries if "reason" in e
        ]

    asked = {"stage": "two", "group": "A", "queries": None, "client": "ada", "kind": "parameters"}
    forged.receipts(run, [*entries, {**asked, "reason": "refused: no"}], one_more)
    assert _failed(run) == (
        "clients/ada/ledger.jsonl: does not hold the refusal of parameters in stage two that a "
        "receipt tells of"
    )


def test_a_release_that_did_not_arrive_is_no_forgery(run: Path, server: Identity) -> None:
    """Without it a lost reply would make an honest run fail."""
    entries = forged.entries(run / receipts.FILE)
    lost = next(e for e in entries if (e["client"], e["kind"]) == ("ada", "parameters"))
    noted = {k: lost[k] for k in ("client", "stage", "group", "kind", "queries")}
    reason = "missing: client ada did not answer"
    changed = [{**noted, "reason": reason} if e is lost else e for e in entries]

    def refused(report: Any) -> None:
        two = report["stages"][1]
        two["releases"] = [r for r in two["releases"] if r["client"] != "ada"]
        two["refusals"] = [{"client": "ada", "kind": "parameters", "reason": reason}]

    forged.receipts(run, changed, refused)
    forged.signed(run, server)
    (found,) = verify(run)
    assert found.failures == ()


# ---------------------------------------------------------------- the report and the keys


def _edit(run: Path, edit: Callable[[Any], Any]) -> str:
    file = run / "report.json"
    content = file.read_text()
    report = json.loads(content)
    edit(report)
    file.write_text(json.dumps(report))
    found = _failed(run)
    file.write_text(content)
    return found


def test_the_reports_figures_are_the_receipts(run: Path) -> None:
    """Without it the report, which is what people read, could say anything."""
    for fact, value in (
        ("bytes", 1), ("rows", 2), ("sha256", "ef" * 32), ("client", "bob"), ("kind", "logits"),
        ("queries", "pool"), ("protection", "sealed"), ("epsilon", 0.0),
    ):  # fmt: skip
        change = {fact: value}
        found = _edit(run, lambda r, c=change: r["stages"][0]["releases"][0].update(c))
        assert found.startswith(f"report.json: releases 0 says {fact} {str(value)[:60]!r} where"), (
            fact
        )
        assert found.endswith("is right, by entry 0 of the receipts"), fact
    assert "tells of 4 releases where the receipts hold 5" in _edit(
        run, lambda r: r["stages"][1]["releases"].pop()
    )
    assert "tells of 6 releases where the receipts hold 5" in _edit(
        run, lambda r: r["stages"][1]["releases"].append(r["stages"][1]["releases"][1])
    )
    assert "refusals 0 says reason" in _edit(
        run, lambda r: r["stages"][0]["refusals"][0].update(reason="refused: bob is ill")
    )
    assert "tells of 0 refusals" in _edit(run, lambda r: r["stages"][0]["refusals"].clear())
    assert "releases 0 says" in _edit(run, lambda r: r["stages"][0].update(name="three"))
    assert "releases 0 says" in _edit(run, lambda r: r["stages"].reverse())
    for key, value in (("entries", 5), ("head", "ef" * 32), ("verified", False), ("head", None)):
        found = _edit(run, lambda r, c={key: value}: r["ledger"].update(c))
        assert found.startswith("report.json: of the ledger it says "), key
    assert _edit(run, lambda r: r.pop("ledger")).startswith("report.json: of the ledger it says")
    assert "tells of 0 releases" in _edit(run, lambda r: r.pop("stages"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ledger": NaN}', "[" * 100_000, "\xff"])
def test_a_report_that_cannot_be_read_fails(content: str, run: Path) -> None:
    """Without it a broken report would be a traceback."""
    (run / "report.json").write_bytes(content.encode("latin-1"))
    assert _failed(run).startswith("report.json: ")


def test_files_that_are_gone_fail(run: Path) -> None:
    """Without it deleting the evidence would be enough."""
    for name in (receipts.FILE, receipts.TRUST_FILE):
        content = (run / name).read_bytes()
        (run / name).unlink()
        assert _failed(run).startswith(f"{name}: is not there")
        (run / name).write_bytes(content)


def _trust(run: Path, edit: Callable[[Any], Any]) -> str:
    file = run / receipts.TRUST_FILE
    content = file.read_text()
    said = json.loads(content)
    edit(said["clients"])
    file.write_text(chain.canonical(said) + "\n")
    found = _failed(run)
    file.write_text(content)
    return found


def test_the_keys_are_those_that_signed(run: Path, server: Identity) -> None:
    """Without it another key could be put in a client's place afterwards."""
    forged.told(run, lambda said: said["ledger"].pop("trust"))  # it would tell before signatures do
    forged.signed(run, server)
    other = Identity.new()
    fits = {**other.public.record(), "fingerprint": findings.fingerprint(other.key)}
    found = _trust(run, lambda c: c.update(ada={**fits, "pinned": False}))
    assert found.startswith("receipts.jsonl, entry 0: the entry that client 'ada' signed is signed")
    assert "its fingerprint is not its key's" in _trust(
        run, lambda c: c["ada"].update(fingerprint="0000")
    )
    assert "client 'bob': is not described" in _trust(run, lambda c: c.update(bob=7))
    assert "client 'ada': is not described" in _trust(run, lambda c: c["ada"].pop("pinned"))
    assert "is no client's name" in _trust(run, lambda c: c.update({"../ada": c["ada"]}))
    assert "who never said hello" in _trust(run, lambda c: c.pop("ada"))
    shutil.rmtree(run / "clients" / "ada")
    (run / "clients" / "eve").mkdir()
    assert verify(run)[0].holds
    _own(run, "eve").write_bytes(_own(run, "bob").read_bytes())
    assert _failed(run) == (
        "clients/eve/ledger.jsonl, entry 0: is of this run, and its owner never said hello"
    )


def test_what_the_report_says_of_the_keys_counts(run: Path) -> None:
    """Without it a run that trusted on first use could say that its keys were pinned."""
    (found,) = verify(run)
    trust = {c.name: {"key": c.key, "pinned": bool(c.pinned)} for c in found.clients}
    said = {"run": json.loads((run / receipts.TRUST_FILE).read_text())["run"], "trust": trust}
    file = run / "report.json"
    report = json.loads(file.read_text())
    report["ledger"] |= said
    file.write_text(json.dumps(report))
    assert verify(run) == [found]
    flipped = {**trust, "ada": {**trust["ada"], "pinned": True}}
    assert "of the ledger it says trust" in _edit(run, lambda r: r["ledger"].update(trust=flipped))
    assert "of the ledger it says run" in _edit(run, lambda r: r["ledger"].update(run="cd" * 16))


def test_whoever_verifies_can_say_which_key_it_must_be(run: Path) -> None:
    """Without it a forger of everything could not be told from the client."""
    key = ClientStore(run / "clients" / "ada").identity.key
    (found,) = verify(run, {"ada": key})
    assert [(c.name, c.pinned) for c in found.clients] == [("ada", findings.OWN), ("bob", None)]
    other = Identity.new().key
    assert _failed(run, ada=other) == (
        f"trust.json: client 'ada': its key is {key}, not the one that it must be, {other}"
    )
    with pytest.raises(InputError, match=r"no client is called 'adda' in .*did you mean ada"):
        verify(run, {"adda": key})
    with pytest.raises(InputError, match="the key pinned for client 'ada' is 'north'"):
        verify(run, {"ada": "north"})


def test_a_folder_without_a_run_is_bad_input(tmp_path: Path) -> None:
    """Without it an empty folder would pass."""
    with pytest.raises(InputError, match=r"holds neither report\.json nor manifest\.json"):
        verify(tmp_path)


def test_findings_of_a_failed_run_do_not_blame_others(run: Path) -> None:
    """Without it one changed receipt would make every client look like a forger."""
    lines = _lines(run / receipts.FILE)
    (run / receipts.FILE).write_bytes(b"".join([lines[0], lines[2], *lines[3:]]))
    (found,) = verify(run)
    assert isinstance(found, Findings)
    assert [f.file.name for f in found.failures] == [receipts.FILE]
    assert found.failures[0].index == 1


def test_a_pipe_in_a_runs_folder_is_named(tmp_path: Path) -> None:
    """Attack: whoever checks a run that somebody sent waits for ever."""
    (tmp_path / "clients").mkdir()
    os.mkfifo(tmp_path / "clients" / "report.md")
    with pytest.raises(InputError, match=r"report\.md: is neither a file nor a folder"):
        verify(tmp_path)


def test_a_folder_is_one_runs_or_several_seeds(honest: Path, tmp_path: Path) -> None:
    """Attack: copy one seed's files up, so that the others' and the summary are not looked at."""
    shutil.copytree(honest, tmp_path / "run")
    shutil.copytree(honest, tmp_path / "run" / "seed-2")
    with pytest.raises(InputError, match="holds a run's files beside those of seeds"):
        verify(tmp_path / "run")


@pytest.mark.parametrize("place", ["clients/ada/reference.json", "clients/bob/ledger.jsonl"])
def test_a_pipe_behind_a_linked_folder_is_not_waited_for(
    place: str, run: Path, tmp_path: Path
) -> None:
    """Attack: a link leads to a folder that is not searched for pipes, as `--stores` does."""
    file = run / place
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    (run / "clients").rename(tmp_path / "elsewhere")
    (run / "clients").symlink_to(tmp_path / "elsewhere")
    if file.name == "ledger.jsonl":
        assert _failed(run)
        return
    for stores in (None, tmp_path / "elsewhere"):
        with pytest.raises(InputError, match=r"reference\.json: is a pipe or a device"):
            verify(run, stores=stores)


def test_a_preset_that_is_a_pipe_is_not_waited_for(
    run: Path, server: Identity, tmp_path: Path
) -> None:
    """Attack: a server signs a scenario whose policy is a pipe on the reader's own machine."""
    os.mkfifo(tmp_path / "pipe.yaml")
    said = json.loads((run / manifest.SCENARIO).read_text())
    said["clients"][0]["policy"]["preset"] = str(tmp_path / "pipe.yaml")
    (run / manifest.SCENARIO).write_text(json.dumps(said))
    for name in ("scenario.yaml", "given.yaml"):
        (run / name).unlink()
    forged.signed(run, server)
    assert all(each.file.name == "report.json" for each in verify(run)[0].failures)


TORN = b'{"account":null,"adj'


def test_a_torn_last_line_is_a_note(run: Path) -> None:
    """Without it a client that was killed while it wrote could never be verified again."""
    file = run / "clients" / "bob" / "ledger.jsonl"
    file.write_bytes(file.read_bytes() + TORN)
    (found,) = verify(run)
    assert found.failures == ()
    assert any("client bob: the last line of its ledger" in each for each in found.unchecked)
    assert any(each.startswith("report.html: draw it again") for each in found.unchecked)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_torn_line_hides_no_cut(left: int, run: Path) -> None:
    """Attack: a client takes entries away, and half a line is to excuse it."""
    file = run / "clients" / "ada" / "ledger.jsonl"
    lines = _lines(file)
    assert len(lines) == 3
    file.write_bytes(b"".join(lines[:left]) + lines[left][:-1])
    (failure,) = verify(run)[0].failures
    assert (failure.file, failure.index) == (file, left)


def test_a_client_that_left_the_run_by_an_odd_entry_is_the_one_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: a client's odd entry ended the whole run, or had `verify` accuse the server."""
    keep = ClientStore.keep

    def lying(self: Any, mark: str, payload: bytes, rows: int, fact: Any, *wrap: Any) -> Any:
        odd = {"expert": [1]} if fact["client"] == "ada" and fact["kind"] == "features" else {}
        return keep(self, mark, payload, rows, {**fact, **odd}, *wrap)

    with monkeypatch.context() as patch:
        patch.setattr(ClientStore, "keep", lying)
        run = _ran(tmp_path, data, SAID)
    (stage, _) = json.loads((run / "report.json").read_text())["stages"]
    (refusal,) = [each for each in stage["refusals"] if each["client"] == "ada"]
    assert "its signed entry says expert [1]; allowed: 32 hexadecimal" in refusal["reason"]
    (failure,) = verify(run)[0].failures
    assert failure.file == run / "clients" / "ada" / "ledger.jsonl"
    shutil.rmtree(run / "clients")
    assert verify(run)[0].failures == ()
