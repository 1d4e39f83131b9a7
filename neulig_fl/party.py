"""One client's side of a run: it holds an expert and answers what the server asks.

Everything that must last lies in the client's store or in the expert cache, because every message
may reach a new process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neulig_fl import (
    address_book,
    checkpoints,
    entrance,
    experts,
    fisher,
    gate,
    gram,
    offset_sum,
    outputs,
    policy,
    trimming,
)
from neulig_fl.client_store import ClientStore
from neulig_fl.closing import closing
from neulig_fl.errors import NeuligError, RunError
from neulig_fl.files import PRIVATE, write_atomically
from neulig_fl.gate import Side
from neulig_fl.greeting import greeting
from neulig_fl.key_files import private_folder
from neulig_fl.plan import Setting, open_setting
from neulig_fl.queries import Block, blocks
from neulig_fl.recipients import Recipient, Servers
from neulig_fl.record_identity import Basis, data_hash
from neulig_fl.records import (
    OUTPUT_KINDS,
    SERVER,
    Arrays,
    Dimensions,
    Request,
    difference,
    share_of,
)
from neulig_fl.scenario import Client, Scenario
from neulig_fl.scenario_values import MEASURED_KINDS
from neulig_fl.sum_requests import image_ids
from neulig_fl.sum_state import SumInProgress
from neulig_fl.summing import Summing
from neulig_fl.versions import VERSION

REFERENCE_FILE = "reference.json"
"""In the client's store: what only a simulation's engine may look at."""


@dataclass(frozen=True)
class Party:
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
        opening, asked = entrance.admitted(stranger, action, body, payload, self.carrier)
        asker = replace(stranger.server, identity=opening.server)
        side = replace(stranger, store=self._store(opening.run), server=asker)
        try:
            if action == "prepare":
                return self._prepare(gate.understood_group(side, asked), opening.run), b""
            if action == "release":
                return self._release(side, asked, payload)
            if action == "sum":
                return self._sum(side, asked, payload)
            return self._close(side, asked, payload), b""
        finally:
            Servers(self.root).answered(opening.run)

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
        return greeting(self._store().identity, self.name, VERSION, run)

    def _forget_sums_of_others(self, run: str) -> None:
        """A sum of another run goes on no more, however it ended."""
        store = self._store(run)
        kept = store.kept_sum()
        try:
            if kept is not None and SumInProgress.from_bytes(kept).run != run:
                store.forget_sum()
        except RunError:
            store.forget_sum()

    def _expert(self, group: str) -> tuple[nn.Module, bool]:
        task = self.setting.tasks[self.client.task]
        return experts.obtain(
            self.scenario, self.client, group, self.setting.family, task, self.seed
        )

    def _prepare(self, group: str, run: str) -> dict[str, Any]:
        """Train or load the expert, and note for a simulation's engine how good it is."""
        encoder, trained = self._expert(group)
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
        node, server = policy.of_node(self.policy_file), Recipient(None, tuple(pins), kept)
        return Side(self.scenario, self.client, self._store(), node, server)

    def _release(
        self, side: Side, asked: dict[str, Any], payload: bytes | memoryview
    ) -> tuple[dict[str, Any], bytes]:
        request = gate.understood(side, asked)
        released = gate.release(side, request, PartyHoldings(self, request, payload))
        entry = released.entry
        # The entry is shown: it names the expert by tags that say nothing without the store's key.
        reply = {"rows": released.rows, "sha256": entry["sha256"], "entry": entry}
        return reply, released.payload

    def _sum(
        self, side: Side, asked: dict[str, Any], payload: bytes | memoryview
    ) -> tuple[dict[str, Any], bytes]:
        """One message of a secure sum, with those whose keys this client has from elsewhere."""
        pins = address_book.pins(self.address_book, self.scenario.trust)
        summing = Summing(side, pins, lambda request: PartyHoldings(self, request, payload))
        return summing.answer(asked)

    def _close(
        self, side: Side, asked: dict[str, Any], payload: bytes | memoryview
    ) -> dict[str, Any]:
        """Say how far the ledger goes now that the run ends."""
        with side.store.exclusive():
            server = gate.admit_closing(side, asked, payload)
            entries, own = side.store.entries(), side.store.identity
            return closing(own, self.name, side.store.run or "", server.key, entries)


