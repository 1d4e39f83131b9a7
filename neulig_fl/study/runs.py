"""One call from a scenario file to its report: the run's folder, the engine, the report.

A run's folder holds `scenario.yaml` (with every override and default; it runs the run again),
`given.yaml` (as it was given), `started.json` (how it was begun), and for every seed
`scenario.json` (what the apps read), `clients/NAME/` (each client's own store, where no other
folder was named), `flower.log`, `report.json`, `report.md`. With several seeds these lie in
`seed-N/`, and `summary.json` beside them. Until it ends, `unfinished/` has what it needs to go on.
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
from neulig_fl.core import progress, unfinished_runs
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
from neulig_fl.runtime.node_config import NEW
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
    write_atomically(folder / GIVEN_FILE, opened.text, PRIVATE)
    write_atomically(folder / SCENARIO_FILE, effective.text(opened), PRIVATE)
    write_overrides(folder, opened.overrides)
    given = Given(opened.scenario.hash, Path(opened.name).name, opened.overrides)
    whole = Whole(opened, given, engine, kept)
    unfinished_runs.write_started(folder, whole.started())
    return each_seed(whole, folder, lambda seed, own: run_seed(whole, seed, own, show))


@dataclass(frozen=True)
class Given:
    """What was asked for, as reports name it.

    Args:
        hash: of the scenario as it was given.
        file: name of the file that it was given in.
        overrides: what replaced the file's values.
    """

    hash: str
    file: str
    overrides: tuple[str, ...] = ()

    def record(self, name: str, seed: int) -> dict[str, Any]:
        """The report's `scenario`."""
        rest = {"file": self.file, "overrides": list(self.overrides)}
        return {"name": name, "seed": seed, "hash": self.hash, **rest}


@dataclass(frozen=True)
class Whole:
    """A run of all seeds.

    Args:
        opened: its scenario.
        given: where the scenario comes from.
        engine: that runs it.
        kept: what it takes from outside of its folder and leaves there.
    """

    opened: OpenedScenario
    given: Given
    engine: str
    kept: Kept

    def started(self) -> dict[str, Any]:
        """How it is begun, as JSON has it."""
        keys, stores = self.kept.server_keys, self.kept.stores
        return {
            "scenario": self.given.hash,
            "file": self.given.file,
            "engine": self.engine,
            "server_keys": None if keys is None else str(keys.absolute()),
            "stores": None if stores is None else str(stores.absolute()),
            "with_reference": self.kept.with_reference,
        }

    def of(self, seed: int) -> Scenario:
        """The scenario of one seed, as the apps read it."""
        return self.opened.resolved.model_copy(update={"seed": seed, "seeds": None})

    def job(self, seed: int, folder: Path) -> engines.Job:
        """What the engine gets for one seed."""
        one, kept = self.of(seed), self.kept
        job = engines.Job(
            scenario_file=folder / "scenario.json",
            out=folder,
            clients=len(one.clients),
            client_cpus=one.resources.client_cpus,
            client_gpus=one.resources.client_gpus,
            server_keys=kept.keys_of_server,
            stores=kept.stores,
            with_reference=kept.with_reference,
            begin=NEW,
        )
        book = address_book.introduce(one, job.clients_folder, folder / address_book.FILE)
        return replace(job, address_book=book)


def each_seed(whole: Whole, folder: Path, run_one: Callable[[int, Path], Report]) -> list[Report]:
    """A report for every seed, one after the other; then the summary, where there are several.

    Args:
        whole: the run.
        folder: of it.
        run_one: runs one seed in the folder that it gets.
    """
    seeds, stores = whole.opened.scenario.all_seeds, whole.kept.stores
    with held_stores(stores) if stores else nullcontext():
        places = {seed: folder / f"seed-{seed}" if len(seeds) > 1 else folder for seed in seeds}
        reports = [run_one(seed, own) for seed, own in places.items()]
    if len(seeds) > 1:
        over_seeds.write([r.data for r in reports], folder)
    return reports


def run_seed(whole: Whole, seed: int, folder: Path, show: Show | None) -> Report:
    """Run one seed from its beginning; what an earlier run left unfinished is erased."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    unfinished_runs.erase(folder)
    engines.set_aside(folder)
    dump(whole.of(seed), folder / "scenario.json")
    job = whole.job(seed, folder)
    for client in whole.of(seed).clients:
        store = job.clients_folder / client.name
        (store / REFERENCE).unlink(missing_ok=True)  # an earlier run's figures are not this one's
        if whole.kept.stores is None:  # nor is its server, whose keys were for that run alone
            Servers(store).forget()
    return go_through(whole, seed, job, show)


def go_through(whole: Whole, seed: int, job: engines.Job, show: Show | None) -> Report:
    """Have the engine do a job, and write the report."""
    start = time.perf_counter()
    if show and whole.opened.scenario.seeds:
        show({"note": f"seed {seed}"})
    clients = [job.clients_folder / client.name for client in whole.of(seed).clients]
    events = [folder / progress.FILE for folder in (job.out, *clients)]
    for file in events:
        file.unlink(missing_ok=True)
    with progress.Follower(events, show) if show else nullcontext():
        engines.run(whole.engine, job)
    return compose(whole, seed, job, time.perf_counter() - start)


def compose(whole: Whole, seed: int, job: engines.Job, seconds: float) -> Report:
    """The report: what the server found, beside what only the engine of a simulation knows."""
    read = whole.opened.scenario
    outcome = json.loads((job.out / engines.OUTCOME).read_text(encoding="utf-8"))
    return Report(
        composition.composed(
            outcome,
            scenario=whole.given.record(read.name, seed),
            engine=whole.engine,
            reference=reference(read, job),
            seconds=seconds,
        )
    ).write(job.out)


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
