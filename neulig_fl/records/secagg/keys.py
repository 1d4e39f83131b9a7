"""Whose long-term keys sign in a secure sum, and how a client holds others to theirs.

The keys that mask a sum are made for it alone; long-term keys sign them, so that a server cannot
put its own in their place. A client gets the others' long-term keys from the server, and takes none
that it cannot hold against a key from elsewhere: the scenario's `trust`, its node's address book.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from neulig_fl.core.errors import BadReply, InputError
from neulig_fl.privacy.keys import Identity, PublicIdentity, signed_by
from neulig_fl.privacy.secagg import Sign, Verify

PURPOSE = "secure sum"


def signer(identity: Identity) -> Sign:
    """What signs for a client in a sum."""

    def sign(message: bytes) -> bytes:
        return identity.sign(PURPOSE, message).encode("ascii")

    return sign


def verifier(known: Mapping[str, PublicIdentity]) -> Verify:
    """What checks signatures in a sum; that of a client who is not known is wrong.

    Example:
        >>> ada = Identity.new()
        >>> verify = verifier({"ada": ada.public})
        >>> verify("ada", b"said", signer(ada)(b"said")), verify("bob", b"said", b"")
        (True, False)
    """

    def verify(client: str, signed: bytes, signature: bytes) -> bool:
        found = known.get(client)
        text = signature.decode("ascii", "replace")
        return found is not None and signed_by(found.key, PURPOSE, signed, text)

    return verify


def believed(
    records: object,
    invited: Collection[str],
    pins: Mapping[str, Collection[str]],
    own: tuple[str, PublicIdentity],
) -> dict[str, PublicIdentity]:
    """The others' long-term keys as a server says them, if they can be right.

    Args:
        records: `PublicIdentity.record` of each client, by name; may be anything.
        invited: names that may be among them.
        pins: keys that each other client must have, or have handed over, by name.
        own: this client's name and identity, which must be among them.

    Raises:
        InputError: an identity is none, is missing, is not the pinned one, is another client's too,
            or is of somebody whom nobody invited or pinned, or this client's own is not there as
            it is.
    """
    if not isinstance(records, dict):
        raise _wrong("the clients' keys are missing")
    found = {}
    for name, record in records.items():
        if name not in invited:
            raise _wrong(f"keys of {str(name)[:60]!r} came, who is not invited")
        found[name] = _identity(name, record)
        if name == own[0]:
            continue
        if name not in pins:
            raise _wrong(
                f"no key of {name} is pinned here; put it in the scenario's trust or in the node's "
                "address book"
            )
        for pin in pins[name]:
            if pin not in found[name].lineage:
                said = found[name].key
                raise _wrong(f"the key of {name} is {said} and not the pinned one, {pin}")
    missing = [name for name in invited if name not in found]
    if missing:
        raise _wrong(f"the keys of {missing[0]} are missing")
    if len({known.lineage[0] for known in found.values()}) < len(found):
        raise _wrong("two clients have the same key")
    if found.get(own[0]) != own[1]:
        raise _wrong("its own keys are missing, or are not its own there")
    return found


def _identity(name: str, record: Any) -> PublicIdentity:
    try:
        return PublicIdentity.read(record)
    except BadReply as error:
        raise _wrong(f"of {name}: {error}") from error


def _wrong(problem: str) -> InputError:
    return InputError(f"secure sum: {problem}; nothing was sent", public_reason=problem)
