"""A search for secrets after real runs: no key, mask, share, noise or record where it may not be.

Every protection of the library is exercised. Each way in which a secret could show is planted once,
to see that the search finds it.
"""

from __future__ import annotations

import base64
import json
import logging
import shutil
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import secret_search
import tiny
import torch
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from secret_search import Secret, Watch

from neulig_fl.client import experts
from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.secagg.state import SumInProgress
from neulig_fl.client.store import Released
from neulig_fl.config.scenario import load_resolved
from neulig_fl.config.values import SERVER, SUMS
from neulig_fl.core import variants
from neulig_fl.core.errors import NeuligError
from neulig_fl.ledger.handshake import RUN
from neulig_fl.privacy import discrete_gaussian, sealing
from neulig_fl.privacy.keys import Identity, encoded
from neulig_fl.privacy.secagg import shares
from neulig_fl.report import Report
from neulig_fl.runtime.engines import _local_grid
from neulig_fl.study import runs

NOISE = {"clip": 2.0, "noise_multiplier": 0.5, "delta": 1.0e-5}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "sealed": {},
    "gaussian": NOISE,
    "secure-aggregation": {},
}
"""Options of every protection."""

PROTECTIONS = variants.names("neulig_fl.records.protections")
ON_ITS_WAY = frozenset({"sealed", "secure-aggregation"})
"""Protections under which nobody reads a client's record on its way."""


def scenario(protection: str) -> dict[str, Any]:
    """Features and parameters under one protection; sums cannot train a Portland."""
    said = {"protection": {protection: SETTINGS[protection]}}
    pool, evaluation = (
        {"kind": "features", "queries": [queries], **said} for queries in ("pool", "evaluation")
    )
    models = [evaluation, {"kind": "parameters", **said}]
    training = {"name": "outputs", "share": [pool], "run": ["train-portland"]}
    merging = {"name": "models", "share": models, "run": ["merge"]}
    return {
        "portland": {"epochs": 1, "batch_size": 4, "alignment": "none"},
        "stages": [merging] if protection in SUMS else [training, merging],
    }


@dataclass(frozen=True)
class Ran:
    """A run with everything that it said.

    Args:
        report: the run's.
        folder: the run's.
        watch: what was noted on the way.
        told: the log, the standard output and the standard error.
        messages: all that travelled, as it travelled.
    """

    report: Report
    folder: Path
    watch: Watch
    told: dict[str, bytes]
    messages: bytes

    @property
    def secrets(self) -> list[Secret]:
        """Everything that nobody but its owner may see."""
        return [*self.watch.secrets, *secret_search.stored(self.folder)]

    @property
    def places(self) -> dict[str, bytes]:
        """Everywhere that somebody else looks, but for the messages."""
        written = secret_search.files(self.folder, secret_search.STATE_FILES)
        return {**written, **self.told, **self.watch.places}


Run = Callable[..., Ran]


@contextmanager
def _debugging() -> Iterator[None]:
    """Have every logger of the library say all that it can; the engine raises the first one's."""
    loggers = [logging.getLogger(name) for name in secret_search.modules()]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    loggers[0].debug("what is logged is watched")  # a run itself may have nothing to say
    yield
    for logger in loggers:
        logger.setLevel(logging.NOTSET)


@pytest.fixture
def ran(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Run:
    """Runs a scenario under watch, with everything logged that can be."""

    def run(protection: str = "sealed", **changes: Any) -> Ran:
        messages: list[bytes] = []
        honest = _local_grid._buffers

        def noted(message: Any) -> Any:
            buffers = honest(message)
            messages.append(repr(message.content if message.has_content() else "").encode())
            messages.extend(buffers.values())
            return buffers

        with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG), _debugging():
            patch.setattr(_local_grid, "_buffers", noted)
            watching = secret_search.watch(patch)
            path = tiny.write(tmp_path, data, **{**scenario(protection), **changes})
            report = runs.run(path, engine="local", out=tmp_path / "out", show=print)
        out, err = capfd.readouterr()
        told = {"the log": caplog.text, "standard output": out, "standard error": err}
        return Ran(
            report,
            tmp_path / "out",
            watching,
            {place: text.encode() for place, text in told.items()},
            b"\n".join(messages),
        )

    return run


# ---------------------------------------------------------------- the search finds nothing


def test_every_protection_is_exercised() -> None:
    """Without it a new protection could write its keys into a log unseen."""
    assert sorted(SETTINGS) == PROTECTIONS


