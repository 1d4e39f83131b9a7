"""`neulig_fl.run` from Python: what it takes, what it returns, where it can be called."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import yaml

import neulig_fl
from neulig_fl.config import given_scenario
from neulig_fl.core.errors import InputError, ScenarioError
from neulig_fl.report import Report, summary
from neulig_fl.study import from_python
from neulig_fl.study.checking import load, open_given
from neulig_fl.verification.whole_run import verify


def _run(scenario: Any, out: Path, **more: Any) -> Any:
    return neulig_fl.run(scenario, "local", out, **{"quiet": True, **more})


def test_a_path_a_mapping_and_a_scenario_give_the_same(data: Path, tmp_path: Path) -> None:
    """Without it a study written in Python would run something else than its YAML says."""
    path = tiny.write(tmp_path, data)
    said = tiny.said(data)
    of_path = _run(path, tmp_path / "one")
    of_mapping = _run(said, tmp_path / "two")
    of_scenario = _run(load(path), tmp_path / "three")
    for report in (of_mapping, of_scenario):
        assert tiny.results(report) == tiny.results(of_path)
        said = {**report.data["scenario"], "file": "scenario.yaml"}
        assert said == of_path.data["scenario"]
        assert verify(report.path.parent)[0].failures == ()
    assert Report.load(tmp_path / "two").data == of_mapping.data


def test_overrides_are_a_mapping_or_texts(data: Path, tmp_path: Path) -> None:
    """Without it a value would have to be spelt as text, quotes and all, or be misread."""
    path = tiny.write(tmp_path, data)
    given = {"name": "yes", "portland.epochs": 1, "seed": 4, "clients.0.policy": {"never": []}}
    mapping = open_given(path, given)
    texts = open_given(path, ['name="yes"', "portland.epochs=1", "seed=4",
                              "clients.0.policy={never: []}"])  # fmt: skip
    assert mapping.scenario == texts.scenario
    assert mapping.scenario.name == "yes"
    assert open_given(tiny.said(data), {"seeds": [7, 8]}).scenario.all_seeds == (7, 8)
    odd = {"tasks.first.root": data / "first"}
    assert str(open_given(path, odd).scenario.tasks["first"].root) == str(data / "first")


def test_several_seeds_give_one_report_each(data: Path, tmp_path: Path) -> None:
    """Without it all seeds but the last would be lost to the caller."""
    said = {k: v for k, v in tiny.said(data).items() if k != "seed"}
    reports = _run(said, tmp_path / "out", overrides={"seeds": [3, 4]})
    assert [r.data["scenario"]["seed"] for r in reports] == [3, 4]
    assert [r.data for r in Report.load_seeds(tmp_path / "out")] == [r.data for r in reports]
    file = tmp_path / "out" / "summary.json"
    assert len(Report.load_seeds(file)) == 2
    built = summary.read(tmp_path / "out")
    asked = {"file": "the mapping", "overrides": ["seeds=[3, 4]"]}
    assert built["scenario"].items() >= asked.items()
    assert built["notes"] == reports[0].data["notes"]
    assert "Differs from the mapping in seeds=[3, 4]." in (
        tmp_path / "out" / "seed-3" / "report.md"
    ).read_text(encoding="utf-8")
    assert [r.data for r in Report.load_seeds(tmp_path / "out" / "seed-4")] == [reports[1].data]
    with pytest.raises(InputError, match=r"name one of seed-3, seed-4; .*Report.load_seeds"):
        Report.load(tmp_path / "out")
    (one,) = _run(said, tmp_path / "one", overrides={"seeds": [3]})
    assert tiny.results(one) == tiny.results(reports[0])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"experts": {"epoch": 1}}, "the mapping: experts.epoch: "),
    "a wrong value": ({"queries": {"pool": "many"}}, "the mapping: queries.pool: "),
    "what does not fit together": (
        {"clients": [{"name": "ada", "task": "none"}, {"name": "bob", "task": "second"}]},
        "the mapping: clients.0.task: ",
    ),
    "a value of Python's": ({"seed": {3}}, "the mapping: seed: a set has no place in a scenario"),
    "a number of NumPy's": ({"seed": np.int64(3)}, "the mapping: seed: a int64 has no place"),
    "no finite number": (
        {"portland": {"lr": float("inf")}}, "the mapping: portland.lr: a number that is not finite"
    ),
    "a key that is no text": (
        {"experts": {1: 2}}, "the mapping: experts: the key 1 is no text; write it so"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_of_a_mapping_name_the_key(name: str, data: Path, tmp_path: Path) -> None:
    """Without it an error would point to a line of a file that nobody wrote."""
    change, wanted = WRONG[name]
    with pytest.raises(ScenarioError) as raised:
        _run({**tiny.said(data), **change}, tmp_path / "out")
    assert str(raised.value).startswith(wanted), raised.value
    assert not (tmp_path / "out").exists()


def test_wrong_overrides_and_scenarios_are_one_error(data: Path, tmp_path: Path) -> None:
    """Without it they would end in a traceback of a library."""
    said = tiny.said(data)
    for given, overrides, wanted in (
        (said, {"portland.epoch": 1}, "--set portland.epoch=1: portland.epoch: "),
        (said, {"seed": {1}}, "overrides: seed: a set has no place"),
        (said, "seed=8", "overrides: 'seed=8' is one text"),
        (7, (), "scenario: a int is none; allowed: the path of a YAML file, a mapping"),
        ({"name": "\ud800"}, (), "the mapping: '\\ud800' cannot be read as str"),
    ):
        with pytest.raises(ScenarioError) as raised:
            _run(given, tmp_path / "out", overrides=overrides)
        assert str(raised.value).startswith(wanted), raised.value


def test_texts_that_look_like_something_else_stay_texts() -> None:
    """Without it a client called `1e5`, or `yes`, would become a number, or true."""
    said = {"a": "1e5", "b": "yes", "c": "null", "d": "007", "e": "é\u2028 #: x", "f": 1e-7,
            "g": [1, 2.5, True, None], "h": "😀\x00\x85\ufeff", "i": (), "j": {}}  # fmt: skip
    assert given_scenario.source(said).data == {**said, "i": []}
    assert yaml.safe_load(given_scenario.source({"a": {"b": 1}}).text) == {"a": {"b": 1}}


def test_it_can_be_called_where_an_event_loop_runs(data: Path, tmp_path: Path) -> None:
    """Without it a call from a notebook, which runs a loop, would fail."""

    async def cell() -> Any:
        return _run(tiny.said(data), tmp_path / "out")

    assert asyncio.run(cell()).data["stages"]


@pytest.mark.slow
def test_the_simulation_can_be_called_where_an_event_loop_runs(tmp_path: Path) -> None:
    """Without it a call from a notebook would fail under Flower's engine."""
    clients = [{"name": "ada", "task": "digits"}, {"name": "bob", "task": "shapes"}]
    stages = [{"name": "one", "share": [{"kind": "features", "queries": ["pool", "evaluation"]}],
               "run": ["train-portland", "ensemble"]}]  # fmt: skip
    small = {"name": "loop", "clients": clients, "stages": stages,
             "queries": {"pool": 4, "evaluation": 4}, "experts": {"epochs": 1},
             "portland": {"epochs": 1, "alignment": "none"}}  # fmt: skip

    async def cell() -> Any:
        return neulig_fl.run(small, out=tmp_path / "out", quiet=True)

    report = asyncio.run(cell())
    assert report.data["engine"] == "simulation"


