"""Tiny real things for tests: folders of images, scenarios, clients that misbehave."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import yaml
from PIL import Image

from neulig_fl.client import address_book
from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.server_identity import Recipient, Servers
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import ClientRefused, NeuligError
from neulig_fl.core.progress import Progress
from neulig_fl.ledger.opening import OPENING, Opening
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.release_plan import open_setting
from neulig_fl.records.signed_requests import signed
from neulig_fl.records.transport import Answer, Ask
from neulig_fl.report import Report
from neulig_fl.server.collecting import Collector
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study import runs
from neulig_fl.study.checking import load

CLIENTS = ("ada", "bob", "cyd")
OUTPUTS = [{"kind": "offset-sum"}, {"kind": "features", "queries": ["pool", "evaluation"]}]


MODEL = {"name": "tiny-vit", "pretrained": "none"}

SEED = 3
"""The seed of every scenario made here; `pytest --training-seed` takes another."""


def noised(share: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """The same share under protection gaussian, with these options instead; None leaves one out."""
    before = share.get("protection")
    known = {**(before["gaussian"] if isinstance(before, dict) else {}), **options}
    given = {key: value for key, value in known.items() if value is not None}
    return {**share, "protection": {"gaussian": given}}


def register_model() -> None:
    """Make OpenCLIP know `tiny-vit`, which is built in 3 ms; other processes do not know it."""
    open_clip.add_model_config(Path(__file__).with_name("tiny_models"))


def images(root: Path, classes: Sequence[str], each: int = 24, seed: int = 0) -> Path:
    """Write a folder of class folders.

    Bitmaps, because their bytes, which decide the splits, do not depend on a compressor.
    """
    rng = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            ground = np.full((12, 12, 3), 40 + 60 * number, dtype=np.int64)
            noisy = ground + rng.integers(-30, 31, size=ground.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / name / f"{i}.bmp")
    return root


def said(data: Path, **changes: Any) -> dict[str, Any]:
    """A scenario of three clients on two tasks; `changes` replace its parts.

    Args:
        data: folder that holds `first/` and `second/`, as the fixture `data` makes it.
        changes: top-level keys.
    """
    return {
        "name": "tiny",
        "seed": SEED,
        "model": MODEL,
        "tasks": {
            "first": {"source": "imagefolder", "root": str(data / "first")},
            "second": {"source": "imagefolder", "root": str(data / "second")},
        },
        "clients": [
            {"name": "ada", "task": "first"},
            {"name": "bob", "task": "second"},
            {"name": "cyd", "task": "first"},
        ],
        "experts": {"epochs": 1, "lr": 1.0e-3, "batch_size": 16},
        "queries": {"pool": 6, "evaluation": 7, "train": 5},
        "portland": {"epochs": 2, "batch_size": 4},
        "stages": [
            {"name": "outputs", "share": OUTPUTS, "run": ["train-portland", "ensemble"]},
            {"name": "merging", "share": [{"kind": "parameters"}], "run": ["merge"]},
        ],
    } | changes


def write(folder: Path, data: Path, **changes: Any) -> Path:
    """Write `said` as a YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(said(data, **changes), sort_keys=False), encoding="utf-8")
    return path


def scenario(folder: Path, data: Path, **changes: Any) -> Scenario:
    """The scenario of `said`, read and resolved as a run reads it."""
    return load(write(folder, data, **changes)).resolved(folder)


def released(folder: Path, data: Path, **changes: Any) -> ReleasedRecords:
    """What a server knows before anything was released."""
    return ReleasedRecords(open_setting(scenario(folder, data, **changes), SEED))


def run(folder: Path, data: Path, engine: str = "local", **changes: Any) -> Report:
    """Run the scenario of `said` in `folder/out`."""
    return runs.run(write(folder, data, **changes), engine=engine, out=folder / "out")


def releases(report: Report) -> list[dict[str, Any]]:
    """Every release of a report, in order, with its stage."""
    stages = report.data["stages"]
    return [{"stage": s["name"], **r} for s in stages for r in s["releases"]]


def results(report: Report) -> list[list[dict[str, Any]]]:
    """Every stage's results without what is measured by a clock or by the machine's memory."""
    kept = [
        [{k: v for k, v in row.items() if k not in ("seconds", "peak_rss_bytes")} for row in stage]
        for stage in (s["results"] for s in report.data["stages"])
    ]
    return json.loads(json.dumps(kept))  # type: ignore[no-any-return]


Reply = tuple[dict[str, Any], Any]
Spoil = Callable[[dict[str, Any], Reply], Reply]


