"""The local engine: the real apps in this process, one client at a time, nothing started."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp

from neulig_fl.core.errors import EngineError, NeuligError
from neulig_fl.core.files import open_privately
from neulig_fl.runtime.engines import LOG, LOG_LEVEL, Job
from neulig_fl.runtime.engines._apps import app_dir, app_settings, importable, load_object
from neulig_fl.runtime.engines._local_grid import RUN_ID, SERVER_NODE, LocalGrid, server_identity

_LOGGER = logging.getLogger(__name__)


def run(job: Job, client_app: ClientApp | None = None, app: Path | None = None) -> None:
    """Run the server app and the client apps here.

    Args:
        job: what to run.
        client_app: run this in place of the apps' own, to see what the server makes of it.
        app: the apps' folder; by default those that come with neulig_fl.

    Raises:
        NeuligError: what the server app raised.
        EngineError: the server app raised anything else; its traceback is in `flower.log`.
    """
    folder = app or app_dir()
    settings = app_settings(folder)
    config = {**settings.get("config", {}), **job.config}
    with ExitStack() as stack:
        for manager in (importable(folder), logged(job.out / LOG), server_identity(), threads()):
            stack.enter_context(manager)
        try:
            server_app = load_object(settings["components"]["serverapp"])
            clients = client_app or load_object(settings["components"]["clientapp"])
            grid = LocalGrid(clients, _contexts(job, config), partial(threads, job.client_cpus))
            server_app(grid, _context(SERVER_NODE, config, {}))
        except NeuligError:
            raise
        except Exception as error:
            _LOGGER.exception("the server app raised")
            raise EngineError(
                f"the server app failed: {type(error).__name__}: {error}; "
                f"the traceback is in {job.out / LOG}"
            ) from error


def _contexts(job: Job, config: dict[str, Any]) -> list[Context]:
    count = job.clients
    return [
        _context(
            SERVER_NODE + 1 + i, config, {**job.node, "partition-id": i, "num-partitions": count}
        )
        for i in range(count)
    ]


def _context(node: int, config: dict[str, Any], node_config: dict[str, Any]) -> Context:
    return Context(
        run_id=RUN_ID,
        node_id=node,
        node_config=node_config,
        state=RecordDict(),
        run_config=dict(config),
    )


@contextmanager
def threads(count: int | None = None) -> Iterator[None]:
    """Give torch `count` threads (or leave them as they are), and restore them afterwards.

    Server and clients share this process here and set torch's threads each for themselves.
    """
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _PrivateLog(logging.FileHandler):
    """A log that is its owner's alone; on a full disk it ends, and the run tells of the disk."""

    def _open(self) -> TextIOWrapper:
        how = {"encoding": self.encoding, "errors": self.errors}
        opened: TextIOWrapper = open_privately(Path(self.baseFilename), self.mode, **how)  # type: ignore[assignment]
        return opened

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's)
        """Leave a line out: logging's own way is a traceback on the terminal."""

    def close(self) -> None:
        """Close the file, also where what is left to be written cannot be."""
        with suppress(OSError):
            super().close()


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Write to a file what neulig_fl, Flower and other libraries log, as the other engines do."""
    handler = _PrivateLog(file, encoding="utf-8", errors="backslashreplace", delay=True)
    level = os.environ.get(LOG_LEVEL, "info").upper()
    handler.setLevel(logging.getLevelNamesMapping().get(level, logging.INFO))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    flower, own = logging.getLogger("flwr"), logging.getLogger("neulig_fl")
    loggers = [logging.getLogger(), *([] if flower.propagate else [flower])]
    for logger in loggers:
        logger.addHandler(handler)
    before = own.level
    own.setLevel(handler.level)
    try:
        yield
    finally:
        own.setLevel(before)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
