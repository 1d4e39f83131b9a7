"""What the server keeps in the run's folder until the run ends, so that another process can go on.

In `unfinished/`: `run.json` (the run's id, its scenario, the versions, how often it was resumed),
`keys/` where the server has none of its own, `answers/` (of the clients), `rounds/` (secure sums
that are done), `stages/` (stages that are finished, with an index of their hashes), and at the end
`outcome.json`, so that one outcome alone is ever signed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from neulig_fl.config.scenario import Scenario, dumped
from neulig_fl.core import kept_files, regular_files, strict_json, unfinished_runs
from neulig_fl.core.errors import BadReply, ClientRefused, InputError
from neulig_fl.core.files import PRIVATE, sweep, write_atomically
from neulig_fl.core.run_folders import STATE_FILE
from neulig_fl.core.run_folders import UNFINISHED as FOLDER
from neulig_fl.core.unfinished_runs import INDEX_FILE, STAGES
from neulig_fl.core.versions import versions
from neulig_fl.ledger import handshake, key_store
from neulig_fl.ledger.opening import Opening
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.signed_requests import SignedTransport
from neulig_fl.records.transport import Answer, Ask, Transport
from neulig_fl.server.answers import Answers, KeptTransport

FORMAT = 2
ANSWERS, ROUNDS, KEYS, OUTCOME = "answers", "rounds", "keys", "outcome.json"
_PARTS = (ANSWERS, ROUNDS, STAGES)
_KEYS = frozenset({"format", "run", "scenario", "versions", "server", "resumed", "token"})

ANEW = "it cannot go on; begin it anew with `neulig-fl run {}`"


@dataclass
class Unfinished:
    """An unfinished run's folder, held by its server.

    Args:
        out: the run's folder.
        run: the run's id.
        resumed: how often the run was resumed.
        token: of this process; empty where the run was not resumed.
        identity: the server's keys.
    """

    out: Path
    run: str
    resumed: int
    token: str
    identity: Identity

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.out / FOLDER

    @cached_property
    def answers(self) -> Answers:
        """The clients' answers."""
        return Answers(self.folder / ANSWERS)

    def opening(self, first: Opening) -> Opening:
        """The statement with which this process begins the run, or goes on with it.

        Args:
            first: with which the run began.
        """
        return replace(first, resumed=self.resumed, token=self.token)

    def greeted(self, answers: Iterator[Answer]) -> Iterator[Answer]:
        """What the clients say to the opening; who said hello before is who it was.

        Args:
            answers: to this process.

        Raises:
            BadReply: a client's keys are others than before the run was broken off.
            RunError: a client that took part does so no more.
        """
        for answer in answers:
            ask = Ask(answer.client, "hello")
            before = self.answers.find(ask)
            if before is None:
                self.answers.keep(ask, answer)
                yield answer
                continue
            if before.status == "ok":
                _require_same(before, answer)
            yield before

    def clients(self, transport: Transport) -> KeptTransport:
        """The clients, asked with signed requests; who answered before is not asked again."""
        asked = SignedTransport(transport, self.identity, self.run, self.resumed)
        return KeptTransport(asked, self.answers, lambda: unfinished_runs.is_abandoned(self.out))

    @contextmanager
    def complete(self, clients: Transport) -> Iterator[None]:
        """Within the block nothing is asked of the clients that was not answered before.

        Args:
            clients: what `clients` gave.
        """
        if not isinstance(clients, KeptTransport):
            raise TypeError(f"{type(clients).__name__} keeps no answers")
        clients.complete = True
        try:
            yield
        finally:
            clients.complete = False

    # ------------------------------------------------------------ stages and rounds

    def finished(self) -> dict[str, str]:
        """SHA-256 of each finished stage's file, by the stage's name, in order."""
        return _index(self.folder)

    def read_stage(self, name: str) -> tuple[dict[str, Any], memoryview]:
        """What `keep_stage` kept."""
        done = self.finished()
        return kept_files.read(_stage_file(self.folder, [*done].index(name), name), done[name])

    def keep_stage(self, name: str, said: dict[str, Any], payload: bytes) -> None:
        """Keep a finished stage; once its hash is in the index, it is.

        Args:
            name: of the stage.
            said: what is kept of it.
            payload: tensors that go with it.
        """
        done = self.finished()
        file = _stage_file(self.folder, len(done), name)
        needs = {ANSWERS: self.answers.hashes, ROUNDS: self._round_hashes()}
        done[name] = kept_files.write(file, {**said, "needs": needs}, payload)
        text = json.dumps(done, indent=1) + "\n"
        write_atomically(self.folder / STAGES / INDEX_FILE, text, PRIVATE)

    @cached_property
    def _round_files(self) -> dict[tuple[str, str], Path]:
        """The file of each secure sum that is done, by its stage and what was asked."""
        return {tuple(kept_files.read(file)[0]["of"]): file for file in _rounds(self.folder)}

    def round(self, stage: str, asked: str) -> tuple[dict[str, Any], memoryview] | None:
        """What `keep_round` kept; None where the sum is not done."""
        file = self._round_files.get((stage, asked))
        return None if file is None else kept_files.read(file)

    def rounds(self, stage: str) -> Iterator[tuple[dict[str, Any], memoryview]]:
        """The secure sums of a stage that are done, in order."""
        for (of, _), file in self._round_files.items():
            if of == stage:
                yield kept_files.read(file)

    def keep_round(self, stage: str, asked: str, said: dict[str, Any], payload: bytes) -> None:
        """Keep a secure sum that is done; the messages that led to it are erased.

        Args:
            stage: that asked for it.
            asked: what was asked, as text.
            said: what is kept of it.
            payload: its tensors.
        """
        file = self.folder / ROUNDS / f"{len(self._round_files) + 1:06}.round"
        kept_files.write(file, {**said, "of": [stage, asked]}, payload)
        self._round_files[(stage, asked)] = file
        self.answers.forget_sums()

    def _round_hashes(self) -> dict[str, str]:
        return {file.name: kept_files.digest(file) for file in _rounds(self.folder)}

    # ------------------------------------------------------------ the end

    def outcome(self, made: Callable[[], str]) -> str:
        """The text of the outcome: the one that was to be signed before, if there was one."""
        file = self.folder / OUTCOME
        if not file.is_file():
            kept_files.write(file, {}, made().encode())
        return bytes(kept_files.read(file)[1]).decode()

    def erase(self) -> None:
        """Erase everything: the run has ended."""
        unfinished_runs.erase(self.out)


