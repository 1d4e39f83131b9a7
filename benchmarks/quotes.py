"""The figures that README and docs quote, put between their marks from the data of benchmarks/.

    python benchmarks/quotes.py

No figure of these blocks is typed: each is made from a file in benchmarks/results/, and a test
makes it again. `<!-- quote NAME -->` begins a block, `<!-- end of quote -->` ends it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reproduction import data, order
from reproduction.over_seeds import Method, methods, shown
from reproduction.tables import bullets

from neulig_fl.cli import exits
from neulig_fl.core.errors import InputError
from neulig_fl.core.files import write_atomically
from neulig_fl.metrics.intervals import spread
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
        f"Averages over {len(own['clients'])} tasks: {_seeds(own)}, which `make demo` runs, and "
        f"mean +- standard deviation over {_seeds(three)}\nwith the same settings of clients, "
        "experts and queries (`scenarios/micro/baselines-vit.yaml`)."
    )


# ---------------------------------------------------------------- docs/merge-methods.md


def beats_simple_average() -> str:
    """Which of the usual methods beat a simple average, as far as the seeds tell."""
    (stage,) = run("baselines-vit")["seeds"][0]["stages"]
    found = [*over_seeds(run("baselines-vit"), stage["name"]).values()]
    return bullets(order.against_simple(found))


def tuned() -> str:
    """What was tried on the labelled pool, and what was chosen with each seed."""
    of = run("baselines-vit")
    (stage,) = of["seeds"][0]["stages"]
    body = []
    for method in over_seeds(of, stage["name"]).values():
        settings = [result["settings"] for result in method.known]
        tried = (settings[0] or {}).get("tried")
        if not tried:
            continue
        for option in tried[0]["options"]:
            values = dict.fromkeys(f"{each['options'][option]:g}" for each in tried)
            chosen = [f"{each['options'][option]:g}" for each in settings]
            body.append([method.name, option, ", ".join(values), ", ".join(chosen)])
    head = ["method", "option", "values tried on the pool", f"chosen, {_seeds(of)}"]
    return table(head, body, words=4)


def task_vectors() -> str:
    """What the task vectors look like, over seeds."""
    found = held("task-vectors.json")

    def over(key: str, decimals: int = 2, scale: float = 1.0) -> str:
        of = spread([scale * each[key] for each in found["seeds"]])
        mean = figures.number(of["mean"], decimals)
        return mean if of["sd"] is None else f"{mean} +- {figures.number(of['sd'], decimals)}"

    body = [
        ["cosine similarity of two task vectors, mean over pairs", over("cosine_mean")],
        ["cosine similarity of two task vectors, maximum over pairs", over("cosine_largest")],
        ["norm of their mean", over("mean_length")],
        [
            "norm of the merged task vector, task arithmetic, lambda 0.3",
            over("task_arithmetic_length"),
        ],
        ["norm of the merged task vector, TIES, density 0.2, lambda 1", over("ties_length")],
        [
            "entries changed by TIES to which a single client contributes, %",
            over("ties_places_of_one", 0, 100.0),
        ],
    ]
    return table(["the quickstart's five experts", _seeds(found)], body)


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
        f"Time per query in multiples of one plain forward pass of {of['settings']['model']} "
        f"(random weights, {some['dtype']}, threads: {some['threads']}, medians of "
        f"{some['rounds']} rounds):\n\n"
        f"{table(['', *SIDES.values()], body)}\n\n"
        f"Batched merged inference took between {figures.number(min(ratios.values()))} and "
        f"{figures.number(max(ratios.values()))} forward passes of one model. From 5 to 20 "
        f"experts, at batch 16, its cost grew by {figures.number(grown, 0)} %."
    )


SIDES = {"batched": "batched merged inference", "ensemble": "ensemble"}
"""The columns of that table: the method's key, and the page's name for it."""


# ---------------------------------------------------------------- other pages


def second_order() -> str:
    """The relative difference of both sides, as the experts' offsets are halved."""
    found = held("task-vectors.json")["second_order"]
    body = [
        [f"2^-{k}", *(figures.number(found[beta][k], 4) for beta in ("uniform", "uneven"))]
        for k in range(len(found["uniform"]))
    ]
    return table(["scale of the offsets", "uniform", "uneven"], body)


def distances() -> str:
    """How far apart experts of one origin are, and what is of another."""
    found = [each["distances"] for each in held("task-vectors.json")["seeds"]]

    def ends(values: Sequence[float]) -> str:
        low, high = figures.number(min(values)), figures.number(max(values))
        return low if low == high else f"{low} to {high}"

    among = ends([end for each in found for end in each["experts"]])
    start = ends([end for each in found for end in each["to_start"]])
    fresh = ends([each["fresh_to_start"] for each in found])
    return (
        f"The quickstart's five `micro-vit` experts ({_seeds(held('task-vectors.json'))}), "
        f"fine-tuned from the bundled weights, have distances of {among} from one another and "
        f"{start} from those weights; a fresh initialisation has distance {fresh} from them."
    )


def offset_sum() -> str:
    """What the rounded offset sum tells of a checkpoint, and what fewer bits would change."""
    found = held("offset-sum.json")
    counts = list(found["bits"][0]["named"])
    finest = found["bits"][-1]

    def moved(each: Mapping[str, Any], side: str) -> str:
        return figures.number(abs(each["accuracy"][side] - finest["accuracy"][side]))

    body = [
        [
            str(each["bits"]),
            *(figures.number(each["named"][count], 0) for count in counts),
            figures.number(each["error"], 3),
            moved(each, "ensemble"),
            moved(each, "merge"),
        ]
        for each in found["bits"]
    ]
    head = ["bits", *(f"identified among {int(count):,}, %" for count in counts)]
    head += ["largest error of xi*", "change of ensemble", "change of merge"]
    return table(head, body)


def pretraining_images() -> str:
    """How many images pre-training drew, and how many of a task's were among them."""
    found = held("pretraining-images.json")
    tasks = {n: each for n, each in found["tasks"].items() if each["images"] is not None}
    images = sum(each["images"] for each in tasks.values())
    also = sum(each["also_shown"] for each in tasks.values())
    drawn, batches = found["batches_drawn"], found["batches"]
    shown = drawn * found["batch"]
    which = "all" if drawn == batches else f"the first {drawn:,} of"
    return (
        f"The {shown:,} images of {which} {batches:,} batches (seed {found['seed']}) against all "
        f"{images:,} images of {', '.join(f'`{name}`' for name in tasks)}: {also:,} have the same "
        f"pixels. {shown - found['different_images']:,} pre-training images are duplicates."
    )


BLOCKS: Mapping[str, Callable[[], str]] = {
    "quickstart": quickstart,
    "beats-simple-average": beats_simple_average,
    "tuned-on-the-pool": tuned,
    "task-vectors": task_vectors,
    "offset-sum": offset_sum,
    "merge-growth": merge_growth,
    "second-order": second_order,
    "distances": distances,
    "pretraining-images": pretraining_images,
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
