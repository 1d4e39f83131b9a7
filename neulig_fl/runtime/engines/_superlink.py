"""Where a run's SuperLink is: at a socket in the workplace, whose folder nobody else can enter.

On a TCP port Flower's SuperLink takes runs from every process of the machine, since accounts need
an identity provider, and the token of a task stands on a command line that all users can read. So
it listens on no port. Flower gets a host name that leads nowhere: what would not go through the
socket fails.

Source of the name: RFC 2606, section 2.
"""

from __future__ import annotations

import os
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

from neulig_fl.runtime.engines._processes import MARK

HOST, PORT = "superlink.invalid", 1
ADDRESS = f"{HOST}:{PORT}"
"""What Flower's commands are told; it is never looked up."""

SERVER = "flower-superlink"


def socket_file(root: Path) -> Path:
    """Name the socket of a workplace's SuperLink."""
    return root / "superlink.sock"


def within_workplace(name: str) -> None:
    """Make a command of Flower's, once it is loaded, listen or call at its workplace's socket.

    Args:
        name: the command; this process runs it and nothing else.
    """
    file = str(socket_file(Path(os.environ[MARK])))
    if name == SERVER:
        _listen_at(file)
    else:
        _call_at(file)


def _listen_at(file: str) -> None:
    """Flower's server, Uvicorn, takes a socket's file before a host and a port."""
    uvicorn = vars(import_module("flwr.superlink.cli.flower_superlink"))["uvicorn"]
    uvicorn.run = partial(uvicorn.run, uds=file)


def _call_at(file: str) -> None:
    """All requests of Flower's commands go through the HTTP client of one class."""
    from flwr.supercore.protobuf import client

    httpx, make = vars(client)["httpx"], client.ProtobufClient.__init__

    @wraps(make)
    def init(self: Any, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        to_a_port, at_socket = self._client, httpx.HTTPTransport(uds=file)
        self._client = httpx.Client(
            transport=at_socket,
            timeout=to_a_port.timeout,
            follow_redirects=to_a_port.follow_redirects,
            trust_env=False,
        )
        to_a_port.close()

    client.ProtobufClient.__init__ = init  # type: ignore[method-assign]
