"""summary.json: one scenario over several seeds; kept apart from the intervals of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neulig_fl import privacy
from neulig_fl.errors import InputError
from neulig_fl.files import PRIVATE, write_atomically
from neulig_fl.intervals import spread
from neulig_fl.report import contract, figures, rows, terminal

FILE_NAME = "summary.json"
_Key = tuple[str, str | None, str | None]
FIGURES = ("merge_accuracy", "ensemble_accuracy", "gap_of_means")
_HEADS = {"merge_accuracy": "Merge", "ensemble_accuracy": "Ens.", "gap_of_means": "Gap of means"}


def build(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The averages of each result over seeds, and what all seeds cost in differential privacy.

    A figure's mean, sd (sample) and ci95 (Student's t) are over all seeds; where one seed lacks the
    figure they are null, since a mean over the seeds that happened to succeed is another quantity.
    `values` has what each seed gave.

    Args:
        reports: validated reports of one scenario, one a seed.

    Returns:
        The summary, validated. Accuracies in percent, gaps in percentage points.

    Raises:
        InputError: no report, two of the same seed, or reports of different scenarios.
        RunError: the summary does not fit its schema.
    """
    if not reports:
        raise InputError("summary: no report was given; run the scenario with at least one seed")
    scenarios = [report["scenario"] for report in reports]
    seeds = [scenario["seed"] for scenario in scenarios]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"summary: seeds {seeds} are not all different; keep one report a seed")
    if len({scenario["hash"] for scenario in scenarios}) > 1:
        hashes = ", ".join(f"seed {s['seed']}: {s['hash'][:12]}" for s in scenarios)
        raise InputError(
            f"summary: the reports are of different scenarios ({hashes}); run all seeds again"
        )
    stages = list(dict.fromkeys(stage["name"] for report in reports for stage in report["stages"]))
    summary = {
        "schema_version": contract.SCHEMA_VERSION,
        "scenario": {key: scenarios[0][key] for key in ("name", "hash")},
        "seeds": seeds,
        "stages": [{"name": name, "results": _results(reports, name)} for name in stages],
        "privacy": privacy.over_seeds(reports),
    }
    validate(summary)
    return summary


def _results(reports: Sequence[Mapping[str, Any]], stage: str) -> list[dict[str, Any]]:
    averages = [_averages(report, stage) for report in reports]
    keys = list(dict.fromkeys(key for of_seed in averages for key in of_seed))
    return [
        {"method": method, "granularity": granularity, "variant": variant}
        | {
            figure: _over_seeds([a.get(key, {}).get(figure) for a in averages])
            for figure in FIGURES
        }
        for key in keys
        for method, granularity, variant in [key]
    ]


def _averages(report: Mapping[str, Any], stage: str) -> dict[_Key, dict[str, Any]]:
    return {
        (result["method"], result["granularity"], result["variant"]): result["average"] or {}
        for found in report["stages"]
        if found["name"] == stage
        for result in found["results"]
    }


def _over_seeds(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return {"mean": None, "sd": None, "ci95": None, "values": values}
    found = spread(known)
    return {**found, "ci95": list(found["ci95"]) if found["ci95"] else None, "values": values}


def validate(summary: Mapping[str, Any]) -> None:
    """Check a summary against `$defs/summary` of the report's schema.

    Raises:
        RunError: one line for each fault.
    """
    schema = contract.schema()
    against = {"$ref": "#/$defs/summary", "$defs": schema["$defs"]}
    contract.raise_faults(FILE_NAME, contract.schema_faults(summary, against))


def write(reports: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write `folder`/summary.json atomically.

    Raises:
        InputError, RunError: what `build` raises, or the disk refuses.
    """
    return write_atomically(folder / FILE_NAME, contract.to_json(build(reports)), PRIVATE)


def show(summary: Mapping[str, Any], console: Console) -> None:
    """Print a summary: averages over seeds as mean +- sd, the gap with its interval."""
    seeds = ", ".join(str(seed) for seed in summary["seeds"])
    terminal.heading(console, f"{summary['scenario']['name']}, over seeds {seeds}")
    for stage in summary["stages"]:
        console.print()
        tables = [_table(stage, join, gap) for join, gap in ((" ", 2), (" ", 1), ("\n", 1))]
        terminal.print_first_that_fits(console, tables)
    for sentence in rows.privacy(summary):
        console.print()
        console.print(Text(sentence, overflow="fold"))


def _table(stage: Mapping[str, Any], join: str, gap: int) -> Table:
    """One stage; joined by a new line, deviations and the interval stand below the means."""
    stacked = join == "\n"
    heads = [f"{_HEADS[figure]}{join}+- sd" for figure in FIGURES]
    ends = [f"{heads.pop()}\n95 % CI"] if stacked else [heads.pop(), "95 % CI"]
    table = terminal.empty_table([f"Stage {figures.plain(stage['name'])}", *heads, *ends], gap=gap)
    for result in rows.ordered(stage["results"]):
        name = rows.called(result)
        cells = [_cell(result[figure], figure, join) for figure in FIGURES]
        interval = figures.interval(result["gap_of_means"]["ci95"])
        if not stacked:
            cells.append(interval)
        elif interval != figures.NULL:
            cells[-1] += f"\n{interval}"
        table.add_row(*map(Text, [name, *cells]))
    return table


def _cell(found: Mapping[str, Any], figure: str, join: str) -> str:
    if found["mean"] is None:
        return figures.NULL
    shown = figures.signed if figure == "gap_of_means" else figures.number
    return f"{shown(found['mean'])}{join}+- {figures.number(found['sd'])}"