class PartyHoldings:
    """What a party's records are made of; nothing is loaded before the gate asks for it.

    Args:
        party: whose.
        request: what is asked for.
        payload: the queries' pictures, when they travel by value.
    """

    def __init__(self, party: Party, request: Request, payload: bytes | memoryview) -> None:
        self._party = party
        self._request = request
        self._payload = payload

    @cached_property
    def _blocks(self) -> Sequence[Block]:
        party, asked = self._party, self._request
        if asked.queries is None:
            return []
        found = blocks(
            party.scenario, party.setting.tasks, asked.queries, asked.group, asked.fraction
        )
        if asked.kind == "inputs":
            return [b for b in found if b.owner == party.name]
        return found

    def fault(self) -> str | None:
        """What is wrong with queries that came by value; None when nothing is.

        A policy allows the scenario's queries, not any: so many pictures and no more, and none
        where the queries travel by reference.
        """
        asked, came = self._request, len(self._payload)
        training = asked.queries == "train" and asked.kind in OUTPUT_KINDS
        by_value = training or (
            asked.kind in OUTPUT_KINDS and self._party.scenario.queries.travel == "value"
        )
        if not by_value:
            return "the scenario's queries travel by reference" if came else None
        allowed = sum(block.rows for block in self._blocks) * 3 * self._size**2
        if came == allowed or (training and 0 < came < allowed and came % (3 * self._size**2) == 0):
            return None
        return f"the queries that came are {came} bytes; the scenario's are {allowed}"

    @property
    def rows(self) -> int:
        """Rows of the record: queries, or 1."""
        if self._request.queries is None:
            return 1
        if len(self._payload):
            return len(self._payload) // (3 * self._size**2)
        return sum(b.rows for b in self._blocks)

    @property
    def rows_by_task(self) -> dict[str, int]:
        """Queries of each task, in the order of the record's rows; none without queries."""
        return {block.task.name: block.rows for block in self._blocks if block.owner is None}

    @property
    def images_by_task(self) -> dict[str, list[str] | None]:
        """Content ids of each task's images; None where the server sends what it likes."""
        return image_ids(self._party.scenario, [b for b in self._blocks if b.owner is None])

    @property
    def sent_images(self) -> str:
        """SHA-256 of the images that came by value; empty where none did."""
        return hashlib.sha256(self._payload).hexdigest() if len(self._payload) else ""

    @property
    def sizes(self) -> Dimensions:
        """What the record's shapes follow from."""
        return self._party.setting.sizes

    @property
    def _size(self) -> int:
        return self._party.setting.family.image_size

    @cached_property
    def data_hash(self) -> str:
        """Identifies the expert and the images that it is asked about, whatever they are called."""
        measured = self._request.kind in MEASURED_KINDS
        asked = [self._measured_on] if measured else self._blocks
        return data_hash(self._party.setting, self.expert, self._request.kind, asked, self._payload)

    @property
    def record_hash(self) -> str:
        """Identifies all that the record's numbers follow from besides its kind and shape."""
        basis = Basis(self._request.kind, self.data_hash, self._blocks, self._measured_on.task)
        return basis.record_hash(self._party.setting)

    @cached_property
    def expert(self) -> str:
        """Identifies the expert: its checkpoint's hash, or what it is trained by."""
        party, group = self._party, self._request.group
        given = experts.checkpoint(party.client, group)
        if given is not None:
            return checkpoints.identity(Path(given), experts.prefix(party.client, group))
        task = party.setting.tasks[party.client.task]
        return experts.recipe(
            party.scenario, party.client, group, party.setting.family, task, party.seed
        ).key

    def _pictures(self) -> NDArray[np.uint8]:
        """The queries' pictures, uint8 of shape (rows, 3, size, size)."""
        shape = (self.rows, 3, self._size, self._size)
        if len(self._payload):
            return np.frombuffer(self._payload, dtype=np.uint8).reshape(shape)
        parts = [block.pixels(self._party.setting.family.resize) for block in self._blocks]
        return np.concatenate(parts) if parts else np.zeros(shape, np.uint8)

    def _encoder(self) -> nn.Module:
        return self._party._expert(self._request.group)[0]

    def _features(self) -> torch.Tensor:
        return outputs.encode(self._encoder(), self._pictures(), self._party.setting.family)

    def inputs(self) -> Arrays:
        """The client's own training queries."""
        labels = [block.labels() for block in self._blocks]
        return {"images": self._pictures(), "labels": np.concatenate(labels)}

    def offset_sum(self) -> Arrays:
        """The rounded sum of all floating entries; BatchNorm's statistics are among them."""
        shared = self._party.scenario.experts.origin == "shared"
        start = offset_sum.entry_sum(self.start()) if shared else 0.0
        own = offset_sum.entry_sum(self.parameters())
        return {"sum": np.array([offset_sum.rounded(own, start)])}

    def features(self) -> Arrays:
        """The expert's features of the queries."""
        return {"features": self._features().numpy()}

    def logits(self) -> Arrays:
        """The expert's logits of the queries, over the classes of all tasks."""
        setting = self._party.setting
        features = self._features()
        heads = [
            setting.family.head(t.source.class_names, t.source.templates)
            for t in setting.tasks.values()
        ]
        return {"logits": outputs.classify(features, torch.cat(heads)).numpy()}

    def parameters(self) -> Arrays:
        """Every floating state-dict entry."""
        return _floating(self._encoder())

    def task_vector(self) -> Arrays:
        """The difference of every floating entry to that of the common checkpoint."""
        return difference(self.parameters(), self.start())

    def trimmed_task_vector(self) -> Arrays:
        """As much of it as is asked for."""
        return trimming.trimmed(self.task_vector(), self._request.fraction)

    def gram(self) -> Arrays:
        """Gram matrices over the client's own training images."""
        encoder, pictures, _ = self._examples()
        found: Arrays = dict(gram.measured(encoder, pictures))
        return found

    def fisher(self) -> Arrays:
        """Diagonal Fisher information over the client's own training images."""
        encoder, pictures, head = self._examples()
        found: Arrays = dict(fisher.measured(encoder, pictures, head))
        return found

    def _examples(self) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
        """The encoder, training images as it takes them, and the head of the client's own task.

        As many images as the stage says, drawn from those that the expert was trained on.
        """
        family, own = self._party.setting.family, self._measured_on
        source, pictures = own.task.source, family.normalise(own.pixels(family.resize))
        return self._encoder(), pictures, family.head(source.class_names, source.templates)

    @property
    def _measured_on(self) -> Block:
        """The training images that statistics are measured on."""
        party, asked = self._party, self._request
        share = share_of(party.scenario, asked)
        most = share.measured_on if share else None
        task = party.setting.tasks[party.client.task]
        return Block(task, task.indices(f"train-{asked.group}", most))

    def start(self) -> Arrays:
        """Every floating entry of the checkpoint that all experts start from."""
        return _floating(self._party.setting.family.encoder())


def _floating(encoder: nn.Module) -> Arrays:
    state = encoder.state_dict()
    return {k: v.numpy() for k, v in state.items() if v.is_floating_point()}
