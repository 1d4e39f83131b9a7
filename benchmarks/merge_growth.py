"""How the cost of merging a network for every sample grows with experts and with the batch.

    python benchmarks/merge_growth.py --model ViT-B-32 --threads 2

Runs `neulig-fl bench merge` for several numbers of experts and for several batches, each in a
process of its own, and writes a table (Markdown) and a plot (PNG). Every point is kept in a JSON
file as soon as it is measured: the same command goes on where it was stopped. Figures are ratios
to one model's forward pass in the same process; progress goes to the standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from neulig_fl.cli import exits
from neulig_fl.core.errors import InputError, NeuligError, RunError
from neulig_fl.core.files import replace_atomically, write_atomically
from neulig_fl.study.bench import merge

RESULTS = Path(__file__).with_name("results")
METHODS = ("single", "ensemble", "batched")
FEW, MANY, GOAL = 5, 20, 40
"""From the first to the second number of experts the cost grows by less than so many per cent."""

Found = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One measurement.

    Args:
        experts: how many.
        batch: samples.
    """

    experts: int
    batch: int


Measure = Callable[[argparse.Namespace, Point], Found]


def points(asked: argparse.Namespace) -> list[Point]:
    """What is measured: experts at one batch, then batches with one number of experts."""
    found = [Point(experts, asked.at_batch) for experts in asked.experts]
    found += [Point(asked.at_experts, batch) for batch in asked.batches]
    return list(dict.fromkeys(found))


def in_a_process(asked: argparse.Namespace, point: Point) -> Found:
    """Measure one point in a new process, so that its peak memory is its own.

    Raises:
        RunError: the process failed; it has said why.
    """
    command = [sys.executable, "-m", "neulig_fl", "bench", "merge", "--json"]
    command += ["--model", asked.model, "--seed", str(asked.seed)]
    command += ["--experts", str(point.experts), "--batch", str(point.batch)]
    command += ["--repeats", str(asked.repeats), "--methods", ",".join(asked.methods)]
    command += ["--pretrained", asked.pretrained] if asked.pretrained else ["--random-weights"]
    command += ["--threads", str(asked.threads)] if asked.threads else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RunError(
            f"{point.experts} experts, batch {point.batch}: `neulig-fl bench merge` failed with "
            f"exit code {done.returncode}, and says above why; points so far are kept"
        )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def settings(asked: argparse.Namespace) -> dict[str, Any]:
    """What all points of one file have in common."""
    said = {name: getattr(asked, name) for name in ("model", "pretrained", "seed", "threads")}
    own = {"repeats": asked.repeats, "methods": list(asked.methods)}
    return {**said, **own, "cpus": os.cpu_count(), "torch": version("torch")}


def kept(asked: argparse.Namespace) -> dict[Point, Found]:
    """The points that were measured before.

    Raises:
        InputError: the file cannot be read, or is of other settings.
    """
    file = place(asked, "json")
    if not file.exists():
        return {}
    advice = "delete it, or give another folder with --out"
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        before, found = held["settings"], held["points"]
        points_of = {Point(each["experts"], each["batch"]): each for each in found}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: cannot be read as points; {advice}") from error
    now = settings(asked)
    other = [f"{k} {before.get(k)}, not {v}" for k, v in now.items() if before.get(k) != v]
    if other:
        raise InputError(f"{file}: was measured with {'; '.join(other)}; {advice}")
    return points_of


def keep(asked: argparse.Namespace, found: dict[Point, Found]) -> None:
    """Write every point measured so far."""
    held = {"settings": settings(asked), "points": list(found.values())}
    write_atomically(place(asked, "json"), json.dumps(held, indent=1) + "\n")


def place(asked: argparse.Namespace, ending: str) -> Path:
    """One of the files that are written."""
    out: Path = asked.out / f"merge-growth-{asked.model}.{ending}"
    return out


# ---------------------------------------------------------------- table


def table(asked: argparse.Namespace, found: dict[Point, Found]) -> str:
    """All points, in Markdown."""
    some = next(iter(found.values()))
    weights = asked.pretrained or "random"
    lines = [
        f"# {asked.model}: the cost of merging a network for every sample",
        "",
        f"{weights} weights, {some['dtype']}, threads: {some['threads']}, CPUs: {os.cpu_count()}, "
        f"torch {version('torch')}, medians of {some['rounds']} rounds. Times are ms a sample; "
        "ratios are to one model's forward pass (the faster of a batch at once and one by one), "
        "measured in the same process.",
    ]
    for title, chosen in swept(asked):
        lines += ["", f"## {title}", "", *_rows(asked, [found[each] for each in chosen])]
    return "\n".join([*lines, "", *growth(asked, found), ""])


def swept(asked: argparse.Namespace) -> list[tuple[str, list[Point]]]:
    """The two series of points, with their titles."""
    experts = [Point(experts, asked.at_batch) for experts in asked.experts]
    batches = [Point(asked.at_experts, batch) for batch in asked.batches]
    return [
        (f"Experts, batch {asked.at_batch}", experts),
        (f"Batch, {asked.at_experts} experts", batches),
    ]


