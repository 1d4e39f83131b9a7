"""A client's side of secure sums: five messages, each answered from the stored state of one sum.

Every message may reach a new process. The state lies in the client's store, is there before a reply
leaves, and is of one sum: the first message of another takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from neulig_fl.client import gate
from neulig_fl.client.address_book import Pins
from neulig_fl.client.gate import Side
from neulig_fl.client.secagg import gate as sum_gate
from neulig_fl.client.secagg.gate import SumHoldings, Weighed
from neulig_fl.client.secagg.state import SumInProgress
from neulig_fl.core.errors import InputError
from neulig_fl.privacy import secagg
from neulig_fl.privacy.keys import PublicIdentity
from neulig_fl.privacy.secagg import ClientState, Terms
from neulig_fl.privacy.secagg.unmasking import Outcome
from neulig_fl.records.image_sets import ANY, ImageSets
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg import keys, peers
from neulig_fl.records.secagg.peers import Peers
from neulig_fl.records.secagg.requests import SumRequest, public_outputs

FIRST = {"step", "sum", "identities"}
"""What the body of the first message holds; those of the others hold `LATER`."""

LATER = {"step", "round", "message"}
STEPS = ("advertise", "share", "mask", "confirm", "reveal")

Reply = tuple[dict[str, Any], bytes]


@dataclass(frozen=True)
class Summing:
    """One message of a sum, and who answers it.

    Args:
        side: the client, and whose rules count.
        pins: keys that the other clients must have.
        holdings: what a vector is made of, by what is asked for.
        digest: identifies the message (`entrance.digest`).
        again: whether the same was asked before, of a process that died, or by a server that was
            resumed since.
    """

    side: Side
    pins: Pins
    holdings: Callable[[Request], SumHoldings]
    digest: str = ""
    again: bool = False

    def answer(self, body: Mapping[str, Any]) -> Reply:
        """Answer one message.

        Args:
            body: `step` of the sum, and what that step brings.

        Returns:
            The reply's details and payload: of `mask` the entry and the masked vector, of the other
            steps the protocol's message.

        Raises:
            ClientRefused: a policy, or the protocol, forbids it; the ledger has an entry.
        """
        with self.side.store.exclusive():
            step = body.get("step")
            if step == "advertise":
                return self._advertise(body)
            held, message = self._held(body)
            before = self._before(held)
            if before is not None:
                return before
            if step == "share":
                return self._share(held, message, body.get("histories"))
            if step == "mask":
                return self._mask(held, message)
            if step == "confirm":
                return self._confirm(held, message)
            return self._reveal(held, message)

    def _before(self, held: SumInProgress) -> Reply | None:
        """What was replied to the same message, where it is asked again; the state stays."""
        if not self.again or held.last.get("asked") != self.digest:
            return None
        if "reply" in held.last:
            return dict(held.last["reply"]), b""
        released = sum_gate.charge_again(self.side, held, self.holdings(held.asked.request))
        entry = released.entry
        reply = {"rows": released.rows, "sha256": entry["sha256"], "entry": entry}
        return reply, released.payload

    def _advertise(self, body: Mapping[str, Any]) -> Reply:
        asked, store = self._asked(body), self.side.store
        sum_gate.admit(self.side, asked, lambda: self._uninvited(asked))
        known = self._believed(asked, body.get("identities"))
        holdings = self.holdings(asked.request)
        terms, tag = self._terms(asked, holdings), store.tag("expert", holdings.expert)
        vector = Weighed(4 * terms.entries, asked.rows(holdings.rows_by_task), tag)
        with sum_gate.refusing(self.side, asked):
            columns = [peers.column(each) for each in known.values()]
            said = sum_gate.statement(self.side, tag, columns)
        sign = keys.signer(store.identity)
        state, sent = secagg.advertise(terms, self.side.client.name, sign, said.digest)
        held = SumInProgress(
            store.run or "",
            asked,
            state,
            identities={name: found.record() for name, found in known.items()},
            images=self._images(holdings),
            experts={self.side.client.name: tag},
        )
        sum_gate.join(self.side, held, asked.clients, vector)
        return self._kept(held, sent, history=said.to_body())

    def _images(self, holdings: SumHoldings) -> dict[str, str]:
        """Names of each task's set of images; its members are on the disk on return.

        So are those of all that the scenario asks outputs of: of what others released alone it must
        be known whether the images are these, or others.
        """
        sets, found = ImageSets(self.side.store.root), holdings.images_by_task
        for request in public_outputs(self.side.scenario):
            for ids in self.holdings(request).images_by_task.values() if found else ():
                if ids is not None:
                    sets.remember(ids)
        return {task: ANY if ids is None else sets.remember(ids) for task, ids in found.items()}

    def _share(self, held: SumInProgress, message: bytes, histories: object) -> Reply:
        sum_gate.admit(self.side, held.asked)
        holdings = self.holdings(held.asked.request)
        with sum_gate.refusing(self.side, held.asked):
            state, sent = secagg.share(held.state, message, keys.verifier(_known(held)))
            statements = peers.unpacked(histories)
        held = sum_gate.meet(self.side, replace(held, state=state), statements)
        rows, tag = held.asked.rows(holdings.rows_by_task), held.experts[self.side.client.name]
        vector = Weighed(4 * state.terms.entries, rows, tag)
        sum_gate.join(self.side, held, [*state.said], vector)
        return self._kept(held, sent)

    def _mask(self, held: SumInProgress, message: bytes) -> Reply:
        holdings = self.holdings(held.asked.request)
        sum_gate.admit(self.side, held.asked, holdings.fault)
        held = replace(held, last={"asked": self.digest})
        released = sum_gate.contribute(self.side, held, message, holdings)
        entry = released.entry
        # The entry is shown: it names the expert by tags that say nothing without the store's key.
        reply = {"rows": released.rows, "sha256": entry["sha256"], "entry": entry}
        return reply, released.payload

    def _confirm(self, held: SumInProgress, message: bytes) -> Reply:
        sum_gate.admit(self.side, held.asked)
        sign = keys.signer(self.side.store.identity)
        with sum_gate.refusing(self.side, held.asked):
            state, sent = secagg.confirm(held.state, message, sign)
        sum_gate.witness(self.side, held, _survivors(state))
        return self._kept(replace(held, state=state), sent)

    def _reveal(self, held: SumInProgress, message: bytes) -> Reply:
        sum_gate.admit(self.side, held.asked)
        with sum_gate.refusing(self.side, held.asked):
            state, sent = secagg.reveal(held.state, message, keys.verifier(_known(held)))
        return self._kept(replace(held, state=state), sent)

    def _kept(self, held: SumInProgress, sent: bytes, **more: object) -> Reply:
        """The reply, once the state that goes with it is on the disk."""
        last = {"asked": self.digest, "reply": {"message": sent.hex(), **more}}
        self.side.store.keep_sum(replace(held, last=last).to_bytes())
        return {"message": sent.hex(), **more}, b""

    # ------------------------------------------------------------ what came

    def _asked(self, body: Mapping[str, Any]) -> SumRequest:
        """What the first message asks for, if it is a request at all."""
        said = body.get("sum")
        request = said.get("request") if isinstance(said, dict) else None
        if set(body) != FIRST or not isinstance(request, dict) or self.side.store.run is None:
            gate.refuse(self.side, "the message is none of a secure sum")
        gate.understood(self.side, request)
        try:
            return SumRequest.from_body(said)
        except InputError as error:
            gate.refuse(self.side, error.public_reason or "the message is none of a secure sum")

    def _uninvited(self, asked: SumRequest) -> str | None:
        return None if self.side.client.name in asked.clients else "it is not invited to this sum"

    def _held(self, body: Mapping[str, Any]) -> tuple[SumInProgress, bytes]:
        """The sum in progress, if the message is of it, and what the message brings."""
        extra = {"histories"} if body.get("step") == "share" else set()
        number, message = body.get("round"), _bytes(body.get("message"))
        known = body.get("step") in STEPS and set(body) == LATER | extra
        if not known or not isinstance(number, str) or message is None:
            gate.refuse(self.side, "the message is none of a secure sum")
        kept = self.side.store.kept_sum()
        held = None if kept is None else SumInProgress.from_bytes(kept)
        if held is None or (held.run, held.asked.round) != (self.side.store.run, number):
            gate.refuse(self.side, "no such round of a secure sum is in progress")
        return held, message

    def _terms(self, asked: SumRequest, holdings: SumHoldings) -> Terms:
        run = self.side.store.run or ""
        try:
            return asked.terms(self.side.scenario, holdings.sizes, holdings.rows_by_task, run)
        except InputError as error:
            # What is wrong follows from the message and the scenario, which the server has.
            gate.refuse(self.side, str(error), asked.request)

    def _believed(self, asked: SumRequest, identities: object) -> dict[str, PublicIdentity]:
        store, name = self.side.store, self.side.client.name
        own = (name, store.identity.public)
        try:
            found = keys.believed(identities, asked.clients, self.pins.keys, own)
            others = {other: found[other].lineage[0] for other in found if other != name}
            Peers(store.root).believe(others, self.pins.by_owner)
            return found
        except InputError as error:
            reason = error.public_reason or "the clients' keys are wrong"
            gate.refuse(self.side, reason, asked.request)


def _bytes(text: object) -> bytes | None:
    try:
        return bytes.fromhex(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _known(held: SumInProgress) -> dict[str, PublicIdentity]:
    return {name: PublicIdentity.read(said) for name, said in held.identities.items()}


def _survivors(state: ClientState) -> tuple[str, ...]:
    return Outcome.read(state.outcome, state.terms.digest).survivors