def test_progress_is_shown_unless_quiet(data: Path, tmp_path: Path, capsys: Any) -> None:
    """Without it a call of minutes would say nothing, or a script's output be mixed with lines."""
    _run(tiny.said(data), tmp_path / "one", quiet=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert "the mapping: local engine, in " in err
    assert "outputs: features" in err
    _run(tiny.said(data), tmp_path / "two")
    assert capsys.readouterr() == ("", "")
    events: list[Any] = []
    _run(tiny.said(data), tmp_path / "three", quiet=False, show=events.append)
    assert capsys.readouterr() == ("", "")
    assert any("task" in event for event in events)


def test_a_report_is_one_short_line(data: Path, tmp_path: Path) -> None:
    """Without it a report in a prompt would print a hundred thousand characters."""
    report = _run(tiny.said(data), tmp_path / "out")
    average = report.result("merging", "neulig", "sample")["average"]
    assert repr(report) == (
        f"<Report tiny, seed {tiny.SEED}: merging: NeuLig (sample), merged model "
        f"{average['merge_accuracy']:.2f} %>"
    )
    named = json.loads(json.dumps(report.data))
    named["scenario"]["name"] = "a\x1b[2J\nb"
    assert "\n" not in repr(Report(named))
    assert "\x1b" not in repr(Report(named))
    assert repr(Report({})) == "<Report that is not valid>"


def test_the_package_offers_the_call() -> None:
    """Without it `neulig_fl.run` would be another function than is documented."""
    assert neulig_fl.run is from_python.run
