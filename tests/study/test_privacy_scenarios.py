"""scenarios/privacy/: every file is valid, plans, runs under both engines, and verifies.

The runs are of shrunk copies: the same stages, policies and protections, with a small model and
small tasks.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import secret_search
import tiny
import yaml

from neulig_fl import cli
from neulig_fl.config.values import SUMS
from neulig_fl.config.yaml_source import read
from neulig_fl.records.release_plan import open_setting
from neulig_fl.report import Report
from neulig_fl.study import runs
from neulig_fl.study.checking import load
from neulig_fl.verification.whole_run import verify

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "scenarios" / "privacy").rglob("*.yaml"))
NAMES = [file.stem for file in FILES]
NOISY = frozenset({"gaussian"})
"""Protections that draw secret noise: two runs differ."""

CHANGES = 120
"""Bytes that are changed for each scenario, one at a time."""

SMALL: dict[str, dict[str, Any]] = {
    "experts": {"epochs": 1, "batch_size": 16},
    "queries": {"pool": 6, "evaluation": 7, "train": 5},
    "portland": {"epochs": 2, "batch_size": 4},
}


def shrunk(file: Path, data: Path, model: dict[str, str]) -> dict[str, Any]:
    """The same scenario on two small tasks, with few queries and a small model."""
    said = dict(read(file).data)
    said["model"] = model
    said["tasks"] = {
        name: {"source": "imagefolder", "root": str(data / name)} for name in ("first", "second")
    }
    said["clients"] = [
        {**client, "task": ("first", "second")[i % 2]} for i, client in enumerate(said["clients"])
    ]
    for section, values in SMALL.items():
        said[section] = {**said.get(section, {}), **values}
    return said


def run(
    file: Path, data: Path, folder: Path, engine: str = "local", model: dict[str, str] = tiny.MODEL
) -> Report:
    """Run a shrunk copy in `folder/out`."""
    folder.mkdir(parents=True)
    path = folder / file.name
    path.write_text(yaml.safe_dump(shrunk(file, data, model), sort_keys=False))
    return runs.run(path, engine=engine, out=folder / "out")


def protections(file: Path) -> frozenset[str]:
    """Every protection that a scenario asks for."""
    stages = load(file).stages
    return frozenset(share.protection.name for stage in stages for share in stage.share)


def covering() -> list[Path]:
    """A few of the files, which together use every protection that any of them uses."""
    chosen: list[Path] = []
    left = {each for file in FILES for each in protections(file)}
    while left:
        best = max(FILES, key=lambda file: len(protections(file) & left))
        chosen.append(best)
        left -= protections(best)
    return chosen


def test_the_scenarios_are_there() -> None:
    """Without it a renamed folder would leave nothing to be tested."""
    expected = {"outputs-only", "outputs-then-parameters", "never-parameters"}
    assert {*expected, "parameters-then-outputs"} <= set(NAMES)
    assert [load(file).name for file in FILES] == NAMES


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_scenario_says_what_it_asks(file: Path) -> None:
    """Without it a reader would have to work out from the keys what is given away, and why."""
    lines = file.read_text().splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert len(head) >= 3
    assert "?" in " ".join(head)


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_plan_tells_what_leaves_whom(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it the clients would agree to a scenario without knowing what they give."""
    scenario = load(file)
    with pytest.raises(SystemExit) as end:
        cli.main(["plan", str(file)])
    told = capsys.readouterr()
    assert end.value.code == 0, told.err
    text = " ".join(told.out.split())
    for stage in scenario.stages:
        assert f"Stage {stage.name} (group {stage.group})" in text
        for share in stage.share:
            assert share.kind in text
            assert share.protection.name == "none" or share.protection.name in text


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """A local run of every scenario; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    return {file.stem: run(file, data, folder / file.stem) for file in FILES}


def _where(report: Report) -> Path:
    assert report.path is not None
    return report.path if report.path.is_dir() else report.path.parent


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_what_was_planned_is_what_left(file: Path, finished: dict[str, Report]) -> None:
    """Without it `plan` would promise one thing and a run would do another."""
    report = finished[file.stem]
    scenario = load(_where(report) / "scenario.yaml")
    forecast = open_setting(scenario, scenario.seed).forecast
    for stage in report.data["stages"]:
        planned = [p for p in forecast[stage["name"]] if p.request.protection not in SUMS]
        left = [r for r in stage["releases"] if r["protection"] not in SUMS]
        assert [(r["client"], r["kind"], r["queries"], r["protection"], r["rows"]) for r in left] == [
            (p.client, p.request.kind, p.request.queries, p.request.protection, p.rows)
            for p in planned
            if p.refusal is None
        ]  # fmt: skip
        refused = {(r["client"], r["kind"]) for r in stage["refusals"]}
        assert refused >= {(p.client, p.request.kind) for p in planned if p.refusal is not None}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_scenario_has_figures(file: Path, finished: dict[str, Report]) -> None:
    """Without it a scenario could end well and answer nothing."""
    rows = [row for stage in finished[file.stem].data["stages"] for row in stage["results"]]
    figures = ("merge_accuracy", "ensemble_accuracy")
    averages = [row["average"] or {} for row in rows]
    assert any(each.get(name) is not None for each in averages for name in figures)
    assert all(row["status"] == "ok" or row["reason"] for row in rows)


@pytest.mark.slow
def test_a_client_that_never_shares_parameters_is_left_out(finished: dict[str, Report]) -> None:
    """Without it never-parameters would show a merge in which the client took part."""
    stage = finished["never-parameters"].data["stages"][1]
    assert [(r["client"], r["kind"]) for r in stage["refusals"]] == [("harbour", "parameters")]
    assert [r["client"] for r in stage["releases"]] == ["north", "east", "south", "west"]
    row = finished["never-parameters"].result("parameters", "neulig", "sample")
    assert row["average"]["merge_accuracy"] is not None
    assert row["experts"] == ["north", "east", "south", "west"]
    assert "harbour" in row["reason"]
    assert all(task["merge_accuracy"] is not None for task in row["tasks"])


@pytest.mark.slow
def test_the_way_back_uses_no_new_parameters(finished: dict[str, Report]) -> None:
    """Without it a stage of outputs would go on to take parameters."""
    first, second = finished["parameters-then-outputs"].data["stages"]
    assert {r["kind"] for r in first["releases"]} == {"features", "parameters"}
    assert {(r["kind"], r["queries"]) for r in second["releases"]} == {("features", "evaluation")}
    assert second["group"] == "B"
    row = finished["parameters-then-outputs"].result("outputs", "neulig", "sample")
    assert row["average"]["ensemble_accuracy"] is not None
    assert row["average"]["merge_accuracy"] is None


# ---------------------------------------------------------------- verify


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_any_changed_byte_of_a_ledger_is_found(file: Path, finished: dict[str, Report]) -> None:
    """Without it what a client gave away could be rewritten after the run (law 9)."""
    folder = _where(finished[file.stem])
    before = verify(folder)
    assert all(each.holds for each in before), [str(f) for e in before for f in e.failures]
    books = [folder / "receipts.jsonl", *sorted((folder / "clients").glob("*/ledger.jsonl"))]
    assert len(books) == 1 + len(load(file).clients)
    changed = 0
    for book, at, octet in _changes(books, random.Random(file.stem)):
        content = book.read_bytes()
        try:
            book.write_bytes(content[:at] + bytes([octet]) + content[at + 1 :])
            assert not all(each.holds for each in verify(folder)), (book.name, at, octet)
        finally:
            book.write_bytes(content)
        changed += 1
    assert changed >= CHANGES
    assert verify(folder) == before


def _changes(books: list[Path], rng: random.Random) -> Iterator[tuple[Path, int, int]]:
    """A file, a place in it, and the byte to put there: the ends of each, then anywhere at all."""
    sizes = [book.stat().st_size for book in books]
    places = [(book, at) for book, n in zip(books, sizes, strict=True) for at in (0, n - 1)]
    while len(places) < CHANGES:
        book = rng.choices(books, weights=sizes)[0]
        places.append((book, rng.randrange(book.stat().st_size)))
    for book, at in places:
        held = book.read_bytes()[at]
        yield book, at, (held + rng.randrange(1, 256)) % 256


# ---------------------------------------------------------------- the two engines


@pytest.mark.slow
def test_both_engines_agree(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it what was tried on one machine would not be what Flower's messages do.

    Where noise is secret two runs differ in their figures, and must not differ in what left whom.
    """
    model = {"name": "micro-vit", "pretrained": "none"}
    monkeypatch.setenv("NEULIG_CACHE", str(tmp_path / "cache"))
    for file in covering():
        local, simulated = (
            run(file, data, tmp_path / engine / file.stem, engine, model)
            for engine in ("local", "simulation")
        )
        assert _told(simulated) == _told(local), file.stem
        if not protections(file) & NOISY:
            assert tiny.results(simulated) == tiny.results(local), file.stem
        folder = _where(simulated)
        assert all(each.holds for each in verify(folder)), file.stem
        secrets = secret_search.stored(folder)
        assert len(secrets) >= 3 * len(load(file).clients)
        places = secret_search.files(folder, secret_search.STATE_FILES)
        assert "flower.log" in places
        assert secret_search.found(secrets, places) == [], file.stem


def _told(report: Report) -> list[dict[str, Any]]:
    """What left whom and what could be computed, without figures."""
    fixed = ("client", "kind", "queries", "protection", "rows", "bytes", "epsilon", "delta")
    return [
        {
            "stage": stage["name"],
            "releases": [[r[name] for name in fixed] for r in stage["releases"]],
            "refusals": stage["refusals"],
            "rows": [(r["method"], r["granularity"], r["status"]) for r in stage["results"]],
        }
        for stage in json.loads(json.dumps(report.data["stages"]))
    ]
