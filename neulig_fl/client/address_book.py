"""A node's address book: the public keys of the clients that it sums with, by name, in a JSON file.

In a secure sum the server hands the clients' keys round, and could put its own in their place; so a
client sums with those alone whose keys it has from elsewhere: from the scenario's `trust`, or from
this file, which its owner writes. In a simulation, where one user owns all clients, whoever starts
the run makes their keys and writes the file (`introduce`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neulig_fl.client.store import KEYS
from neulig_fl.config.scenario import Scenario
from neulig_fl.core import strict_json
from neulig_fl.core.errors import InputError
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.ledger import key_store
from neulig_fl.privacy.keys import SIGNING, public_bytes

FILE = "address-book.json"


def read(path: Path) -> dict[str, str]:
    """The keys in an address book.

    Args:
        path: of the file.

    Raises:
        InputError: it cannot be read, or is not names and keys.
    """
    try:
        said = strict_json.parsed(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _wrong(path, f"cannot be read ({error})") from error
    if not isinstance(said, dict):
        raise _wrong(path, "is not a JSON object")
    for name, key in said.items():
        if public_bytes(key, SIGNING) is None:
            raise _wrong(path, f"has {str(key)[:60]!r} as the key of {name[:60]!r}")
    return {str(name): str(key) for name, key in said.items()}


@dataclass(frozen=True)
class Pins:
    """The clients that one may sum with.

    Args:
        keys: those that each must have, or have handed over, by name.
        by_owner: whether the node's owner said them, who may also change them.
    """

    keys: Mapping[str, tuple[str, ...]]
    by_owner: bool


def pins(path: Path | None, trust: Mapping[str, str]) -> Pins:
    """The clients that one may sum with, by an address book or else by the scenario.

    Whoever writes a scenario can invent clients and pin their keys; so where a node has an address
    book, it sums with those alone who stand there, whatever the scenario adds.

    Args:
        path: of the address book; None where the node has none.
        trust: the scenario's.

    Raises:
        InputError: the address book cannot be used.

    Example:
        >>> pins(None, {"bob": "ed25519:..."}).by_owner
        False
    """
    known = trust if path is None else read(path)
    each = {name: (key, *([trust[name]] if name in trust else [])) for name, key in known.items()}
    return Pins(each, path is not None)


def introduce(scenario: Scenario, stores: Path, file: Path) -> Path | None:
    """Make the keys of a simulation's clients where they sum, and tell each the others'.

    Args:
        scenario: of the run.
        stores: the folder of the clients' stores.
        file: where the address book goes.

    Returns:
        `file`; None where no stage shares anything within sums.
    """
    if not any(share.in_sums for stage in scenario.stages for share in stage.share):
        return None
    found = {}
    for client in scenario.clients:
        key_store.private_folder(stores / client.name)
        identity = key_store.identity(stores / client.name / KEYS)
        found[client.name] = identity.public.lineage[0]
    return write_atomically(file, json.dumps(found, indent=1) + "\n", PRIVATE)


def _wrong(path: Path, problem: str) -> InputError:
    what = f'allowed: a JSON object such as {{"bob": "{SIGNING}:..."}}'
    return InputError(
        f"address book {path}: {problem}; {what}",
        public_reason="its address book cannot be used",
    )
