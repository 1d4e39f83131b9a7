"""docs/results.md: every scenario's tables from its data, beside the paper's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neulig_fl.report import figures
from neulig_fl.report.markdown import table, text
from reproduction import paper, tables
from reproduction.data import Data, Entry
from reproduction.over_seeds import ENOUGH, Values, shown
from reproduction.tables import StageOver, bullets, of_seeds

DOCS = Path(__file__).resolve().parents[2] / "docs"

Section = tuple[Entry, Data | None, str | None]
"""A scenario, its data, and why there are none that can be shown."""

INTRO = """\
# Results

Written by `make reproduce` from the reports of its runs, and from the paper's tables as printed. No
figure is typed: this page is made from [the data of the runs]({data}) and from
[the paper's tables]({paper}), and a test makes it from them again.

```sh
make reproduce
```

## How to read it

- Accuracies are percentages, gaps and differences percentage points; "a +- b" is the mean over
  seeds and the sample standard deviation. `-` is a figure that is missing or does not apply, never
  0.
- The gap is merge minus ensemble. A gap near 0 says that both sides do as well, not that they do
  well: [report.md]({docs}/report.md#the-gap-and-what-it-does-not-say).
- With {enough} seeds or more, intervals are 95 % Student-t intervals over seeds, of differences
  paired by seed. With one seed, the gap's interval is that run's own, over its queries. Intervals
  are not corrected for their number.
- Two methods are told apart where the interval of their difference excludes 0. That A and B, and B
  and C, are not told apart does not say that A and C are not.
- `oracle` gives every query its own task's expert; `pretrained` is the checkpoint before training.
  What the other rows are stands in [method.md]({docs}/method.md#controls) and
  [merge-methods.md]({docs}/merge-methods.md).
- Options marked "by accuracy on the labelled pool" were chosen there; nothing is chosen on
  evaluation queries.
- Seconds are of one machine, the mean over seeds. Of a tuned method they count every option that
  was tried; of NeuLig they do not count the training of Portland.
"""


def render(sections: Sequence[Section], page: Path, data: Path) -> str:
    """The page.

    Args:
        sections: the scenarios in their order.
        page: where the page will lie; links start there.
        data: the folder of the data.
    """
    source = paper.tables()
    links = {"data": data, "paper": paper.FILE, "docs": DOCS}
    said = {name: _link(target, page) for name, target in links.items()}
    parts = [INTRO.format(enough=ENOUGH, **said).rstrip("\n")]
    for section in sections:
        parts += _section(section, source, page)
    return "\n\n".join([*parts, *_doubts(sections, source)]) + "\n"


def _section(section: Section, source: Mapping[str, Any], page: Path) -> Iterator[str]:
    entry, data, lacking = section
    yield f"## {text(data['name'] if data else entry.name)}"
    yield f"Scenario: [{text(entry.path.name)}]({_link(entry.path, page)})."
    if data is None:
        yield text(f"No figures: {lacking}.")
        return
    yield from _what(data)
    for stage in _stages(data):
        first = stage.stages[0]
        yield f"### Stage {text(first['name'])} (group {first['group']})"
        yield from tables.render(stage)
        if any(method.average("merge_accuracy")[0] is not None for method in stage.methods):
            for key in entry.tables:
                yield from _beside(source, key, stage, data)


def _stages(data: Data) -> list[StageOver]:
    """The stages that have results, over all seeds."""
    seeds = tuple(each["seed"] for each in data["seeds"])
    found = zip(*(each["stages"] for each in data["seeds"]), strict=True)
    return [StageOver(seeds, of) for of in found if any(stage["results"] for stage in of)]


# ---------------------------------------------------------------- what was run


def _what(data: Data) -> Iterator[str]:
    seeds = [each["seed"] for each in data["seeds"]]
    tasks = list(dict.fromkeys(client["task"] for client in data["clients"]))
    seconds = ", ".join(figures.number(each["seconds"], 0) for each in data["seeds"])
    queries = f"{data['queries']['pool']} pool and {data['queries']['evaluation']} evaluation"
    trained = "no Portland"
    if data["objective"]:
        taken: Values = tuple(each["portland_seconds"] for each in data["seeds"])
        trained = f"Portland trained {data['objective']} in {shown(taken)} s"
    yield bullets(
        [
            f"Model {data['model']}, experts of {data['origin']} origin, {trained}.",
            f"{len(data['clients'])} clients; tasks: {', '.join(tasks)}; at most {queries} queries "
            "of each task.",
            f"Seeds: {', '.join(map(str, seeds))}; {data['engine']} engine; seconds of each run: "
            f"{seconds}.",
            f"Made by {', '.join(f'{n} {v}' for n, v in data['versions'].items())}. "
            f"Scenario hash {data['hash']}.",
        ]
    )
    notes: dict[str, list[int]] = {}
    for each in data["seeds"]:
        for note in each["notes"]:
            notes.setdefault(note, []).append(each["seed"])
    if notes:
        yield "Departures from the paper, and choices, in these runs:"
        yield bullets(of_seeds(notes, len(seeds)))
    yield from _experts(data)


def _experts(data: Data) -> Iterator[str]:
    """How good each expert is on its own task."""
    found: dict[tuple[str, str, str], list[float | None]] = {}
    for at, each in enumerate(data["seeds"]):
        for expert in each["experts"]:
            key = (expert["client"], expert["task"], expert["group"])
            found.setdefault(key, [None] * len(data["seeds"]))[at] = expert["accuracy"]
    if not found:
        return
    yield "Experts alone, each on its own task:"
    body = [[*key, shown(tuple(values))] for key, values in found.items()]
    per_seed = [figures.mean(column) for column in zip(*found.values(), strict=True)]
    means: Values = tuple(per_seed)
    body.append(["mean", "", "", shown(means)])
    yield table(["Client", "Task", "Group", "Accuracy"], body, words=3)


# ---------------------------------------------------------------- the paper


def _beside(source: Mapping[str, Any], key: str, stage: StageOver, data: Data) -> Iterator[str]:
    """Our averages beside those of one of the paper's tables."""
    of_paper = source["tables"][key]
    tasks = f"{len(of_paper['tasks'])} tasks ({', '.join(of_paper['tasks'])})"
    yield f"#### Beside the paper's {text(of_paper['label'])}"
    yield (
        f"The paper (arXiv:{source['arxiv']}): {text(of_paper['model'])}, {text(tasks)}. Ours: "
        f"{text(data['model'])} on the tasks above. Models, data and tuning differ, so only orders "
        "and signs can be compared. The paper prints gaps without a sign; the sign that is "
        "compared is that of merge minus ensemble of the averages."
    )
    found = paper.beside(of_paper, stage.methods, data["objective"])
    head = ["Ours", "The paper's", "Sign of the gap", "Merge", "Ensemble", "Gap of means"]
    head += ["Paper: merge", "Paper: ensemble", "Paper: gap"]
    yield table(head, [_beside_row(each) for each in found], words=3)
    pairs, other = paper.order(found)
    if pairs:
        same = f"Of {pairs} pairs of these rows, {pairs - len(other)} stand in the paper's order"
        where = f"; in the other order here: {', '.join(other)}" if other else ""
        yield text(f"{same} by merge accuracy{where}.")


def _beside_row(each: paper.Beside) -> list[str]:
    ours = each.method
    quantities = ("merge_accuracy", "ensemble_accuracy", "gap_of_means")
    own = [
        shown(ours.average(q), signed=q == "gap_of_means") if ours else figures.NULL
        for q in quantities
    ]
    printed = [figures.number(each.average[q]) for q in ("merge", "ensemble", "gap")]
    return [ours.label if ours else figures.NULL, each.name, each.signs, *own, *printed]


def _doubts(sections: Sequence[Section], source: Mapping[str, Any]) -> Iterator[str]:
    """Where the tables that were shown do not agree with themselves."""
    keys = dict.fromkeys(key for entry, _, _ in sections for key in entry.tables)
    found = [words for key in keys for words in paper.doubts(source["tables"][key])]
    if found:
        yield "## Where the paper's tables do not agree with themselves"
        yield (
            "Found by code, beyond what rounding to two decimals can explain. The tables above "
            "have the figures as printed."
        )
        yield bullets(found)


def _link(target: Path, page: Path) -> str:
    return Path(os.path.relpath(target.resolve(), page.resolve().parent)).as_posix()
