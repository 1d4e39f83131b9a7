"""benchmarks/reproduce.py: the paper's tables, runs and their data, statements, docs/results.md."""

from __future__ import annotations

import json
import math
import statistics
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config.yaml_source import read
from neulig_fl.core.errors import InputError, RunError, ScenarioError
from neulig_fl.study import runs

ROOT = Path(__file__).resolve().parents[2]
T = 4.302652729911275
"""Student's t with two degrees of freedom, 97.5 %."""

SCENARIO = {
    "seeds": [3, 4, 5],
    "methods": ["task-arithmetic", "ties", {"name": "ties", "tune": {"density": [0.1, 1.0]}}],
}
NOT_MEAN = {
    ("2a", "Simple-Averaging", "merge"), ("2a", "Simple-Averaging", "ensemble"),
    ("2a", "Ours (Semi-Supervised)", "ensemble"), ("2a", "Ours (Supervised)", "merge"),
    ("2a", "Ours (Supervised)", "ensemble"), ("2b", "AdaMerging", "merge"),
    ("2b", "AdaMerging", "ensemble"), ("2b", "WeMoE", "merge"),
}  # fmt: skip
"""Averages that the paper prints and that are not the mean of its tasks."""


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """benchmarks/reproduce.py, which finds the modules beside it as when it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        yield import_module("reproduce")


def part(name: str) -> ModuleType:
    """One of the modules that the script is made of; `script` must be loaded."""
    return sys.modules[f"reproduction.{name}"]


# ---------------------------------------------------------------- the paper's tables


def test_the_papers_tables_are_whole(script: ModuleType) -> None:
    """If this fails, a figure of the paper was lost, or one of its methods has no place of ours."""
    source = part("paper").tables()
    assert source["arxiv"] == "2503.01268"
    shapes = {"2a": (5, 7, "CLIP-RN50"), "2b": (5, 10, "CLIP-ViT-B/32"), "5": (7, 10, None)}
    assert set(source["tables"]) == set(shapes)
    for key, (tasks, methods, model) in shapes.items():
        table = source["tables"][key]
        assert (len(table["tasks"]), len(table["methods"])) == (tasks, methods)
        assert model in (None, table["model"])
        for row in table["methods"]:
            assert row["method"] in part("paper").OURS
            assert list(row["tasks"]) == table["tasks"]
            single = row["method"] in ("Pre-trained", "Fine-tuned", "Ties-Merging", "RegMean")
            for cell in (*row["tasks"].values(), row["average"]):
                assert 0 < cell["merge"] < 100
                assert (cell["ensemble"] is None) == (cell["gap"] is None) == single
    ours = source["tables"]["2b"]["methods"][-2]["average"]
    assert (ours["merge"], ours["ensemble"]) == (95.44, 95.46)  # as in the paper's abstract


def test_the_papers_averages_are_means(script: ModuleType) -> None:
    """If this fails, a column of the paper was read as another one.

    The paper prints averages that are not its tasks' means (`NOT_MEAN`): of simple averaging on
    ResNets because the columns of CIFAR10 and MNIST are exchanged, of others for no visible reason.
    Each of them must be named on the page.
    """
    source, wrong = part("paper").tables(), set()
    for key, table in source["tables"].items():
        for row in table["methods"]:
            for side in ("merge", "ensemble"):
                values = [cell[side] for cell in row["tasks"].values()]
                if None in values:
                    continue
                told = f"{table['label']}, {row['method']}: average {side}"
                said = any(words.startswith(told) for words in part("paper").doubts(table))
                differs = abs(statistics.fmean(values) - row["average"][side]) > 0.01 + 1e-9
                assert said == differs, told
                wrong |= {(key, row["method"], side)} if differs else set()
    assert wrong == NOT_MEAN


def made_up(*cells: tuple[float, float, float]) -> dict[str, Any]:
    """A table of the paper's shape with one method; the last cell is the average."""
    named = [dict(zip(("merge", "ensemble", "gap"), cell, strict=True)) for cell in cells]
    tasks = [f"t{at}" for at in range(len(cells) - 1)]
    row = {
        "method": "M",
        "tasks": dict(zip(tasks, named[:-1], strict=True)),
        "average": named[-1],
    }
    return {"label": "Table 9", "tasks": tasks, "methods": [row]}


