"""`neulig-fl keys`: a party's public key to tell its partners; made, or renewed, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neulig_fl.cli.streams import echo


def keys(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of the keys; created if missing.")
    ],
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate",
            help="Rotate the keys: the old key signs the new one; pins of the old key stay valid.",
        ),
    ] = False,
) -> None:
    """Print the public key of a client or server, for partners to pin, and its fingerprint.

    Missing keys are generated; only their owner can read them. A client's keys are in `keys` in its
    store, or in the folder that `keys` in its node config names; the server's are in the folder
    given as `run --server-keys`. Only public keys are printed. Compare fingerprints out of band,
    for example by telephone.

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