def spoiled(monkeypatch: Any, client: str, kind: str, spoil: Spoil) -> None:
    """Make one client's releases of one kind go through `spoil(body asked, (body, payload))`."""
    honest = ClientHandler.answer

    def answer(self: ClientHandler, action: str, body: dict[str, Any], payload: Any) -> Reply:
        reply = honest(self, action, body, payload)
        asked = body.get("asked", {})
        if self.name == client and action == "release" and asked["kind"] == kind:
            return spoil({"run": body["run"], **asked}, reply)
        return reply

    monkeypatch.setattr(ClientHandler, "answer", answer)


SERVER_KEYS = Identity.new()
"""Of the server that `say` plays."""

SERVER = Recipient(SERVER_KEYS.public)
"""That server as its clients know it."""

_NUMBERS = itertools.count(1)


def run_of(scenario: Scenario) -> str:
    """The id of the run that `say` begins, one for each scenario and seed."""
    return hashlib.sha256(f"{scenario.hash} {scenario.seed}".encode()).hexdigest()[:32]


def opening(
    party: ClientHandler, run: str | None = None, server: Identity = SERVER_KEYS
) -> dict[str, Any]:
    """The body of a `hello` with which a server begins a run at a party."""
    run = run or run_of(party.scenario)
    made = Opening.of(party.scenario, run, party.carrier, server)
    return {OPENING: made.signed(server)}


def say(
    party: ClientHandler,
    action: str,
    body: Mapping[str, Any],
    payload: Any = b"",
    *,
    server: Identity = SERVER_KEYS,
) -> Reply:
    """Ask a party as an honest server does: in a run that it began there, and signed.

    Args:
        party: who is asked.
        action: what for.
        body: the request's details; `run` among them names another run than the scenario's.
        payload: of the message.
        server: who asks.
    """
    asked = dict(body)
    run = asked.pop("run", run_of(party.scenario))
    if Servers(party.root).recall(run) is None:
        party.answer("hello", opening(party, run, server), b"")
    ask = Ask(party.name, action, asked, bytes(payload))
    return party.answer(action, signed(server, run, next(_NUMBERS), ask).body, payload)


class InProcess:
    """The clients of a run as `Transport`: every request reaches a new party, as a new process would.

    The parties share one opened setting, which holds nothing of a client's and is slow to open.

    Args:
        scenario: every client's copy.
        root: below it the clients' stores, `clients/NAME`.
        order: puts the answers in the order in which they arrive.

    `asked` has what was asked in each exchange, without the signatures.
    """

    def __init__(
        self,
        scenario: Scenario,
        root: Path,
        order: Callable[[list[Answer]], list[Answer]] = lambda answers: answers,
    ) -> None:
        self.scenario = scenario
        self.root = root
        self.order = order
        self.asked: list[list[Ask]] = []
        self.setting = open_setting(scenario, scenario.seed)
        file = root / address_book.FILE
        self.book = address_book.introduce(scenario, root / "clients", file)

    carrier = ""

    def ask(self, asks: Sequence[Ask], timeout: float) -> Iterator[Answer]:  # noqa: ARG002
        """As `Transport.ask`."""
        self.asked.append([replace(a, body=a.body.get("asked", a.body)) for a in asks])
        yield from self.order([self.answer(ask) for ask in asks])

    def answer(self, ask: Ask) -> Answer:
        """What one client answers."""
        store = self.root / "clients" / ask.client
        party = ClientHandler(
            self.scenario, self.scenario.seed, ask.client, store, address_book=self.book
        )
        party.__dict__["setting"] = self.setting
        try:
            body, payload = party.answer(ask.action, ask.body, ask.payload)
        except ClientRefused as refusal:
            return Answer(ask.client, ask.action, "refused", refusal.public_reason, {}, b"")
        except NeuligError as error:
            return Answer(ask.client, ask.action, "failed", error.public_reason, {}, b"")
        return Answer(ask.client, ask.action, "ok", None, body, payload)


def collector(
    folder: Path,
    data: Path,
    order: Callable[[list[Answer]], list[Answer]] = lambda answers: answers,
    **changes: Any,
) -> Collector:
    """A server's collector of the scenario of `said`, whose clients answer in this process.

    Args:
        folder: of the scenario and of the clients' stores.
        data: as for `said`.
        order: as for `InProcess`.
        changes: top-level keys.
    """
    read = scenario(folder, data, **changes)
    known = ReleasedRecords(open_setting(read, read.seed))
    parties = InProcess(read, folder, order)
    return Collector(parties, known, Progress(lambda _: None), read.trust, SERVER_KEYS)
