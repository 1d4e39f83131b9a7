"""What a run's config and a node's config tell the two apps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context

from neulig_fl.core.errors import InputError

NEW, RESUMED = "new", "resumed"
"""How a server begins a run that can be resumed."""

OF_ONE_MACHINE = ("stores", "address-book", "reference")
"""What the environment says of the nodes of a simulation, whose node configs Flower makes."""


@dataclass(frozen=True)
class ServerConfig:
    """What the run's config tells the server.

    Args:
        scenario: the resolved scenario.
        out: the run's folder.
        keys: the folder of the server's keys; None: fresh ones for each run.
        begin: `new` or `resumed`, where what a run needs to go on is kept in its folder; None
            where whoever started it could not resume it.
    """

    scenario: Path
    out: Path
    keys: Path | None
    begin: str | None = None


@dataclass(frozen=True)
class ClientConfig:
    """What a client knows of a run and of its node. Where things lie, the node alone says.

    Args:
        scenario: the resolved scenario.
        partition: which of the scenario's clients this node is, counted from 0.
        place: where this client keeps what must last, when its node config says so.
        stores: the folder of all clients' stores, where one machine is all nodes.
        reference: whether the client notes how good its expert is, as in a simulation.
        keys: where its keys lie, when its node config says so.
        policy: the node's own policy file, when its node config names one. What stands there but
            is no path of a policy is handed on too, because it must not read as no policy.
        server: the server's public key as this node knows it; what is no key is handed on too, and
            no server has it.
        address_book: the node's file of other clients' keys, if it has one.
    """

    scenario: Path
    partition: int
    place: Path | None
    stores: Path | None
    reference: bool
    keys: Path | None
    policy: Path | None
    server: str | None
    address_book: Path | None

    def store(self, client: str) -> Path:
        """The folder of a client's store.

        Raises:
            InputError: the node says none. Whoever starts a run must not choose it: in a new one no
                limit was ever reached.
        """
        if self.place is not None and self.place.is_absolute():
            return self.place
        if self.stores is not None:
            return self.stores / client
        reason = f"the node config's store must be an absolute path, got {self.place or 'none'}"
        advice = "set it with --node-config 'store=\"PATH\"'"
        raise InputError(f"{reason}; {advice}", public_reason=reason)


def server_config(context: Context) -> ServerConfig:
    """Read the run's config.

    Raises:
        InputError: `scenario` or `out` is not set.
    """
    keys = context.run_config.get("server-keys")
    known = Path(str(keys)) if keys else None
    begin = context.run_config.get("begin") or None
    if begin not in (None, NEW, RESUMED):
        reason = f"the run config's begin is {begin!r}; allowed: {NEW}, {RESUMED}, or nothing"
        raise InputError(reason, public_reason=reason)
    return ServerConfig(_path(context, "scenario"), _path(context, "out"), known, begin)


def client_config(context: Context) -> ClientConfig:
    """Read the run's config and the node's.

    Raises:
        InputError: `scenario` or the node's `partition-id` is not set.
    """
    partition = context.node_config.get("partition-id")
    if not isinstance(partition, int) or partition < 0:
        reason = f"the node config's partition-id must be an integer from 0, got {partition!r}"
        raise InputError(f"{reason}; set it with --node-config", public_reason=reason)
    here = {key: os.environ.get(node_variable(key)) for key in OF_ONE_MACHINE}
    said = {**here, **context.node_config}
    words = {k: None if v is None else str(v) for k, v in said.items()}
    paths = {k: None if v is None else Path(v) for k, v in words.items()}
    return ClientConfig(
        scenario=_path(context, "scenario"),
        partition=partition,
        place=paths.get("store"),
        stores=paths.get("stores"),
        reference=words.get("reference") == "yes",
        keys=paths.get("keys"),
        policy=paths.get("policy"),
        server=words.get("server"),
        address_book=paths.get("address-book"),
    )


def node_variable(key: str) -> str:
    """The environment variable that stands for a key of the node config.

    Example:
        >>> node_variable("address-book")
        'NEULIG_NODE_ADDRESS_BOOK'
    """
    return f"NEULIG_NODE_{key.upper().replace('-', '_')}"


def _path(context: Context, key: str) -> Path:
    value = context.run_config.get(key)
    if not isinstance(value, str) or not value:
        reason = f"the run config's {key} must be a path, got {value!r}"
        advice = f"set it with --run-config '{key}=\"PATH\"'"
        raise InputError(f"{reason}; {advice}", public_reason=reason)
    return Path(value)
