"""The Flower ServerApp: a shell around `neulig_fl.study.server_loop`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from neulig_fl.config.scenario import Scenario, load_resolved
from neulig_fl.core.errors import NeuligError
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.core.progress import FILE, to_file
from neulig_fl.ledger import key_store
from neulig_fl.runtime.flower_messages import FlowerTransport
from neulig_fl.runtime.node_config import RESUMED, ServerConfig, server_config
from neulig_fl.server import unfinished
from neulig_fl.server.unfinished import Unfinished
from neulig_fl.study.server_loop import error_record, serve

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the scenario's stages; leave `outcome.json`, or `error.json` and the error itself."""
    config = server_config(context)
    try:
        scenario = load_resolved(config.scenario)
        torch.set_num_threads(scenario.resources.server_threads)
        names = [client.name for client in scenario.clients]
        progress = to_file(config.out / FILE)
        transport = FlowerTransport(grid, names, scenario.timeouts.hello, progress.note)
        with _kept(config, scenario) as kept:
            own = None if kept or config.keys is None else key_store.identity(config.keys)
            trust = scenario.trust
            serve(scenario, scenario.seed, transport, config.out, progress, trust, own, kept)
    except NeuligError as error:
        _write_error(config.out, error)
        raise


@contextmanager
def _kept(config: ServerConfig, scenario: Scenario) -> Iterator[Unfinished | None]:
    """What another process needs to go on with the run, where whoever started it can resume it."""
    if config.begin is None:
        yield None
        return
    begin = unfinished.resumed if config.begin == RESUMED else unfinished.begun
    with begin(config.out, scenario, config.keys) as kept:
        yield kept


def _write_error(out: Path, error: NeuligError) -> None:
    text = json.dumps(error_record(error))
    write_atomically(out / "error.json", text, PRIVATE)