def _rows(asked: argparse.Namespace, found: Sequence[Found]) -> Iterator[str]:
    methods = beside_single(asked)
    names = [*(f"{name} ms" for name in methods), *(f"{name} ratio" for name in methods)]
    head = ["experts", "batch", "single ms", *names, "peak MiB"]
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('--:' for _ in head)} |"
    for each in found:
        ratios = [each["ratios"].get(_key(name)) for name in methods]
        times = [None if ratio is None else ratio * each["single_ms"] for ratio in ratios]
        cells = [str(each["experts"]), str(each["batch"]), f"{each['single_ms']:.2f}"]
        cells += ["-" if value is None else f"{value:.2f}" for value in (*times, *ratios)]
        cells.append(f"{each['peak_rss_bytes'] / 2**20:,.0f}")
        yield f"| {' | '.join(cells)} |"


def growth(asked: argparse.Namespace, found: dict[Point, Found]) -> Iterator[str]:
    """How much dearer many experts are than few, where both were measured."""
    ends = [found.get(Point(experts, asked.at_batch)) for experts in (FEW, MANY)]
    few, many = [each and each["ratio_to_single"] for each in ends]
    if few and many:
        grown = 100.0 * (many / few - 1.0)
        verdict = "holds" if grown < GOAL else "FAILS"
        yield (
            f"- {verdict}: from {FEW} to {MANY} experts the ratio of batched merged inference "
            f"grows by less than {GOAL} % ({grown:.0f} %)"
        )


def beside_single(asked: argparse.Namespace) -> list[str]:
    """The methods that have a ratio, in the order of the measurement."""
    return [name for name in merge.ALL if name in asked.methods and name != "single"]


def _key(method: str) -> str:
    return method.replace("-", "_")


# ---------------------------------------------------------------- plot


def plot(asked: argparse.Namespace, found: dict[Point, Found]) -> Figure:
    """Ratios over experts, and over the batch."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    for axes, (title, chosen), sweep in zip(
        figure.subplots(1, 2), swept(asked), ("experts", "batch"), strict=True
    ):
        across = [getattr(point, sweep) for point in chosen]
        for name in beside_single(asked):
            heights = [found[each]["ratios"].get(_key(name), float("nan")) for each in chosen]
            axes.plot(across, heights, marker="o", label=name)
        axes.axhline(1.0, color="0.6", linewidth=1.0, label="one model")
        axes.set(title=title, xlabel=sweep, ylabel="times one forward pass")
        axes.set_xscale("log", base=2)
        axes.set_xticks(across, [str(each) for each in across])
        axes.minorticks_off()
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.suptitle(asked.model)
    return figure


# ---------------------------------------------------------------- command line


def asked_for(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="ViT-B-32", help="any model that a scenario can name")
    add("--pretrained", help="its weights, as in a scenario; random ones if not given")
    add("--experts", type=int, nargs="+", default=[2, 3, 5, 7, 10, 20], help="how many")
    add("--at-batch", type=int, default=16, help="the batch for these experts")
    add("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64], help="samples")
    add("--at-experts", type=int, default=5, help="how many experts for these batches")
    add("--methods", nargs="+", choices=merge.ALL, default=METHODS, help="what is compared")
    add("--repeats", type=int, default=merge.REPEATS, help="rounds; medians count")
    add("--threads", type=int, help="CPU threads; torch's own choice if not given")
    add("--seed", type=int, default=0, help="of weights, experts and images")
    add("--out", type=Path, default=RESULTS, help="folder of what is written")
    return parser.parse_args(arguments)


def main(asked: argparse.Namespace, measure: Measure = in_a_process) -> None:
    """Measure what is missing, then write the table and the plot.

    Args:
        asked: the command line.
        measure: measures one point.

    Raises:
        NeuligError: settings that cannot be, or a measurement that failed.
    """
    for point in points(asked):
        merge.checked_model(
            merge.Options(
                model=asked.model,
                pretrained=asked.pretrained,
                random_weights=asked.pretrained is None,
                experts=point.experts,
                batch=point.batch,
            )
        )
    found, wanted = kept(asked), points(asked)
    for number, point in enumerate(wanted, start=1):
        at = f"{number} of {len(wanted)}: {point.experts} experts, batch {point.batch}"
        exits.say(f"{at}{' (kept)' if point in found else ''}")
        if point not in found:
            found[point] = measure(asked, point)
            keep(asked, found)
    text = table(asked, found)
    write_atomically(place(asked, "md"), text)
    drawn = plot(asked, found)
    replace_atomically(place(asked, "png"), lambda part: drawn.savefig(part, dpi=150))
    sys.stdout.write(text)


if __name__ == "__main__":
    try:
        main(asked_for())
    except NeuligError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        exits.say("interrupted; what was measured is kept, and the same command goes on")
        sys.exit(exits.INTERRUPTED)