def test_what_is_doubted_of_the_paper(script: ModuleType) -> None:
    """If this fails, the page accuses the paper of rounding, or passes over what is wrong."""
    doubts = part("paper").doubts
    one, two = (90.0, 95.0, 5.0), (80.0, 70.0, 10.0)
    fine = [(85.01, 82.5, 2.51), (85.0, 82.5, 7.5), (85.0, 82.49, 7.49)]
    for average in fine:  # the difference of averages, and the mean of gaps
        assert list(doubts(made_up((90.0, 95.0, 4.99), (80.0, 70.0, 10.01), average))) == []
    said = list(doubts(made_up(one, (80.0, 70.0, 9.98), (85.02, 82.5, 4.0))))
    assert said == [
        "Table 9, M: average merge 85.02, the tasks' mean is 85.00",
        "Table 9, M: gap on t1 9.98, its two accuracies differ by 10.00",
        "Table 9, M: average gap 4.00, the averages differ by 2.52 and the mean of the gaps is 7.49",
    ]
    exchanged = list(doubts(made_up(one, two, (80.0, 87.5, 7.5))))
    assert exchanged[-1].endswith("averages follow if merge and ensemble of t1 are exchanged")


# ---------------------------------------------------------------- the page that is kept


def test_the_page_is_made_from_its_data(script: ModuleType) -> None:
    """If this fails, docs/results.md was edited by hand, or is behind its data or its scenarios."""
    asked = script.asked_for([])
    for entry in script.SCENARIOS:
        file = asked.data / f"{entry.name}.json"
        assert file.is_file(), f"{file.name} is missing: run `make reproduce`"
        found, lacking = script.section(asked, entry)[1:]
        assert found, f"{entry.name}: {lacking}: run `make reproduce`"
        said = read(entry.path).data
        assert [each["seed"] for each in found["seeds"]] == (said.get("seeds") or [said["seed"]])
    assert asked.page.read_text(encoding="utf-8") == script.text(asked)


# ---------------------------------------------------------------- a tiny scenario, run


@dataclass(frozen=True)
class Tiny:
    """A scenario with a page of its own, and which of its seeds were run."""

    script: ModuleType
    root: Path
    path: Path
    ran: list[int] = field(default_factory=list)

    @property
    def entry(self) -> Any:
        """As the script lists it."""
        return part("data").Entry(self.path, ("2b",))

    @property
    def asked(self) -> Namespace:
        """The command line."""
        places = [f"--{name}={self.root / name}" for name in ("runs", "data", "page")]
        return self.script.asked_for(["--engine", "local", *places])  # type: ignore[no-any-return]

    @property
    def page(self) -> str:
        """What was written."""
        return self.asked.page.read_text(encoding="utf-8")  # type: ignore[no-any-return]

    @property
    def reports(self) -> dict[int, dict[str, Any]]:
        """The reports on disk, by seed."""
        found = [json.loads(p.read_text()) for p in (self.root / "runs").glob("**/report.json")]
        return {report["scenario"]["seed"]: report for report in found}

    def main(self, *entries: Any) -> None:
        """Start the script."""
        self.script.main(self.asked, entries or [self.entry])


