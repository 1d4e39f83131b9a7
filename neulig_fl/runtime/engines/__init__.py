"""Engines carry the messages between the server app and the client apps; one file each.

An engine is a module with `run(job) -> None`, found by its file name. It runs the apps that the
job's scenario needs until the server app has written `outcome.json`, or raises what went wrong.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from neulig_fl.core import errors, variants
from neulig_fl.core.errors import EngineError, InputError, NeuligError, nearest
from neulig_fl.ledger import manifest
from neulig_fl.runtime.engines._environment import LOG_LEVEL as LOG_LEVEL
from neulig_fl.runtime.engines._processes import interruptible
from neulig_fl.runtime.node_config import RESUMED

OUTCOME, ERROR, LOG = manifest.OUTCOME, manifest.ERROR, "flower.log"
"""What a run leaves in its folder: the result, or the error, and what Flower printed."""

_LEFT = (
    OUTCOME, ERROR, LOG, manifest.FILE, manifest.PORTLAND, manifest.PREDICTIONS,
    manifest.RECEIPTS, manifest.TRUST,
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One run for an engine.

    Args:
        scenario_file: the resolved scenario, JSON.
        out: the run's folder; it exists.
        clients: how many clients the scenario has.
        client_cpus: CPU cores, and so threads, of one client.
        client_gpus: share of a GPU that one client takes.
        server_keys: the folder of the server's keys; None: fresh ones for this run.
        stores: the folder of the clients' stores; None: `clients` in the run's folder.
        address_book: the clients' keys, for each of them; None where they do not sum.
        with_reference: whether clients note how good their experts are, as only a simulation knows.
        begin: `new` or `resumed`, where the run can be resumed: what it needs for that is kept in
            its folder until it ends. None: nothing is kept.
    """

    scenario_file: Path
    out: Path
    clients: int
    client_cpus: int = 1
    client_gpus: float = 0.0
    server_keys: Path | None = None
    stores: Path | None = None
    address_book: Path | None = None
    with_reference: bool = True
    begin: str | None = None

    @property
    def clients_folder(self) -> Path:
        """The clients' stores, each by its client's name."""
        return self.stores or self.out / "clients"

    @property
    def config(self) -> dict[str, str]:
        """The run config of both apps: paths are absolute, because Flower's folders differ."""
        paths = {
            "scenario": self.scenario_file, "out": self.out, "server-keys": self.server_keys
        }  # fmt: skip
        found = {name: str(path.absolute()) for name, path in paths.items() if path is not None}
        return found if self.begin is None else {**found, "begin": self.begin}

    @property
    def node(self) -> dict[str, str]:
        """What every client's node knows by itself, where all nodes are this machine's."""
        book = self.address_book
        found = {"stores": str(self.clients_folder.absolute())}
        found |= {} if book is None else {"address-book": str(book.absolute())}
        return {**found, "reference": "yes"} if self.with_reference else found


def names() -> list[str]:
    """List the engines there are.

    Example:
        >>> names()
        ['local', 'simulation']
    """
    return [name for name in variants.names(__name__) if name[0] not in "-_"]


def load(engine: str) -> ModuleType:
    """Import one engine.

    Raises:
        InputError: there is no such engine; the message lists those that are.
    """
    if engine not in names():
        raise InputError(f"no engine is called {engine!r}; {nearest(engine, names())}")
    return variants.load(__name__, engine)


def run(engine: str, job: Job) -> None:
    """Run a job; on return `outcome.json` is in its folder.

    Raises:
        InputError: there is no such engine.
        KeyboardInterrupt, SystemExit: Ctrl-C, SIGTERM or SIGHUP; what was started is ended first.
        NeuligError: what the server app raised, of the same class and with the same message.
        EngineError: Flower could not run the apps.
    """
    module = load(engine)
    forget(job.out, but=() if job.begin != RESUMED else (LOG,))
    with interruptible():
        module.run(job)
    conclude(job.out)


def forget(out: Path, but: Sequence[str] = ()) -> None:
    """Take away what an earlier run left, so that it is not mistaken for this one's.

    Args:
        out: the run's folder.
        but: names of what stays.
    """
    for name in _LEFT:
        if name not in but:
            (out / name).unlink(missing_ok=True)


def set_aside(out: Path) -> None:
    """Move what a run that did not end left into `ended-N`: its receipts show what clients gave."""
    receipts = out / manifest.RECEIPTS
    if not receipts.is_file() or not receipts.stat().st_size:
        return
    target = next(
        path for path in (out / f"ended-{n}" for n in itertools.count(1)) if not path.exists()
    )
    target.mkdir(mode=0o700)
    for name in (*_LEFT, manifest.SCENARIO):
        if (out / name).exists():
            (out / name).rename(target / name)


def conclude(out: Path) -> None:
    """Return when the run succeeded; raise what the server app wrote down when it did not.

    Raises:
        NeuligError: the class, message and exit code of `error.json`.
        EngineError: the apps ended and left neither outcome nor error.
    """
    error = reported_error(out)
    if error is not None:
        raise error
    if not (out / OUTCOME).is_file():
        raise EngineError(
            f"the server app ended without a result; the end of {out / LOG} may say why"
        )


def reported_error(out: Path) -> NeuligError | None:
    """Read the error that the server app wrote to `error.json`; None without one."""
    try:
        record = json.loads((out / ERROR).read_text(encoding="utf-8"))
        name, message, code = record["type"], str(record["message"]), int(record["exit_code"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return EngineError(f"the server app failed and left {out / ERROR} unreadable: {error}")
    found = getattr(errors, str(name), None)
    if isinstance(found, type) and issubclass(found, NeuligError):
        return found(message)
    unknown = EngineError(message)
    unknown.exit_code = code
    return unknown