@contextmanager
def begun(out: Path, scenario: Scenario, keys: Path | None) -> Iterator[Unfinished]:
    """Begin a run, and keep in its folder what another process needs to go on.

    Args:
        out: the run's folder; what an earlier run left unfinished is erased.
        scenario: resolved, with the seed of this run.
        keys: the folder of the server's keys; None: fresh ones, which are erased with the rest.
    """
    unfinished_runs.erase(out)
    folder = out / FOLDER
    key_store.private_folder(folder, "folder of an unfinished run")
    with unfinished_runs.alone_in(folder):
        for part in _PARTS:
            key_store.private_folder(folder / part, "folder of an unfinished run")
        identity = key_store.identity(keys or folder / KEYS)
        made = Unfinished(out, handshake.new_run(), 0, "", identity)
        _write(made, scenario)
        yield made


@contextmanager
def resumed(out: Path, scenario: Scenario, keys: Path | None) -> Iterator[Unfinished]:
    """Go on with a run whose process ended.

    Args:
        out, scenario, keys: as for `begun`; those of the run.

    Raises:
        InputError: what was kept is damaged, or of another scenario, version or server; or another
            process is at work on it.
    """
    folder = out / FOLDER
    with unfinished_runs.alone_in(folder):
        said, identity = check(out, scenario, keys)
        unfinished_runs.go_on(out)
        made = Unfinished(out, said["run"], said["resumed"] + 1, handshake.new_run(), identity)
        _write(made, scenario)  # before anybody is asked: no number is ever used twice
        yield made