@pytest.mark.slow
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_no_secret_shows_anywhere(protection: str, ran: Run) -> None:
    """Without it a log, a report, a receipt, an error or a repr could give a client away."""
    run = ran(protection)
    left = [r for r in tiny.releases(run.report) if r["protection"] == protection]
    assert {r["kind"] for r in left} == {"features", "parameters"}
    assert {r["client"] for r in left} == set(tiny.CLIENTS)
    _require_kinds(run.secrets, protection)
    places = run.places
    assert {"report.json", "report.md", "receipts.jsonl", "progress.jsonl"} <= set(places)
    assert all(places[name] for name in ("the log", "standard output", "repr of Released"))
    assert secret_search.found(run.secrets, places) == []


def _require_kinds(secrets: list[Secret], protection: str) -> None:
    """What a run under this protection must have made, so that the search looks for something."""
    names = " ".join(secret.name for secret in secrets)
    wanted = ["signing.pem", "agreement.pem", "store.key", "record"]
    wanted += {
        "sealed": ["sealing key and nonce"],
        "gaussian": ["noise"],
        "secure-aggregation": [
            "seed",
            "key of a sum",
            "share of bob",
            "mask seed",
            "self seed",
            "self mask",
            "pair mask",
        ],
    }.get(protection, [])
    assert [each for each in wanted if each not in names] == []


@pytest.mark.slow
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_no_key_and_no_hidden_record_is_in_a_message(protection: str, ran: Run) -> None:
    """Without it the network, or the server, would get what only its owner may have."""
    run = ran(protection)
    inside = {"the messages": run.messages}
    kept = (
        "keys/", "sealing key", "noise", "mask seed", "self seed", "seed", "key of a sum",
        "mask key", "self mask", "pair mask",
    )  # fmt: skip
    hidden = (*kept, "record") if protection in ON_ITS_WAY else kept
    secret = [s for s in run.secrets if any(word in s.name for word in hidden)]
    assert secret_search.found(secret, inside) == []
    if protection == "none":  # so that the search looks in the right place
        records = [s for s in run.secrets if s.name.startswith("record")]
        assert secret_search.found(records, inside)


@pytest.mark.slow
def test_training_images_do_not_show(ran: Run) -> None:
    """Without it a client's training images, which others answer, would stand in a debug log."""
    shares = [{"kind": "inputs"}, {"kind": "features", "queries": ["train"]}]
    run = ran("none", stages=[{"name": "training", "share": shares}])
    left = {(r["kind"], r["client"]) for r in tiny.releases(run.report)}
    assert len(left) == 2 * len(tiny.CLIENTS)
    images = [s for s in run.secrets if s.name == "record images"]
    assert len(images) == len(tiny.CLIENTS)
    assert secret_search.found(images, {"the messages": run.messages})
    assert secret_search.found(run.secrets, run.places) == []


@pytest.mark.slow
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_stores_are_their_owners_alone(protection: str, ran: Run) -> None:
    """Without it another user of the client's machine could read its keys and records."""
    folder = ran(protection).folder / "clients"
    for name in tiny.CLIENTS:
        store = folder / name
        assert _mode(store) == 0o700
        secret = [p for p in store.rglob("*") if p.is_file() and _holds_a_secret(p)]
        assert {p.suffix for p in secret} >= {".pem", ".key"}
        for path in secret:
            assert _mode(path) == 0o600, path.relative_to(folder)
        assert _mode(store / "keys") == 0o700


def _holds_a_secret(path: Path) -> bool:
    """Keys, records and the state of a sum."""
    return path.suffix in (".pem", ".key", ".bin") or path.name in secret_search.STATE_FILES


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------- errors


def _broken_key(store: Path) -> None:
    file = store / "keys" / "signing.pem"
    file.write_bytes(file.read_bytes().replace(b"PRIVATE", b"PRIVATF"))


def _broken_ledger(store: Path) -> None:
    file = store / "ledger.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"kind"', b'"kine"', 1))


def _readable_key(store: Path) -> None:
    (store / "keys" / "agreement.pem").chmod(0o644)


def _cut_secret(store: Path) -> None:
    file = store / "keys" / "store.key"
    file.write_bytes(file.read_bytes()[:20])


BREAKS: dict[str, Callable[[Path], None]] = {
    "a key that is none": _broken_key,
    "a key that others can read": _readable_key,
    "a damaged ledger": _broken_ledger,
    "a secret that was cut": _cut_secret,
}

STRANGE: dict[str, dict[str, Any]] = {
    "a kind that is not shared": {"kind": "logits", "queries": "pool"},
    "a kind that is none": {"kind": "gradients"},
    "another query set": {"queries": "train"},
    "another protection": {"protection": "none"},
    "a stage that is none": {"stage": "nowhere"},
    "an unknown key": {"weights": [1.0]},
    "a fraction too large": {"fraction": 2.0},
}


