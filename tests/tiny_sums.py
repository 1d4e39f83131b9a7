"""Tiny secure sums for tests: scenarios that share them, and a server that can be made to lie."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tiny
from numpy.typing import NDArray

from neulig_fl.client import address_book
from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Scenario
from neulig_fl.privacy.keys import PublicIdentity
from neulig_fl.privacy.secagg import Server, Terms
from neulig_fl.records.kinds import Request
from neulig_fl.records.release_plan import Setting, open_setting
from neulig_fl.records.secagg import keys
from neulig_fl.records.secagg.peers import Statement, packed
from neulig_fl.records.secagg.requests import Part, SumRequest, image_names
from neulig_fl.records.transport import Answer, Ask

RUN = "ab" * 16
CLIENTS = ("ada", "bob", "cyd", "dan")
TASKS = ("first", "second", "first", "second")
SHARE = [
    {"kind": "features", "queries": ["pool", "evaluation"], "protection": "secure-aggregation"},
    {"kind": "parameters", "protection": "secure-aggregation"},
]
MEAN = dict.fromkeys(CLIENTS, 0.25)
STEPS = ("advertise", "share", "mask", "confirm", "reveal")


def scenario(folder: Path, data: Path, **changes: Any) -> Scenario:
    """Four clients, one stage `sums` that shares features and parameters within sums.

    Args:
        folder: where the file goes.
        data: of the fixture.
        changes: top-level keys; `policies` gives clients policies, by name; `checkpoints` likewise.
    """
    policies, checkpoints = changes.pop("policies", {}), changes.pop("checkpoints", {})
    clients: list[dict[str, Any]] = [
        {"name": name, "task": task} for name, task in zip(CLIENTS, TASKS, strict=True)
    ]
    for client in clients:
        client |= {"policy": policies[client["name"]]} if client["name"] in policies else {}
        name = client["name"]
        client |= {"checkpoint": checkpoints[name]} if name in checkpoints else {}
    said = {"clients": clients, "stages": [{"name": "sums", "share": SHARE}]}
    return tiny.scenario(folder, data, **said | changes)


def party(
    scenario: Scenario, root: Path, name: str, setting: Setting, **more: Any
) -> ClientHandler:
    """A client as a new process has it; the setting, slow to open, holds nothing of a client's."""
    book: Path | None = root / address_book.FILE
    if book is None or not book.exists():
        book = address_book.introduce(scenario, root / "clients", root / address_book.FILE)
    known = {"address_book": book, **more}
    found = ClientHandler(scenario, scenario.seed, name, root / "clients" / name, **known)
    found.__dict__["setting"] = setting
    return found


def vector(made: ClientHandler, kind: str, queries: str | None) -> dict[str, NDArray[Any]]:
    """What one client would put into a sum, in the clear, by the names of its arrays."""
    from neulig_fl.client.holdings import ClientHoldings

    holdings = ClientHoldings(made, Request("sums", "A", kind, queries), b"")
    arrays: dict[str, Any] = getattr(holdings, kind)()
    return arrays