def make(
    script: ModuleType, root: Path, data: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> Tiny:
    """Write a scenario, and count its runs."""
    root.mkdir(parents=True, exist_ok=True)
    said = {key: value for key, value in tiny.said(data, **changes).items() if value is not None}
    (root / "tiny.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    found = Tiny(script, root, root / "tiny.yaml")
    honest = runs.engines.run

    def run(engine: str, job: Any) -> None:
        # The runs of other tests pass here as well, as long as this one's patch stands.
        if job.scenario_file.is_relative_to(found.root):
            found.ran.append(json.loads(job.scenario_file.read_text())["seed"])
        honest(engine, job)

    monkeypatch.setattr(runs.engines, "run", run)
    return found


@pytest.fixture(scope="module")
def three(
    script: ModuleType, tmp_path_factory: pytest.TempPathFactory, data: Path
) -> Iterator[Tiny]:
    """A scenario of three seeds, stopped in the second one and started again."""
    with pytest.MonkeyPatch.context() as patch:
        found = make(script, tmp_path_factory.mktemp("three"), data, patch, seed=None, **SCENARIO)
        counted = runs.engines.run

        def stopped(engine: str, job: Any) -> None:
            counted(engine, job)
            if found.ran == [3, 4]:
                raise KeyboardInterrupt

        patch.setattr(runs.engines, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            found.main()
        found.main()
        yield found


@pytest.mark.slow
def test_a_stopped_command_goes_on(three: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, Ctrl-C or a second call loses half an hour of finished runs."""
    assert three.ran == [3, 4, 4, 5], "a finished run is not run again, a stopped one is"
    before = three.page
    three.main()
    assert three.ran == [3, 4, 4, 5]
    assert three.page == before
    assert "seed 5: finished before" in " ".join(capsys.readouterr().err.split())


Table = list[dict[str, str]]


def tables(page: str) -> dict[str, Table]:
    """The tables of a page by the heading and by the text above them; of the same name the last."""
    found: dict[str, Table] = {}
    heading = text = ""
    head: list[str] = []
    for line in page.replace("\\", "").splitlines():
        if not line.startswith("|"):
            head = []
            heading = line.strip("# ") if line.startswith("#") else heading
            text = line or text
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not head:
            head = cells
            found[heading] = found[text] = []
        elif not set(line) <= set("|:- "):
            found[heading].append(dict(zip(head, cells, strict=True)))
    return found


def over(values: Sequence[float], sign: str = "") -> str:
    """Mean and deviation in the page's words, worked out another way."""
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    shown = "0.00" if sign and abs(mean) < 0.005 else f"{mean:{sign}.2f}"
    return f"{shown} +- {sd:.2f}"


def ends(values: Sequence[float]) -> str:
    """Student's interval of three values."""
    mean, reach = statistics.fmean(values), T * statistics.stdev(values) / math.sqrt(3)
    low, high = (round(end, 2) + 0.0 for end in (mean - reach, mean + reach))
    return f"[{low:.2f}, {high:.2f}]"


def results(three: Tiny, stage: int) -> dict[str, list[dict[str, Any]]]:
    """The reports' results of one stage by the page's labels, one a seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for _, report in sorted(three.reports.items()):
        for result in report["stages"][stage]["results"]:
            label = "NeuLig (sample)" if result["method"] == "neulig" else result["method"]
            variant = f" ({result['variant']})" if result["variant"] else ""
            found.setdefault(label + variant, []).append(result)
    return found


@pytest.mark.slow
def test_the_page_has_the_reports_numbers(three: Tiny) -> None:
    """If this fails, a figure on the page is not what the runs found."""
    found = results(three, 1)
    rows = {row["Method"]: row for row in tables(three.page)["All methods"]}
    assert set(rows) == set(found)
    assert {"ties", "ties (density tuned)", "task-arithmetic", "oracle"} < set(rows)
    averages = {label: [each["average"] for each in of] for label, of in found.items()}
    base = [average["merge_accuracy"] for average in averages["simple-average"]]
    for label, row in rows.items():
        merge = [average["merge_accuracy"] for average in averages[label]]
        assert row["Status"] == "ok"
        assert row["Merge"] == over(merge)
        more = [round(a - b, 9) for a, b in zip(merge, base, strict=True)]
        assert row["Merge minus simple-average"] == over(more, "+")
        assert row["95 % CI"] == ends(more)
        assert row["Seconds"] == f"{statistics.fmean(r['seconds'] for r in found[label]):.2f}"
        sizes = sorted({result["bytes"] for result in found[label]})
        assert row["Released bytes needed"] == " to ".join(f"{size:,}" for size in sizes)
        gaps = [average["gap_of_means"] for average in averages[label]]
        if label.startswith("ties"):
            assert (row["Ensemble"], row["Gap of means"]) == ("-", "-")
        else:
            assert row["Ensemble"] == over([a["ensemble_accuracy"] for a in averages[label]])
            assert row["Gap of means"] == over(gaps, "+")
            assert row["95 % CI of the gap"] == ends(gaps)


@pytest.mark.slow
def test_the_page_has_each_task_and_each_expert(three: Tiny) -> None:
    """If this fails, a task's or an expert's accuracy stands in another's place."""
    found = results(three, 1)
    for row in tables(three.page)["Merge accuracy on each task"]:
        for at, name in enumerate(("first", "second")):
            of_task = [result["tasks"][at] for result in found[row["Method"]]]
            assert {task["task"] for task in of_task} == {name}
            assert row[name] == over([task["merge_accuracy"] for task in of_task])
    experts = [r["reference"]["experts"] for _, r in sorted(three.reports.items())]
    shown = {r["Client"]: r for r in tables(three.page)["Experts alone, each on its own task:"]}
    for at, client in enumerate(tiny.CLIENTS):
        assert shown[client]["Accuracy"] == over([each[at]["accuracy"] for each in experts])
    means = [statistics.fmean(expert["accuracy"] for expert in each) for each in experts]
    assert shown["mean"]["Accuracy"] == over(means)


@pytest.mark.slow
def test_the_page_says_what_is_not_there(three: Tiny) -> None:
    """If this fails, a method that was not permitted has an unexplained dash."""
    before = three.page.partition("### Stage merging")[0]
    row = next(r for r in tables(before)["All methods"] if r["Method"] == "ties")
    assert row["Status"] == "not permitted"
    assert set(list(row.values())[2:]) == {"-"}
    assert "- ties: not permitted: needs parameters of each client\n" in before
    assert "no merge accuracy: no parameters are merged in this stage\n" in before
    assert "Ranking of the methods" not in before
    assert "Beside the paper's" not in before
    assert "- Not in this scenario: regmean, adamerging.\n" in three.page


@pytest.mark.slow
def test_the_page_says_how_methods_were_set(three: Tiny) -> None:
    """If this fails, a reader takes chosen options for fixed ones."""
    rows = {row["Method"]: row for row in tables(three.page)["Settings"]}
    assert rows["ties"]["Chosen"] == "fixed"
    assert rows["task-arithmetic"]["Options"] == "lambda 0.3"
    tuned = rows["ties (density tuned)"]
    assert tuned["Chosen"] == "best of 2 by accuracy on the labelled pool"
    for seed, result in zip((3, 4, 5), results(three, 1)["ties (density tuned)"], strict=True):
        density = result["settings"]["options"]["density"]
        said = [of for of in tuned["Options"].split("; ") if str(seed) in of.partition(":")[0]]
        assert f"density {density:g}," in (said[0] if said else tuned["Options"])


@pytest.mark.slow
def test_the_page_stands_beside_the_paper(three: Tiny) -> None:
    """If this fails, one of our methods stands beside another one of the paper's."""
    found = tables(three.page)["Beside the paper's Table 2 (b)"]
    printed = {m["method"]: m["average"] for m in part("paper").tables()["tables"]["2b"]["methods"]}
    ours = {row["Method"]: row for row in tables(three.page)["All methods"]}
    assert [(row["The paper's"], row["Ours"]) for row in found] == [
        ("Pre-trained", "pretrained"),
        ("Fine-tuned", "oracle"),
        ("Simple-Averaging", "simple-average"),
        ("Task-Arithmetic", "task-arithmetic"),
        ("Ties-Merging", "ties"),
        ("Ties-Merging", "ties (density tuned)"),
        ("RegMean", "-"),
        ("AdaMerging", "-"),
        ("WeMoE", "-"),
        ("Ours (Semi-Supervised)", "-"),
        ("Ours (Supervised)", "NeuLig (sample)"),
    ]
    for row in found:
        for column in ("merge", "ensemble", "gap"):
            value = printed[row["The paper's"]][column]
            assert row[f"Paper: {column}"] == ("-" if value is None else f"{value:.2f}")
        for column in ("Merge", "Ensemble", "Gap of means"):
            assert row[column] == (ours[row["Ours"]][column] if row["Ours"] != "-" else "-")


def test_a_changed_scenario_is_run_again(
    script: ModuleType, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the page has the figures of another scenario than its link leads to."""
    found = make(script, tmp_path, data, monkeypatch)
    found.main()
    assert found.ran == [tiny.SEED]
    only = tables(found.page)["All methods"][0]
    (average,) = [r["average"] for r in found.reports[tiny.SEED]["stages"][1]["results"][:1]]
    low, high = average["gap_of_means_ci95"]
    assert only["95 % CI of the gap"] == f"[{low:.2f}, {high:.2f}]", "one seed: the run's own"
    assert only["Merge"] == f"{average['merge_accuracy']:.2f}"
    assert only["95 % CI"] == "-"
    found.path.write_text(found.path.read_text().replace("epochs: 2", "epochs: 3"))
    assert "No figures: the scenario has changed since" in script.text(found.asked, [found.entry])
    found.main()
    assert found.ran == [tiny.SEED] * 2
    assert "No figures" not in found.page


def test_a_failed_run_keeps_the_others(
    script: ModuleType,
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If this fails, one scenario that cannot be run takes all figures with it."""
    found = make(script, tmp_path, data, monkeypatch)
    other = tmp_path / "other.yaml"
    other.write_text(found.path.read_text().replace("name: tiny\n", "name: other\n"))
    honest = runs.engines.run

    def run(engine: str, job: Any) -> None:
        if json.loads(job.scenario_file.read_text())["name"] == "other":
            raise RunError("no room for a run")
        honest(engine, job)

    monkeypatch.setattr(runs.engines, "run", run)
    with pytest.raises(RunError, match=r"^other: failed, and said above why"):
        found.main(part("data").Entry(other), found.entry)
    told = capsys.readouterr().err
    assert "error: no room for a run\n" in told
    assert f"the log of other, seed {tiny.SEED}, is" in " ".join(told.split())
    assert "## other\n" in found.page
    assert "No figures: the scenario was not run yet." in found.page
    assert "### Stage merging (group A)" in found.page


def test_reports_and_data_that_cannot_be_used(
    script: ModuleType,
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If this fails, one table mixes the figures of two versions."""
    found = make(script, tmp_path, data, monkeypatch)
    found.main()
    (file,) = found.root.glob("runs/**/report.json")
    whole = json.loads(file.read_text())
    for change, words in (
        ({"versions": whole["versions"] | {"torch": "1.0"}}, "was made by torch 1.0, not "),
        (
            {"scenario": whole["scenario"] | {"seed": 9}},
            f"is not of tiny with seed {tiny.SEED}; remove",
        ),
        ({"schema_version": 0}, "schema_version is 0; allowed: 1"),
    ):
        file.write_text(json.dumps(whole | change))
        with pytest.raises(RunError, match="tiny: failed"):
            found.main()
        assert words in " ".join(capsys.readouterr().err.split())
    kept = found.asked.data / "tiny.json"
    for text, words in (("{", "cannot be read as"), ('{"schema_version": 0}', "is 0; allowed: 1")):
        kept.write_text(text)
        with pytest.raises(InputError, match=words):
            script.text(found.asked, [found.entry])
    assert found.ran == [tiny.SEED]


def test_bad_input_is_found_before_anything_runs(
    script: ModuleType, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a wrong name is told after half an hour."""
    found = make(script, tmp_path, data, monkeypatch)
    asked = found.asked
    asked.only = ["tinny"]
    with pytest.raises(InputError, match=r"--only tinny: no such scenario; .* did you mean tiny"):
        script.main(asked, [found.entry])
    with pytest.raises(ScenarioError, match=r"gone\.yaml"):
        found.main(found.entry, part("data").Entry(tmp_path / "gone.yaml"))
    asked.only = ["tiny"]
    with pytest.raises(ScenarioError, match=r"gone\.yaml"):
        script.main(asked, [found.entry, part("data").Entry(tmp_path / "gone.yaml")])
    asked = found.asked
    asked.engine = "ray"
    with pytest.raises(InputError, match="ray"):
        script.main(asked, [found.entry])
    assert found.ran == []
    assert not asked.page.exists()


# ---------------------------------------------------------------- statements on made-up numbers


def method(name: str, merge: Sequence[float | None], gaps: Sequence[float] = ()) -> Any:
    """A method with these averages, one a seed."""
    results = []
    for at, value in enumerate(merge):
        average = {"merge_accuracy": value, "gap_of_means": gaps[at] if gaps else None}
        own = {"method": name, "granularity": None, "variant": None, "status": "ok", "tasks": []}
        results.append({**own, "average": {**average, "gap_of_means_ci95": None}})
    return part("over_seeds").Method(tuple(results))


ACCURACIES = st.lists(st.sampled_from([k / 7 for k in range(300, 320)]), min_size=3, max_size=3)


@given(st.lists(ACCURACIES, min_size=1, max_size=6))
def test_the_order_is_that_of_the_means(script: ModuleType, merge: list[list[float]]) -> None:
    """If this fails, the page ranks a worse method before a better one, or tells equals apart."""
    found = part("order").ranked([method(f"m{at}", of) for at, of in enumerate(merge)])
    at = [int(place.method.name[1:]) for place in found]
    assert sorted(at) == list(range(len(merge)))
    for place, one, two in zip(found, at, at[1:], strict=False):
        means = [statistics.fmean(merge[k]) for k in (one, two)]
        assert means[0] > means[1] - 1e-9
        assert one < two or means[0] > means[1] + 1e-9, "equal ones stay as they were"
        ahead = [a - b for a, b in zip(merge[one], merge[two], strict=True)]
        reach = T * statistics.stdev(ahead) / math.sqrt(3)
        distance = abs(statistics.fmean(ahead)) - reach
        if abs(distance) > 1e-6:
            words = "significant" if distance > 0 else "not significant"
            assert part("order").verdict(place.ahead) == words
        elif reach < 1e-6:
            assert part("order").verdict(place.ahead) == "not significant"
    assert found[-1].ahead is None


def test_what_floats_add_is_no_difference(script: ModuleType) -> None:
    """If this fails, two methods with the same predictions differ significantly."""
    difference = part("over_seeds").minus((0.1 + 0.2,) * 3, (0.3,) * 3)
    assert difference == (0.0, 0.0, 0.0)
    assert part("order").verdict(difference) == "not significant"


def test_a_method_without_merge_accuracy_has_no_place(script: ModuleType) -> None:
    """If this fails, a mean over the seeds that happened to succeed is ranked."""
    some = [method("a", (1.0, None, 2.0)), method("b", (1.0, 2.0, 3.0))]
    assert [place.method.name for place in part("order").ranked(some)] == ["b"]
    assert part("order").ranked(some[:1]) == []


def test_who_beats_simple_averaging(script: ModuleType) -> None:
    """If this fails, the page claims what its intervals do not carry."""
    said = part("order").against_simple
    base = method("simple-average", (70.0, 71.0, 72.0))
    found = said(
        [
            method("regmean", (68.0, 68.9, 70.1)),
            method("ties", (75.0, 71.0, 73.0)),
            method("task-arithmetic", (72.0, 73.1, 73.9)),
            base,
            method("adamerging", (72.0, None, 73.9)),
        ]
    )
    assert found == [
        "task-arithmetic beats simple-average: +2.00 points, interval [1.75, 2.25].",
        "ties does not differ significantly from simple-average: +2.00 points, interval [-4.57, 8.57].",
        "regmean does not beat simple-average, it is below: -2.00 points, interval [-2.25, -1.75].",
        "adamerging: the difference to simple-average is not available.",
    ]
    few = said([method("simple-average", (70.0,)), method("ties", (69.0,))])
    assert few == [
        "ties is below simple-average: -1.00 points (1 seed: an interval needs 3).",
        "Not in this scenario: task-arithmetic, regmean, adamerging.",
    ]


def test_signs_and_orders_beside_the_paper(script: ModuleType) -> None:
    """If this fails, the page says that we agree with the paper where we do not."""
    paper = part("paper")
    average = {"merge": 80.0, "ensemble": 85.0, "gap": 5.0}
    for gaps, words in (
        ((-2.0, -2.1, -1.9), "same"),
        ((2.0, 2.1, 1.9), "different"),
        ((-2.0, 2.1, -1.9), "ours not significant"),
    ):
        row = paper.Beside("A", average, method("ties", (70.0, 71.0, 72.0), gaps))
        assert row.signs == words
    assert paper.Beside("A", average, None).signs == "-"
    better, worse = method("wemoe", (90.0,)), method("ties", (80.0,))
    rows = [
        paper.Beside("T", {"merge": 70.0}, worse),
        paper.Beside("T", {"merge": 70.0}, method("ties-again", (81.0,))),
        paper.Beside("W", {"merge": 75.0}, better),
        paper.Beside("S", {"merge": 60.0}, method("simple-average", (80.5,))),
        paper.Beside("R", {"merge": 99.0}, None),
    ]
    assert paper.order(rows) == (5, ["simple-average over ties"])


def test_options_that_differ_by_seed_are_those_of_a_seed(script: ModuleType) -> None:
    """If this fails, one seed's chosen option is shown as that of all."""
    results = []
    for value, base in zip((0.1, 0.5, 0.1), method("ties", (1.0, 2.0, 3.0)).results, strict=True):
        tried = [{"options": {"lambda": each}, "pool_accuracy": 50.0} for each in (0.1, 0.5)]
        said = {"needs": "theta_0", "options": {"lambda": value}, "tried": tried}
        results.append({**base, "settings": {**said, "extension": "by hand"}})
    stages = tuple({"name": "s", "results": [result]} for result in results)
    shown = "\n".join(part("tables").options(part("tables").StageOver((7, 8, 9), stages)))
    assert "| seeds 7, 9: lambda 0.1; seed 8: lambda 0.5 | best of 2 by accuracy on" in shown
    assert shown.endswith("\n- ties: extension: by hand")


def test_a_status_that_differs_by_seed_is_counted(script: ModuleType) -> None:
    """If this fails, a method that failed with one seed looks as if it had never failed."""
    results = [*method("ties", (1.0, 2.0)).results, None]
    results[1] = {**results[1], "status": "not-permitted", "average": None}
    found = part("over_seeds").Method(tuple(results))
    assert found.status == "ok in 1, not permitted in 1, not there in 1 of 3 seeds"
    assert found.average("merge_accuracy") == (1.0, None, None)
    assert part("over_seeds").shown(found.average("merge_accuracy")) == "-"