def _raised(party: ClientHandler, body: dict[str, Any], action: str = "release") -> str:
    """What a client's answer raises, all of it: texts, causes, arguments, the traceback."""
    with pytest.raises(NeuligError) as caught:
        tiny.say(party, action, body)
    told = [*traceback.format_exception(caught.value), repr(caught.value.__dict__)]
    error: BaseException | None = caught.value
    while error is not None:
        told.append(repr(error.args))
        error = error.__cause__ or error.__context__
    return "\n".join(told)


@pytest.mark.slow
def test_no_refusal_and_no_failure_tells_a_secret(ran: Run, tmp_path: Path) -> None:
    """Without it a client could be made to show its keys or records by making it fail."""
    run = ran("sealed")
    secrets, store = run.secrets, run.folder / "clients" / "ada"
    resolved = load_resolved(run.folder / "scenario.json")
    latest = json.loads((run.folder / "trust.json").read_text())[RUN]
    ada = ClientHandler(resolved, resolved.seed, "ada", store)
    body = {
        "stage": "models", "group": "A", "kind": "parameters", "protection": "sealed", RUN: latest
    }  # fmt: skip
    told = {name: _raised(ada, {**body, **change}) for name, change in STRANGE.items()}
    told["another run"] = _raised(ada, {**body, RUN: "ab" * 16})
    other = {RUN: latest, SERVER: Identity.new().public.record()}
    told["another server"] = _raised(ada, other, "hello")
    pinned = replace(ada, server_pin=Identity.new().key)
    told["a server that is not the pinned one"] = _raised(pinned, body)
    for name, change in BREAKS.items():
        copy = Path(shutil.copytree(store, tmp_path / name))
        change(copy)
        told[name] = _raised(replace(ada, root=copy), body)
    assert secret_search.found(secrets, {k: v.encode() for k, v in told.items()}) == []


@pytest.mark.slow
def test_no_failed_sum_tells_a_secret(ran: Run, tmp_path: Path) -> None:
    """Without it a server could have a seed or a share shown by a message that does not fit."""
    run = ran("secure-aggregation")
    secrets, store = run.secrets, run.folder / "clients" / "ada"
    resolved = load_resolved(run.folder / "scenario.json")
    latest = json.loads((run.folder / "trust.json").read_text())[RUN]
    ada = ClientHandler(resolved, resolved.seed, "ada", store)
    (file,) = [path for path in store.iterdir() if path.name in secret_search.STATE_FILES]
    number = SumInProgress.from_bytes(file.read_bytes()).asked.round
    message = {RUN: latest, "round": number, "message": "00" * 40}
    told = {
        f"the step {step} again": _raised(ada, {**message, "step": step, **more}, "sum")
        for step, more in {"share": {"identities": {}}, "mask": {}, "confirm": {}}.items()
    }
    told["another round"] = _raised(ada, {**message, "step": "mask", "round": "ab" * 16}, "sum")
    told["no step"] = _raised(ada, {**message, "step": "more"}, "sum")
    for kept in (0, 30, len(file.read_bytes()) - 50):
        copy = Path(shutil.copytree(store, tmp_path / f"first {kept}"))
        (copy / file.name).write_bytes(file.read_bytes()[:kept])
        damaged = replace(ada, root=copy)
        told[f"a state cut at {kept}"] = _raised(damaged, {**message, "step": "reveal"}, "sum")
    assert secret_search.found(secrets, {k: v.encode() for k, v in told.items()}) == []