def check(out: Path, scenario: Scenario, keys: Path | None) -> tuple[dict[str, Any], Identity]:
    """Whether a run can go on by what was kept of it; changes nothing.

    Args:
        out, scenario, keys: as for `begun`.

    Returns:
        What `run.json` says, and the server's keys.

    Raises:
        InputError: a file is missing, was cut or changed; or it is of another scenario, version or
            server.
    """
    folder = out / FOLDER
    for place in (folder, *(folder / part for part in _PARTS)):
        sweep(place)
    said, anew = _state(folder / STATE_FILE), ANEW.format(out / "scenario.yaml")
    if said["scenario"] != _digest(scenario):
        raise InputError(f"{folder / STATE_FILE}: the run began with another scenario; {anew}")
    for name, before in said["versions"].items():
        now = versions().get(name)
        if now != before:
            raise InputError(
                f"{folder / STATE_FILE}: the run began with {name} {before}, and here is {now}, "
                f"which may give other figures; {anew}"
            )
    for number, (name, digest) in enumerate(_index(folder).items()):
        needs = kept_files.read(_stage_file(folder, number, name), digest)[0]["needs"]
        for part, hashes in needs.items():
            for file, each in hashes.items():
                kept_files.read(folder / part / file, each)
    for file in (*_rounds(folder), *sorted((folder / ANSWERS).glob("*.answer"))):
        kept_files.read(file)
    if (folder / OUTCOME).is_file():
        kept_files.read(folder / OUTCOME)
    return said, _same_server(said, keys or folder / KEYS, anew)


def _same_server(said: Mapping[str, Any], keys: Path, anew: str) -> Identity:
    """The server's keys, which must be those with which the run began."""
    names = (key_store.SIGNING_FILE, key_store.AGREEMENT_FILE)
    if not all((keys / name).is_file() for name in names):  # or new ones would be made
        raise InputError(f"{keys}: the server's keys are not there any more; {anew}")
    identity = key_store.identity(keys)
    if said["server"] != identity.public.record():
        raise InputError(
            f"{keys}: the run began with other keys of the server, {identity.key} is new; {anew}"
        )
    return identity


def _require_same(before: Answer, now: Answer) -> None:
    """A client that takes part again must be the one that did; who is silent is told of later."""
    who = f"client {now.client!r}, saying hello again"
    if now.status in ("refused", "failed"):
        raise ClientRefused(f"{who}: {now.reason}; the run can be resumed once it takes part again")
    if now.status == "ok" and now.body.get("identity") != before.body.get("identity"):
        raise BadReply(f"{who}: its keys are others than when the run began; begin the run anew")


def _write(made: Unfinished, scenario: Scenario) -> None:
    said = {
        "format": FORMAT,
        "run": made.run,
        "scenario": _digest(scenario),
        "versions": versions(),
        "server": made.identity.public.record(),
        "resumed": made.resumed,
        "token": made.token,
    }
    write_atomically(made.folder / STATE_FILE, json.dumps(said, indent=1) + "\n", PRIVATE)


def _digest(scenario: Scenario) -> str:
    return hashlib.sha256(dumped(scenario).encode()).hexdigest()


def _state(file: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = strict_json.parsed(regular_files.read(file))
        whole = set(said) == _KEYS and said["format"] == FORMAT and handshake.is_run(said["run"])
        whole = whole and type(said["resumed"]) is int and isinstance(said["versions"], dict)
    except (OSError, ValueError, TypeError):
        whole = False
    if not whole:
        raise InputError(f"{file}: is not as a run writes it; the run cannot go on, begin it anew")
    return said


def _index(folder: Path) -> dict[str, str]:
    file = folder / STAGES / INDEX_FILE
    try:
        found = strict_json.parsed(regular_files.read(file))
        whole = isinstance(found, dict) and all(isinstance(each, str) for each in found.values())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise InputError(f"{file}: is not as a run writes it; the run cannot go on, begin it anew")
    return dict(found)


def _stage_file(folder: Path, number: int, name: str) -> Path:
    return folder / STAGES / f"{number + 1:02}-{name}.stage"


def _rounds(folder: Path) -> list[Path]:
    return sorted((folder / ROUNDS).glob("*.round"))
