"""One call from a scenario file to its report: the run's folder, the engine, the report.

A run's folder holds `scenario.yaml` (with every override and default; it runs the run again),
`given.yaml` (as it was given), and for every seed `scenario.json` (what the apps read),
`clients/NAME/` (each client's own store, where no other folder was named), `flower.log`,
`report.json`, `report.md`. With several seeds these lie in `seed-N/`, and `summary.json` beside
them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neulig_fl.client import address_book
from neulig_fl.client.server_identity import Servers
from neulig_fl.config import effective
from neulig_fl.config.scenario import OpenedScenario, Scenario, dump
from neulig_fl.config.values import SERVER
from neulig_fl.core import progress
from neulig_fl.core.files import PRIVATE, sweep, write_atomically
from neulig_fl.core.run_folders import (
    GIVEN_FILE,
    SCENARIO_FILE,
    held_stores,
    run_folder,
    write_overrides,
)
from neulig_fl.report import Report, composition
from neulig_fl.runtime import engines, machine
from neulig_fl.study import over_seeds
from neulig_fl.study.checking import open_scenario

Show = Callable[[progress.Event], None]

REFERENCE = "reference.json"
"""In a client's store, in a simulation: its expert's own accuracy."""

LEFT_OUT = "left out, as asked: these are exact figures on no protected record"
"""Why a report has no experts' own accuracies."""


@dataclass(frozen=True)
class Kept:
    """What a run takes from outside of its folder and leaves there, and what it leaves out.

    Args:
        server_keys: the folder of the server's keys; if None, `server` among the stores that are
            kept, since clients know their server again, and else fresh ones for the run.
        stores: the folder of the clients' stores; in the run's folder if None.
        with_reference: whether each expert's own accuracy is measured.
    """

    server_keys: Path | None = None
    stores: Path | None = None
    with_reference: bool = True

    @property
    def keys_of_server(self) -> Path | None:
        """Where the server's keys lie; None: nowhere."""
        if self.server_keys is not None or self.stores is None:
            return self.server_keys
        return self.stores / SERVER


NOTHING_KEPT = Kept()
"""Fresh keys and stores for one run."""


def run(
    scenario: str | Path,
    engine: str = "simulation",
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    show: Show | None = None,
    server_keys: Path | None = None,
    stores: str | Path | None = None,
    with_reference: bool = True,
) -> Report:
    """Run the scenario of a file that has one seed, and return its report.

    Args:
        scenario, engine, out, overrides, show: as for `run_seeds`.
        server_keys, stores, with_reference: as for `Kept`.

    Returns:
        The report (the last seed's, when there are several).

    Raises:
        InputError, RunError: as for `run_seeds`.
    """
    kept = Kept(server_keys, None if stores is None else Path(stores), with_reference)
    return run_seeds(scenario, engine, out, overrides, show, kept)[-1]


def run_seeds(
    scenario: str | Path,
    engine: str = "simulation",
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    show: Show | None = None,
    kept: Kept = NOTHING_KEPT,
) -> list[Report]:
    """Run the scenario of a file; a report for every seed, in order.

    Args:
        scenario: the YAML file.
        engine: `simulation` (Flower on Ray) or `local` (the same apps in this process).
        out: the run's folder; `runs/NAME/TIME` below the current folder if not given.
        overrides: `key.sub=value` settings that replace the file's.
        show: takes progress events.
        kept: what is taken from outside of the run's folder.

    Raises:
        InputError: the scenario, its data or the folder cannot be used; nothing was run.
        RunError: the run failed; trained experts stay in the cache.
    """
    engines.load(engine)
    opened = open_scenario(scenario, overrides)
    machine.require(opened.scenario.resources, opened.name)
    with run_folder(opened.scenario.name, out) as folder:
        return run_opened(opened, engine, folder, show, kept)


def run_opened(
    opened: OpenedScenario,
    engine: str,
    folder: Path,
    show: Show | None = None,
    kept: Kept = NOTHING_KEPT,
) -> list[Report]:
    """Run a scenario that was read, in a folder that is this run's alone (`run_folder`)."""
    read = opened.scenario
    write_atomically(folder / GIVEN_FILE, opened.text, PRIVATE)
    write_atomically(folder / SCENARIO_FILE, effective.text(opened), PRIVATE)
    write_overrides(folder, opened.overrides)
    many = len(read.all_seeds) > 1
    reports = []
    with held_stores(kept.stores) if kept.stores else nullcontext():
        for seed in read.all_seeds:
            own = folder / f"seed-{seed}" if many else folder
            reports.append(_run_seed(opened, seed, engine, own, show, kept))
    if many:
        over_seeds.write([r.data for r in reports], folder)
    return reports


def _run_seed(
    opened: OpenedScenario,
    seed: int,
    engine: str,
    folder: Path,
    show: Show | None,
    kept: Kept,
) -> Report:
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    engines.set_aside(folder)
    read = opened.scenario
    one = opened.resolved.model_copy(update={"seed": seed, "seeds": None})
    scenario_file = folder / "scenario.json"
    dump(one, scenario_file)
    if show and read.seeds:
        show({"note": f"seed {seed}"})
    events = folder / progress.FILE
    events.unlink(missing_ok=True)
    job = engines.Job(
        scenario_file=scenario_file,
        out=folder,
        clients=len(one.clients),
        client_cpus=one.resources.client_cpus,
        client_gpus=one.resources.client_gpus,
        server_keys=kept.keys_of_server,
        stores=kept.stores,
        with_reference=kept.with_reference,
    )
    book = address_book.introduce(one, job.clients_folder, folder / address_book.FILE)
    job = replace(job, address_book=book)
    for client in one.clients:
        store = job.clients_folder / client.name
        (store / REFERENCE).unlink(missing_ok=True)  # an earlier run's figures are not this one's
        if kept.stores is None:  # nor is its server, whose keys were for that run alone
            Servers(store).forget()
    with progress.Follower(events, show) if show else nullcontext():
        engines.run(engine, job)
    return _compose(read, seed, engine, job, time.perf_counter() - start).write(folder)


def _compose(read: Scenario, seed: int, engine: str, job: engines.Job, seconds: float) -> Report:
    """The report: what the server found, beside what only the engine of a simulation knows."""
    outcome = json.loads((job.out / engines.OUTCOME).read_text(encoding="utf-8"))
    return Report(
        composition.composed(
            outcome,
            scenario={"name": read.name, "seed": seed, "hash": read.hash},
            engine=engine,
            reference=reference(read, job),
            seconds=seconds,
        )
    )


def reference(read: Scenario, job: engines.Job) -> dict[str, Any]:
    """Ground truth that only a simulation can know: how good each expert is on its own task.

    The clients note it in their stores; the engine, which owns all of them here, collects it. The
    server never sees it.
    """
    if not job.with_reference:
        return {"experts": [], "reason": LEFT_OUT}
    facts = []
    for client in read.clients:
        path = job.clients_folder / client.name / REFERENCE
        if path.is_file():
            facts += json.loads(path.read_text(encoding="utf-8"))["experts"]
    facts.sort(key=lambda fact: str(fact["group"]))
    reason = None if facts else "no client noted how good its expert is"
    return {"experts": facts, "reason": reason}
