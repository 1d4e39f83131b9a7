"""The handshake: what a client says of itself when a run begins, signed for that run alone.

The server draws a run's id at its start, opens the run with it (`opening`) and signs it with every
request. A client hello, or a ledger entry, of another run is therefore worth nothing in this one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from neulig_fl.core.errors import BadReply
from neulig_fl.ledger.chain import canonical
from neulig_fl.privacy.keys import Identity, PublicIdentity, signed_by

RUN = "run"
"""Where a message's body holds the run's id."""

_PURPOSE = "client hello"
_ID = re.compile(r"[0-9a-f]{32}")


def new_run() -> str:
    """A run's id: 128 random bits, hex."""
    return secrets.token_hex(16)


def is_run(said: object) -> bool:
    """Whether something can be a run's id.

    Example:
        >>> is_run("ab" * 16), is_run("../x"), is_run(7)
        (True, False, False)
    """
    return isinstance(said, str) and _ID.fullmatch(said) is not None


def client_hello(identity: Identity, client: str, version: str, run: str | None) -> dict[str, Any]:
    """What a client answers to `hello`.

    Args:
        identity: its keys.
        client: its name in the scenario.
        version: of neulig-fl there.
        run: the run that asks; without one the client hello is not signed.
    """
    said = {"client": client, "version": version, "identity": identity.public.record()}
    if run is None:
        return said
    return {**said, "signature": identity.sign(_PURPOSE, _message(said, run))}


def checked(body: Mapping[str, Any], client: str, run: str) -> PublicIdentity:
    """The identity in a client hello, if its owner made it for this run and this name.

    Args:
        body: as it came.
        client: who was asked.
        run: the run's id.

    Raises:
        BadReply: it is another client's, another run's, or not signed by the key that it names.
    """
    said = {k: v for k, v in body.items() if k != "signature"}
    if said.get("client") != client:
        raise BadReply(f"it says hello as client {str(said.get('client'))[:60]!r}")
    found = PublicIdentity.read(said.get("identity"))
    try:
        message = _message(said, run)
    except (ValueError, RecursionError) as error:
        raise BadReply("its client hello is not JSON-serialisable") from error
    if not signed_by(found.key, _PURPOSE, message, body.get("signature")):
        raise BadReply("its client hello is not signed by its key for this run")
    return found


def _message(said: Mapping[str, Any], run: str) -> bytes:
    return canonical({**said, RUN: run}).encode()