class Hand:
    """A server whose every message is made by hand.

    Args:
        scenario: every client's copy.
        root: below it the clients' stores.
        parts: what is asked for; the mean of the parameters if not given.
        request: stage, kind and queries; parameters if not given.
        run: the run's id.
        node: a node's own policy file, by client.
    """

    def __init__(
        self,
        scenario: Scenario,
        root: Path,
        parts: Sequence[Part] = (Part(None, MEAN),),
        request: Request | None = None,
        run: str = RUN,
        node: Mapping[str, Path] | None = None,
    ) -> None:
        self.scenario = scenario
        self.root = root
        self.run = run
        self.node = node or {}
        self.setting = open_setting(scenario, scenario.seed)
        request = request or Request("sums", "A", "parameters", protection="secure-aggregation")
        self.asked = SumRequest(request, secrets.token_hex(16), tuple(parts))
        self.told: dict[str, Any] = {}
        self.replies: dict[str, dict[str, tuple[dict[str, Any], bytes]]] = {s: {} for s in STEPS}

    def again(self, parts: Sequence[Part], request: Request | None = None) -> Hand:
        """Another round with the same clients."""
        made = Hand.__new__(Hand)
        made.__dict__.update(self.__dict__)
        made.asked = SumRequest(request or self.asked.request, secrets.token_hex(16), tuple(parts))
        made.told, made.replies = {}, {s: {} for s in STEPS}
        return made

    @property
    def by_task(self) -> dict[str, int]:
        """Queries of each task."""
        if self.asked.request.queries is None:
            return {}
        return {b.task.name: b.rows for b in self.setting.blocks(self.asked.request)}

    @property
    def images(self) -> dict[str, str]:
        """Names of each task's set of images."""
        if self.asked.request.queries is None:
            return {}
        return image_names(self.scenario, self.setting.blocks(self.asked.request))

    @property
    def terms(self) -> Terms:
        """The round's terms."""
        return self.asked.terms(self.scenario, self.setting.sizes, self.by_task, self.run)

    def store(self, name: str) -> ClientStore:
        """A client's own folder."""
        return ClientStore(self.root / "clients" / name, self.run)

    def party(self, name: str) -> ClientHandler:
        """A client in a new process."""
        return party(self.scenario, self.root, name, self.setting, policy_file=self.node.get(name))

    def say(self, name: str, body: Mapping[str, Any], payload: bytes = b"") -> Any:
        """Send one message; the reply's body and payload."""
        return tiny.say(self.party(name), "sum", {"run": self.run, **body}, payload)

    def body(self, step: str, name: str, /, **changes: Any) -> dict[str, Any]:
        """An honest message, with changes."""
        if step == "advertise":
            said = {"sum": self.asked.to_body(), "identities": self.identities()}
            return {"step": step, **said, **changes}
        body: dict[str, Any] = {"step": step, "round": self.asked.round}
        if step == "share":
            body |= {"histories": packed(self.histories())}
        body["message"] = self.message(step, name).hex()
        return {**body, **changes}

    def message(self, step: str, name: str) -> bytes:
        """What the protocol says at a step after the first."""
        what = {"share": "roster", "confirm": "outcome", "reveal": "request"}
        told: bytes = self.told["deliveries"][name] if step == "mask" else self.told[what[step]]
        return told

    def identities(self) -> dict[str, Any]:
        """The long-term keys of all who are invited."""
        return {n: self.store(n).identity.public.record() for n in self.asked.clients}

    def histories(self) -> dict[str, Statement]:
        """What those in the roster said of the sums that they remember."""
        said = self.replies["advertise"].items()
        return {name: Statement.read(body["history"]) for name, (body, _) in said}

    def until(self, last: str, drops: Mapping[str, str] | None = None) -> Hand:
        """Every step up to this one, closed, with those who do not drop out.

        Args:
            last: the last step.
            drops: the step from which on a client says nothing any more.
        """
        known = {n: PublicIdentity.read(r) for n, r in self.identities().items()}
        self.server = Server(self.terms, keys.verifier(known))
        takes = {
            "advertise": (self.server.add_advert, "roster", self.server.roster),
            "share": (self.server.add_shares, "deliveries", self.server.deliveries),
            "mask": (self.server.add_masked, "outcome", self.server.outcome),
            "confirm": (self.server.add_confirmation, "request", self.server.request),
            "reveal": (self.server.add_reveal, "sum", self.server.total),
        }
        for number, step in enumerate(STEPS[: STEPS.index(last) + 1]):
            add, what, close = takes[step]
            for name in self.server.expected:
                if STEPS.index((drops or {}).get(name, "reveal")) <= number and name in (
                    drops or {}
                ):
                    continue
                body, payload = self.replies[step][name] = self.say(name, self.body(step, name))
                add(name, payload if step == "mask" else bytes.fromhex(body["message"]))
            self.told[what] = close()
        return self


class Dropping(tiny.InProcess):
    """Clients of which some fall silent at a step of a sum.

    Args:
        args: of `tiny.InProcess`.
        drops: the step at which a client falls silent, by name.
        after: whether it still does that step, and only its reply is lost.
    """

    def __init__(self, *args: Any, drops: Mapping[str, str], after: bool = False) -> None:
        super().__init__(*args)
        self.drops, self.after = drops, after

    def answer(self, ask: Ask) -> Answer:
        """As `InProcess.answer`."""
        at = self.drops.get(ask.client)
        if ask.action != "sum" or at is None:
            return super().answer(ask)
        now = STEPS.index(ask.body["asked"]["step"])
        if now < STEPS.index(at):
            return super().answer(ask)
        if self.after and now == STEPS.index(at):
            super().answer(ask)
        return Answer(ask.client, ask.action, "missing", "it rains", {}, b"")


def last(store: ClientStore) -> dict[str, Any]:
    """The newest entry of a client's ledger."""
    return store.entries()[-1]
