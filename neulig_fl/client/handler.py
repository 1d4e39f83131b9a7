"""One client's side of a run: it holds an expert and answers what the server asks.

Everything that must last lies in the client's store or in the expert cache, because every message
may reach a new process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from neulig_fl.client import address_book, asked_again, entrance, experts, gate
from neulig_fl.client.entrance import Admitted
from neulig_fl.client.gate import Side
from neulig_fl.client.holdings import ClientHoldings
from neulig_fl.client.secagg.protocol import Summing
from neulig_fl.client.secagg.state import SumInProgress
from neulig_fl.client.server_identity import Recipient, Servers
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Client, Scenario
from neulig_fl.config.values import SERVER
from neulig_fl.core import progress, versions
from neulig_fl.core.errors import NeuligError, RunError
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.ledger.closing import closing
from neulig_fl.ledger.handshake import client_hello
from neulig_fl.ledger.key_store import private_folder
from neulig_fl.records import policy_layers
from neulig_fl.records.release_plan import Setting, open_setting

REFERENCE_FILE = "reference.json"
"""In the client's store: what only a simulation's engine may look at."""


@dataclass(frozen=True)
class ClientHandler:
    """A client of a scenario.

    Args:
        scenario: the client's own copy.
        seed: the seed of this run.
        name: the client's name in the scenario.
        root: the folder of the client's store.
        keys: the folder of the client's keys; one in its store when not given.
        policy_file: the node's own policy, an absolute path, if it has one.
        server_pin: the server's key as the node knows it, if it does.
        reference: whether it notes how good its expert is, as the engine of a simulation asks.
        address_book: the node's file of other clients' keys, if it has one.
        carrier: Flower's id of the run that brings the messages; empty where no Flower does.
    """

    scenario: Scenario
    seed: int
    name: str
    root: Path
    keys: Path | None = None
    policy_file: Path | None = None
    server_pin: str | None = None
    reference: bool = False
    address_book: Path | None = None
    carrier: str = ""

    @cached_property
    def client(self) -> Client:
        """The client's entry in the scenario."""
        return next(c for c in self.scenario.clients if c.name == self.name)

    @cached_property
    def setting(self) -> Setting:
        """The scenario's tasks and model."""
        return open_setting(self.scenario, self.seed)

    def answer(
        self, action: str, body: dict[str, Any], payload: bytes | memoryview
    ) -> tuple[dict[str, Any], bytes]:
        """Answer one request.

        Args:
            action: `hello`, `prepare`, `release`, `sum` or `close`.
            body: the request's details.
            payload: queries by value, or nothing.

        Returns:
            The reply's details and payload.

        Raises:
            NeuligError: whatever goes wrong; a refusal is `ClientRefused`.
        """
        private_folder(self.root)  # before anything in it is believed
        if action == "hello":
            return self._hello(body), b""
        if action not in ("prepare", "release", "sum", "close"):
            raise NeuligError(f"action {action!r} is not known", public_reason="unknown action")
        stranger = self._side()
        let_in = entrance.admitted(stranger, action, body, payload, self.carrier)
        opening, asked = let_in.opening, let_in.request.asked
        asker = replace(stranger.server, identity=opening.server)
        side = replace(stranger, store=self._store(opening.run), server=asker)
        try:
            with side.store.exclusive():
                again = asked_again.reply(side.store, let_in.since)
            if again is not None:
                record = gate.understood(side, asked) if action == "release" else None
                gate.require_open(side, record)
                return again
            if action == "prepare":
                return self._prepare(gate.admit_preparing(side, asked), opening.run), b""
            if action == "release":
                return self._release(side, asked, payload)
            if action == "sum":
                return self._sum(side, let_in, payload)
            return self._close(side, asked, payload), b""
        finally:
            entrance.answered(side, let_in.request)

    def _store(self, run: str | None = None) -> ClientStore:
        return ClientStore(self.root, run, self.keys)

    def _hello(self, body: dict[str, Any]) -> dict[str, Any]:
        """Say who this is, and sign that for the run that begins, so that it is nobody else's."""
        self._store().sweep()
        run = None
        if body:
            opening, new = entrance.begin(self._side(), body, self.carrier)
            run = opening.run
            if new:
                self._forget_sums_of_others(run)
                self._store(run).forget_sent()
        return client_hello(self._store().identity, self.name, versions.own(), run)

    def _forget_sums_of_others(self, run: str) -> None:
        """A sum of another run goes on no more, however it ended."""
        store = self._store(run)
        with store.exclusive():  # nor may another be kept between the look and the erasure
            kept = store.kept_sum()
            try:
                if kept is not None and SumInProgress.from_bytes(kept).run != run:
                    store.forget_sum()
            except RunError:
                store.forget_sum()

    def encoder(self, group: str) -> tuple[nn.Module, bool]:
        """The client's expert for a group, and whether it was trained just now."""
        task = self.setting.tasks[self.client.task]
        return experts.obtain(
            self.scenario,
            self.client,
            group,
            self.setting.family,
            task,
            self.seed,
            self._training(group),
        )

    def _training(self, group: str) -> experts.OnStep:
        """Note how far training is, in the client's own store."""
        path = self.root / progress.FILE
        bars: list[progress.Bar] = []

        def on_step(done: int, total: int) -> None:  # noqa: ARG001 (a bar counts)
            if not bars:
                path.unlink(missing_ok=True)
                title = f"{self.name}: training ({group}), steps"
                bars.append(progress.to_file(path).task(title, total, brief=True))
            bars[0].advance()

        return on_step

    def _prepare(self, group: str, run: str) -> dict[str, Any]:
        """Train or load the expert, and note for a simulation's engine how good it is."""
        encoder, trained = self.encoder(group)
        task = self.setting.tasks[self.client.task]
        indices = task.indices("evaluation", self.scenario.queries.evaluation)
        task.require_classes("evaluation", task.indices("evaluation"))
        task.require_prompts(self.setting.family.tokens)
        if self.reference:
            fact = {
                "client": self.name,
                "task": self.client.task,
                "group": group,
                "origin": self.scenario.experts.origin,
                "accuracy": experts.accuracy(encoder, task, indices, self.setting.family),
                "n_train": None if self.client.checkpoint else len(task.indices(f"train-{group}")),
                "n_eval": len(indices),
            }
            self._note_reference(fact, run)
        return {"trained": trained}

    def _note_reference(self, fact: dict[str, Any], run: str) -> None:
        """Note it beside what is known of the same run; another run's experts are others."""
        path = self.root / REFERENCE_FILE
        said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        known = said["experts"] if said.get("run") == run else []
        facts = [f for f in known if f["group"] != fact["group"]] + [fact]
        text = json.dumps({"run": run, "experts": facts}, indent=1)
        write_atomically(path, text, PRIVATE)

    def _side(self) -> Side:
        """Who is asked, in no run yet; whose rules count; who a server must be."""
        pins = [
            pin for pin in (self.scenario.trust.get(SERVER), self.server_pin) if pin is not None
        ]
        kept = None if self.server_pin is not None else Servers(self.root).first()
        node, server = policy_layers.of_node(self.policy_file), Recipient(None, tuple(pins), kept)
        return Side(self.scenario, self.client, self._store(), node, server)

    def _release(
        self, side: Side, asked: dict[str, Any], payload: bytes | memoryview
    ) -> tuple[dict[str, Any], bytes]:
        request = gate.understood(side, asked)
        released = gate.release(side, request, ClientHoldings(self, request, payload))
        entry = released.entry
        # The entry is shown: it names the expert by tags that say nothing without the store's key.
        reply = {"rows": released.rows, "sha256": entry["sha256"], "entry": entry}
        return reply, released.payload

    def _sum(
        self, side: Side, let_in: Admitted, payload: bytes | memoryview
    ) -> tuple[dict[str, Any], bytes]:
        """One message of a secure sum, with those whose keys this client has from elsewhere."""
        pins = address_book.pins(self.address_book, self.scenario.trust)
        summing = Summing(
            side,
            pins,
            lambda request: ClientHoldings(self, request, payload),
            digest=let_in.digest,
            again=let_in.since is not None,
        )
        return summing.answer(let_in.request.asked)

    def _close(
        self, side: Side, asked: dict[str, Any], payload: bytes | memoryview
    ) -> dict[str, Any]:
        """Say how far the ledger goes now that the run ends."""
        with side.store.exclusive():
            server = gate.admit_closing(side, asked, payload)
            side.store.forget_sent()
            entries, own = side.store.entries(), side.store.identity
            return closing(own, self.name, side.store.run or "", server.key, entries)
