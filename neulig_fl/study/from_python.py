"""`neulig_fl.run`: a scenario from Python, and its reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from neulig_fl.config.scenario import Scenario
from neulig_fl.core.live import Live
from neulig_fl.core.run_folders import run_folder
from neulig_fl.report import Report
from neulig_fl.runtime import engines, machine
from neulig_fl.study.checking import open_given
from neulig_fl.study.runs import Kept, Show, run_opened


def run(
    scenario: str | Path | Mapping[str, Any] | Scenario,
    engine: str = "simulation",
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    show: Show | None = None,
    server_keys: Path | None = None,
    stores: str | Path | None = None,
    with_reference: bool = True,
    *,
    quiet: bool = False,
) -> Report | list[Report]:
    """Run a scenario and return its report, or one for each seed where it has `seeds`.

    It may be called from a script, from a notebook, and where an event loop runs; it returns when
    the run has ended.

    Args:
        scenario: the YAML file; or its keys and values as a mapping; or a `Scenario`. Relative
            paths of the latter two start from the current folder.
        engine: `simulation` (Flower on Ray) or `local` (the same apps in this process).
        out: the run's folder; `runs/NAME/TIME` below the current folder if not given.
        overrides: what replaces the scenario's values, by key, as {"experts.epochs": 2}; or texts
            as for `--set`.
        show: takes progress events, in the place of the display.
        server_keys: the folder of the server's keys, which clients can pin; fresh ones for each
            run if not given.
        stores: the folder of the clients' stores, one each, which outlive the run: their keys,
            ledgers and released records, and so their limits, hold over all runs with it. Fresh
            ones in the run's folder if not given.
        with_reference: whether each expert's own accuracy is measured, exactly and on no
            protected record; only a simulation has it.
        quiet: shows no progress; otherwise it goes to the standard error, or below the cell.

    Returns:
        The report, whose `path` says where it lies; with `seeds`, a list of them in that order,
        also where there is one seed.

    Raises:
        InputError: the scenario, its data or the folder cannot be used; nothing was run. Where no
            file holds the scenario, messages name the key.
        RunError: the run failed; trained experts stay in the cache.

    Example:
        report = neulig_fl.run("scenarios/quickstart.yaml", engine="local")
        print(report.result("merging", "neulig")["average"]["merge_accuracy"])
    """
    engines.load(engine)
    opened = open_given(scenario, overrides)
    machine.require(opened.scenario.resources, opened.name)
    kept = Kept(server_keys, None if stores is None else Path(stores), with_reference)
    live = nullcontext() if show or quiet else Live()
    with run_folder(opened.scenario.name, out) as folder, live as display:
        if display is not None:
            display({"note": f"{opened.name}: {engine} engine, in {folder}"})
        reports = run_opened(opened, engine, folder, show or display, kept)
    return reports if opened.scenario.seeds else reports[0]
