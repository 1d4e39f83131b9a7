"""What a plan says of differential privacy is what the report says after the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from neulig_fl.records.release_plan import open_setting
from neulig_fl.study.checking import load
from neulig_fl.study.cost_outlook import CostOutlook, foreseen
from neulig_fl.study.dry_run import rehearse

POOL = {"kind": "features", "queries": ["pool"]}
NOISED = tiny.noised(POOL, epsilon=8.0, clip=1.0, delta=1e-5)
MORE = tiny.noised({**POOL, "kind": "logits"}, noise_multiplier=3.0, clip=1.0, delta=1e-5)
SUMS = {"kind": "parameters", "protection": "secure-aggregation"}
SUMMED_OUTPUTS = {**POOL, "queries": ["evaluation"], "protection": "secure-aggregation"}
GROUPS = {"epochs": 1, "batch_size": 16, "groups": ["A", "B"]}


def _stage(name: str, *share: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "share": list(share), **more}


def _foreseen(folder: Path) -> CostOutlook:
    scenario = load(folder / "scenario.yaml").resolved(folder)
    setting = open_setting(scenario, scenario.seed)
    return foreseen(setting, rehearse(setting))


def _without_tags(privacy: dict[str, Any]) -> dict[str, Any]:
    """Experts have tags in ledgers, and names in a plan."""
    clients = [
        {**each, "experts": [{**e, "expert": None} for e in each["experts"]]}
        for each in privacy["clients"]
    ]
    return {**privacy, "clients": clients}


CASES: dict[str, dict[str, Any]] = {
    "no noise": {"stages": [_stage("one", POOL)]},
    "noise twice": {"stages": [_stage("one", NOISED), _stage("two", MORE)]},
    "noise, then none": {
        "stages": [_stage("one", NOISED), _stage("two", {"kind": "offset-sum"}), _stage("3", MORE)]
    },
    "none, then noise": {"stages": [_stage("one", {"kind": "offset-sum"}), _stage("two", NOISED)]},
    "two groups": {
        "experts": GROUPS,
        "stages": [_stage("one", NOISED), _stage("two", NOISED, group="B")],
    },
    "one refuses": {
        "clients": [
            {**each, "policy": {"budgets": {"max_epsilon": 4}} if each["name"] == "bob" else {}}
            for each in tiny.said(Path())["clients"]
        ],
        "on_refusal": "continue",
        "stages": [_stage("one", NOISED), _stage("two", MORE)],
    },
    "sums, then noise": {  # outputs that left with noise alone are guarded in later sums
        "stages": [_stage("one", SUMMED_OUTPUTS, SUMS, run=["merge"]), _stage("two", NOISED)]
    },
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_foreseen_is_what_is_reported(name: str, data: Path, tmp_path: Path) -> None:
    """Without it partners would agree to an epsilon that is not the one they spend."""
    report = tiny.run(tmp_path, data, **CASES[name])
    found = _foreseen(tmp_path).account
    assert _without_tags(found) == _without_tags(report.data["privacy"])


def test_it_is_said_where_and_why_epsilon_becomes_infinite(data: Path, tmp_path: Path) -> None:
    """Without it one would not know which record makes all noise worthless."""
    tiny.write(tmp_path, data, **CASES["noise, then none"])
    found = _foreseen(tmp_path)
    assert [found.sentence(name) for name in ("one", "two", "3")] == [
        "Epsilon so far is 8 at delta 1e-05, of the client that spends most.",
        "Epsilon is infinite from this stage on: without noise leaves offset-sum (all 3).",
        "Epsilon is infinite since stage two.",
    ]
    assert found.warning() == (
        "features, logits: noised, and yet epsilon is infinite from stage two on: without noise "
        "leaves offset-sum (all 3); give noise to that too, or leave it out"
    )
    assert found.record()["infinite"] == {
        "stage": "two",
        "kinds": {"offset-sum": ["ada", "bob", "cyd"]},
    }


@pytest.mark.parametrize("name", ["no noise", "noise twice"])
def test_nothing_is_warned_of_where_noise_holds_or_is_not(
    name: str, data: Path, tmp_path: Path
) -> None:
    """Without it every scenario would have a warning, and nobody would read it."""
    tiny.write(tmp_path, data, **CASES[name])
    found = _foreseen(tmp_path)
    assert found.warning() is None
    assert found.record()["infinite"] is None
    assert (found.sentence("one") is None) == (name == "no noise")
