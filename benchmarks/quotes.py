"""The figures that README and docs quote, put between their marks from the data of benchmarks/.

    python benchmarks/quotes.py

No figure of these blocks is typed: each is made from a file in benchmarks/results/, and a test
makes it again. `<!-- quote NAME -->` begins a block, `<!-- end of quote -->` ends it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reproduction import data
from reproduction.over_seeds import Method, methods, shown

from neulig_fl.cli import exits
from neulig_fl.errors import InputError
from neulig_fl.files import write_atomically
from neulig_fl.report import figures
from neulig_fl.report.markdown import table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results")
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"(<!-- quote ([\w-]+) -->\n).*?(<!-- end of quote -->)", re.DOTALL)


def replaced(page: str) -> str:
    """A page with every quoted block as the data have it now.

    Raises:
        InputError: there is no such block, or its data are not there.
    """
    return BLOCK.sub(lambda found: f"{found[1]}{quoted(found[2])}\n{found[3]}", page)


def quoted(name: str) -> str:
    """One block.

    Raises:
        InputError: there is no such block, or its data are not there.
    """
    if name not in BLOCKS:
        raise InputError(f"quote {name}: no such block; allowed: {', '.join(BLOCKS)}")
    return BLOCKS[name]()


def held(file: str) -> Any:
    """A file of benchmarks/results.

    Raises:
        InputError: it is not there, or is not JSON.
    """
    try:
        return json.loads((RESULTS / file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{RESULTS / file}: cannot be read; run what writes it") from error


def run(name: str) -> data.Data:
    """The data of a scenario that `benchmarks/reproduce.py` runs.

    Raises:
        InputError: it was not run yet.
    """
    found = data.read(RESULTS / "reproduce" / f"{name}.json")
    if found is None:
        raise InputError(f"{name}: was not run yet; run benchmarks/reproduce.py --only {name}")
    return found


def over_seeds(of: data.Data, stage: str) -> dict[str, Method]:
    """The methods of one stage over all seeds, by the name that the report's tables have."""
    stages = [next(s for s in seed["stages"] if s["name"] == stage) for seed in of["seeds"]]
    return {method.label: method for method in methods(stages)}


def _seeds(of: data.Data) -> str:
    *first, last = [str(each["seed"]) for each in of["seeds"]]
    return f"seeds {', '.join(first)} and {last}" if first else f"seed {last}"


# ---------------------------------------------------------------- README


QUICKSTART = {
    "NeuLig (sample)": "NeuLig, per sample",
    "NeuLig (task)": "NeuLig, CoopVec Map",
    "simple-average": "simple average",
    "hard-routing": "hard routing",
    "oracle": "each task's own expert",
}
"""The rows of README's table: the report's name, and README's."""


def quickstart() -> str:
    """The quickstart's merging stage, beside three seeds of the same clients and experts."""
    own, three = run("quickstart"), run("baselines-vit")
    here, there = over_seeds(own, "merging"), over_seeds(three, "together")
    sides = ("merge_accuracy", "ensemble_accuracy")
    body = [
        [
            words,
            *(shown(here[name].average(side)) for side in sides),
            shown(here[name].average("gap_of_means"), signed=True),
            *(shown(there[name].average(side)) for side in sides),
            shown(there[name].average("gap_of_means"), signed=True),
        ]
        for name, words in QUICKSTART.items()
    ]
    columns = ["merge %", "ensemble %", "gap, points"]
    head = ["method", *columns, *(f"{column}, {len(three['seeds'])} seeds" for column in columns)]
    return (
        f"{table(head, body)}\n\n"
        f"Averages over {len(own['clients'])} tasks: of {_seeds(own)}, which `make demo` runs, and "
        f"the mean +- standard deviation over {_seeds(three)} of the same clients, experts and "
        "queries (`scenarios/micro/baselines-vit.yaml`)."
    )


# ---------------------------------------------------------------- docs/merging.md


def merge_growth() -> str:
    """What the sweep over experts and batches found, as a table and in sentences."""
    of = held("merge-growth-ViT-B-32.json")
    points = {(p["experts"], p["batch"]): p for p in of["points"]}
    ratios = {at: point["ratio_to_single"] for at, point in points.items()}
    body = [
        [f"{experts} experts, batch {batch}", *(figures.number(p["ratios"][n]) for n in SIDES)]
        for (experts, batch), p in points.items()
    ]
    grown = 100.0 * (ratios[20, 16] / ratios[5, 16] - 1.0)
    some = next(iter(points.values()))
    return (
        f"Times one forward pass of {of['settings']['model']}, for each query (random weights, "
        f"{some['dtype']}, threads: {some['threads']}, medians of {some['rounds']} rounds):\n\n"
        f"{table(['', *SIDES], body)}\n\n"
        f"So superposition took from {figures.number(min(ratios.values()))} to "
        f"{figures.number(max(ratios.values()))} forward passes of one model, and from 5 to 20 "
        f"experts, at batch 16, {figures.number(grown, 0)} % more."
    )


SIDES = ("superposition", "ensemble")


BLOCKS: Mapping[str, Callable[[], str]] = {
    "quickstart": quickstart,
    "merge-growth": merge_growth,
}


def behind() -> Iterator[tuple[Path, str]]:
    """The pages whose blocks are not those of the data, as they would be."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (now := replaced(text)) != text:
            yield page, now


def main() -> None:
    """Write every page that is behind.

    Raises:
        InputError: a block's data are not there.
    """
    for page, text in list(behind()):
        write_atomically(page, text)
        exits.say(f"written anew: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except InputError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
