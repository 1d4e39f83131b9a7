"""The opening: the server's signed statement with which a run begins, and that each client keeps.

It says what the run is: its id, the id under which Flower carries it, the scenario by its hash and
its seed, who takes part, and the server's keys. The client holds it against its own copy of the
scenario, and every later request against it.

A server whose process ended goes on with a run by a further statement: of the same run, with a
higher count and a new token. It replaces the one before, which can never come back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import BadReply
from neulig_fl.ledger.chain import canonical
from neulig_fl.ledger.handshake import RUN, is_run
from neulig_fl.privacy.keys import Identity, PublicIdentity, signed_by

OPENING = "opening"
"""Where the body of `hello` holds it."""

_PURPOSE = "opening of a run"
_KEYS = frozenset({
    RUN, "carrier", "scenario", "seed", "clients", "server", "resumed", "token", "signature"
})  # fmt: skip
_MOST_RESUMED = 2**20


@dataclass(frozen=True)
class Opening:
    """What a run is, as its server signed it.

    Args:
        run: the run's id, 128 random bits, hex.
        carrier: the id under which Flower carries it; empty where no Flower does.
        scenario: hash of the resolved scenario.
        seed: of this run.
        clients: names of all who take part, in the scenario's order.
        server: the server's keys.
        resumed: how often the server's process ended and another one went on with the run.
        token: of a process that goes on with the run, 128 random bits, hex; else empty. So what two
            processes say that go on with copies of one folder are two statements.
    """

    run: str
    carrier: str
    scenario: str
    seed: int
    clients: tuple[str, ...]
    server: PublicIdentity
    resumed: int = 0
    token: str = ""

    @staticmethod
    def of(scenario: Scenario, run: str, carrier: str, identity: Identity) -> Opening:
        """The opening of a run of a scenario.

        Args:
            scenario: resolved, with the seed of this run.
            run: the run's id.
            carrier: Flower's id of it.
            identity: the server's keys.
        """
        names = tuple(client.name for client in scenario.clients)
        return Opening(run, carrier, scenario.hash, scenario.seed, names, identity.public)

    def signed(self, identity: Identity) -> dict[str, Any]:
        """As it travels, and as clients keep it.

        Example:
            >>> own = Identity.new()
            >>> said = Opening("ab" * 16, "1", "", 0, ("ada",), own.public).signed(own)
            >>> Opening.read(said).clients
            ('ada',)
        """
        said = self._said()
        return {**said, "signature": identity.sign(_PURPOSE, canonical(said).encode())}

    def _said(self) -> dict[str, Any]:
        return {
            RUN: self.run,
            "carrier": self.carrier,
            "scenario": self.scenario,
            "seed": self.seed,
            "clients": list(self.clients),
            "server": self.server.record(),
            "resumed": self.resumed,
            "token": self.token,
        }

    @staticmethod
    def read(said: object) -> Opening:
        """What `signed` made, signed by the key that it names.

        Raises:
            BadReply: it is none, or the signature is not right.
        """
        if not isinstance(said, dict) or set(said) != _KEYS:
            raise BadReply.public("a run begins with the server's signed statement of what it is")
        texts = (said[RUN], said["carrier"], said["scenario"])
        names = said["clients"]
        shaped = all(isinstance(text, str) for text in texts) and type(said["seed"]) is int
        named = isinstance(names, list) and all(isinstance(name, str) for name in names)
        count, token = said["resumed"], said["token"]
        counted = type(count) is int and 0 <= count <= _MOST_RESUMED
        lived = counted and (is_run(token) if count else token == "")
        if not (shaped and named and lived and is_run(said[RUN])):
            raise BadReply.public("the statement with which the run begins is malformed")
        server = PublicIdentity.read(said["server"])
        message = canonical({k: v for k, v in said.items() if k != "signature"}).encode()
        if not signed_by(server.key, _PURPOSE, message, said["signature"]):
            raise BadReply.public(
                "the statement with which the run begins is not signed by the key it names"
            )
        return Opening(*texts, said["seed"], tuple(names), server, count, token)

    def continues(self, before: Opening) -> bool:
        """Whether it goes on with a run that began with another statement.

        Only Flower's id of the run may differ, beside the count, which must be higher.

        Example:
            >>> own = Identity.new()
            >>> first = Opening("ab" * 16, "1", "", 0, ("ada",), own.public)
            >>> second = Opening("ab" * 16, "2", "", 0, ("ada",), own.public, 1, "cd" * 16)
            >>> second.continues(first), first.continues(second), second.continues(second)
            (True, False, False)
        """
        same = replace(self, carrier=before.carrier, resumed=before.resumed, token=before.token)
        return self.resumed > before.resumed and same == before

    def problem(self, scenario: Scenario, carrier: str) -> str | None:
        """Why a client does not take part; None when the run is what it knows it to be.

        Args:
            scenario: the client's own copy.
            carrier: Flower's id of the run, as the client has it.
        """
        if self.carrier != carrier:
            return f"the run began as Flower's {self.carrier[:40]!r} and comes as {carrier[:40]!r}"
        if (self.scenario, self.seed) != (scenario.hash, scenario.seed):
            return (
                f"the run is of scenario {self.scenario[:16]} with seed {self.seed}, and here is "
                f"{scenario.hash[:16]} with seed {scenario.seed}; give both sides one scenario.json"
            )
        return None