def test_a_record_that_is_not_finite_is_not_shown(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it one NaN would bring the rest of an expert into an error's text."""
    said = tiny.scenario(tmp_path, data, **scenario("none"))
    ada = ClientHandler(said, said.seed, "ada", tmp_path / "ada")
    encoder, _ = ada.encoder("A")
    first = next(iter(encoder.parameters()))
    with torch.no_grad():
        first.view(-1)[0] = torch.nan
    monkeypatch.setattr(experts, "obtain", lambda *_: (encoder, False))
    body = {"stage": "models", "group": "A", "kind": "parameters"}
    told = _raised(ada, {**body, RUN: "ab" * 16})
    assert "not finite" in told
    state = encoder.state_dict().items()
    secrets = [Secret(name, value.numpy().tobytes(), "<f4") for name, value in state]
    assert secret_search.found(secrets, {"the error": told.encode()}) == []


# ---------------------------------------------------------------- the search would find it


ONE = {"name": "models", "share": [{"kind": "parameters", "protection": "sealed"}]}
"""A stage that takes no more than it needs."""


def _record(party: ClientHandler) -> bytes:
    """A record of the client's, as it lies in its store."""
    return max((party.root / "releases").glob("*.bin")).read_bytes()


def _key(party: ClientHandler, name: str = "signing") -> bytes:
    pem = (party.root / "keys" / f"{name}.pem").read_bytes()
    key: Any = load_pem_private_key(pem, None)
    return bytes(key.private_bytes_raw())


def _run_folder(party: ClientHandler) -> Path:
    return party.root.parent.parent


def _to_file(
    name: str, content: Callable[[ClientHandler], bytes]
) -> Callable[[ClientHandler], None]:
    return lambda party: (_run_folder(party) / name).write_bytes(content(party)) and None


def _numbers(party: ClientHandler) -> list[float]:
    return np.frombuffer(_record(party), "<f4").astype(float).tolist()  # type: ignore[no-any-return]


def _log(text: Callable[[ClientHandler], object]) -> Callable[[ClientHandler], None]:
    return lambda party: logging.getLogger("neulig_fl.client.handler").debug("made %s", text(party))


PLANTS: dict[str, tuple[str, Callable[[ClientHandler], Any]]] = {
    "a key as hex": ("the log", _log(lambda p: _key(p).hex())),
    "a key as Python shows it": ("the log", _log(lambda p: {"key": _key(p)})),
    "an agreement key": ("the log", _log(lambda p: _key(p, "agreement").hex().upper())),
    "a key as base64": ("standard output", lambda p: sys.stdout.write(base64.b64encode(_key(p)).decode())),
    "a key file": (
        "standard error",
        lambda p: sys.stderr.write((p.root / "keys" / "signing.pem").read_text()),
    ),
    "the store's secret": (
        "trace.txt",
        _to_file("trace.txt", lambda p: encoded((p.root / "keys" / "store.key").read_bytes()).encode()),
    ),
    "a record": ("dump.bin", _to_file("dump.bin", lambda p: b"12345" + _record(p))),
    "a record's end": ("dump.bin", _to_file("dump.bin", lambda p: _record(p)[-800:])),
    "a record as base64": (
        "dump.json",
        _to_file("dump.json", lambda p: base64.b64encode(b"1" + _record(p))),
    ),
    "a record as a list of bytes": (
        "dump.json",
        _to_file("dump.json", lambda p: json.dumps(list(_record(p))).encode()),
    ),
    "a record as numbers": (
        "report-2.json",
        _to_file("report-2.json", lambda p: json.dumps({"rows": _numbers(p)}, indent=1).encode()),
    ),
    "a record as few numbers": ("the log", _log(lambda p: _numbers(p)[:6])),
    "a record in an error": ("an error", lambda p: NeuligError(f"cannot send {_record(p)[:50]!r}")),
}  # fmt: skip
"""Where each shows, and how."""


@pytest.mark.slow
@pytest.mark.parametrize("what", PLANTS)
def test_a_planted_secret_is_found(what: str, ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the search could find nothing because it sees nothing."""
    place, plant = PLANTS[what]
    honest = ClientHandler.answer

    def answer(self: ClientHandler, action: str, *rest: Any) -> Any:
        reply = honest(self, action, *rest)
        if action == "release" and self.name == "bob":
            plant(self)
        return reply

    monkeypatch.setattr(ClientHandler, "answer", answer)
    run = ran("sealed", stages=[ONE])
    lines = secret_search.found(run.secrets, run.places)
    assert [line for line in lines if line.endswith(f" in {place}")], lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protection", "module", "name", "what"),
    [
        ("sealed", sealing, "_derived", "sealing key and nonce"),
        ("gaussian", discrete_gaussian, "sample", "noise"),
        ("secure-aggregation", shares, "new_seed", "seed"),
        ("secure-aggregation", shares, "split", "share"),
        ("secure-aggregation", shares, "self_mask", "self mask"),
        ("secure-aggregation", shares, "pair_mask", "pair mask"),
    ],
)
def test_a_secret_that_is_logged_as_it_is_made_is_found(
    protection: str, module: Any, name: str, what: str, ran: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it masks, shares and noise, which never lie on a disk, would not be searched for."""
    honest = getattr(module, name)

    def logged(*args: Any, **more: Any) -> Any:
        made = honest(*args, **more)
        text = made.tolist() if isinstance(made, np.ndarray) else made
        logging.getLogger("neulig_fl.client.gate").debug("made %s", text)
        return made

    monkeypatch.setattr(module, name, logged)
    run = ran(protection)
    lines = secret_search.found(run.secrets, run.places)
    assert [each for each in lines if each.startswith(what) and each.endswith(" in the log")]


@pytest.mark.slow
def test_a_repr_that_shows_a_record_is_found(ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it one `field(repr=False)` could go, and the next debug log show every record."""
    monkeypatch.setattr(Released, "__repr__", lambda self: f"Released({self.payload!r})")
    run = ran("none", stages=[{**ONE, "share": [{"kind": "parameters"}]}])
    lines = secret_search.found(run.secrets, run.places)
    assert [line for line in lines if line.endswith("in repr of Released")], lines
