"""`neulig-fl keys`: a party's public key to tell its partners; made, or renewed, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neulig_fl.cli.streams import echo


def keys(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of the keys; made if need be.")
    ],
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate",
            help="Make new keys, to which the old ones hand over: a pin of an old key still holds.",
        ),
    ] = False,
) -> None:
    """Print a party's public key, which partners pin, and its fingerprint, to compare by voice.

    Keys that are not there are made; only their owner can read them. A client's folder is `keys` in
    its store, or what its node config's `keys` names; the server's is what `run --server-keys`
    names. Only public keys are printed.

    [bold]Examples[/]
      neulig-fl keys ~/neulig/keys
      neulig-fl keys ~/neulig/keys --rotate
    """
    from neulig_fl.client.store import KEYS
    from neulig_fl.core.errors import InputError
    from neulig_fl.ledger import key_store
    from neulig_fl.privacy.keys import fingerprint

    store = folder / KEYS
    if store.is_dir() and not (folder / key_store.SIGNING_FILE).exists():
        raise InputError(
            f"{folder} is a client's store, and its keys lie in {store}; give that folder"
        )
    found = key_store.rotate(folder) if rotate else key_store.identity(folder)
    echo(found.key)
    echo(f"fingerprint {fingerprint(found.key)}")
