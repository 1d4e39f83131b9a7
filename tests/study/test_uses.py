"""Which records nothing uses: that nothing is called useless which changes a result."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from hypothesis import HealthCheck, assume, given, settings
from test_predicted import scenarios

from neulig_fl.config.scenario import Scenario, Share
from neulig_fl.core.errors import ScenarioError
from neulig_fl.records.release_plan import Setting, open_setting
from neulig_fl.study.checking import load
from neulig_fl.study.dry_run import rehearse
from neulig_fl.study.outlook import StageOutlook
from neulig_fl.study.uses import AGREEING, Record, unused

BOTH = ["pool", "evaluation"]
FEATURES = {"kind": "features", "queries": BOTH}
NO_ALIGNMENT = {"epochs": 1, "batch_size": 4, "alignment": "none"}


def _setting(folder: Path, data: Path, **changes: Any) -> Setting:
    scenario = tiny.scenario(folder, data, **{"portland": NO_ALIGNMENT, **changes})
    return open_setting(scenario, scenario.seed)


def _one(*share: dict[str, Any], **more: Any) -> dict[str, Any]:
    run = {"run": ["train-portland", "ensemble"], **more}
    return {"stages": [{"name": "one", "share": [FEATURES, *share], **run}]}


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        (_one(), []),
        (_one({"kind": "inputs"}), [("inputs", "train")]),
        (_one({"kind": "gram"}), [("gram", None)]),
        (_one({"kind": "gram"}, {"kind": "parameters"}, run=["train-portland", "merge"]), [("gram", None)]),
        (_one({"kind": "gram"}, {"kind": "parameters"}, run=["train-portland", "merge"]) | {"methods": ["regmean"]}, []),
        (_one({"kind": "logits"}), [("logits", "pool"), ("logits", "evaluation")]),
        (_one({"kind": "labels"}, run=["train-portland", "vote"]), [("features", "evaluation"), ("labels", "pool")]),
        (_one({"kind": "offset-sum"}), [("offset-sum", None)]),
        (_one({"kind": "offset-sum"}) | {"portland": {**NO_ALIGNMENT, "alignment": "paper"}}, []),
        (_one({"kind": "parameters"}), [("parameters", None)]),
        (_one({"kind": "parameters"}) | {"portland": {**NO_ALIGNMENT, "objective_on": "both"}}, []),
        (_one({"kind": "parameters", "protection": "secure-aggregation"}), [("parameters", None)]),
        (_one() | {"portland": {**NO_ALIGNMENT, "queries": "evaluation", "objective": "semi"}}, []),
    ],
)  # fmt: skip
def test_what_no_step_and_no_method_asks_for_is_unused(
    changes: dict[str, Any], idle: list[Record], data: Path, tmp_path: Path
) -> None:
    """Without it clients would give away training images, or a model, for nothing."""
    found = unused(_setting(tmp_path, data, **changes))
    assert found == ({"one": idle} if idle else {})


def test_what_a_later_stage_uses_is_used(data: Path, tmp_path: Path) -> None:
    """Without it a user would leave out what a later stage needs."""
    later = {"name": "two", "share": [], "run": ["merge"]}
    stages = [*_one({"kind": "parameters"})["stages"], later]
    assert unused(_setting(tmp_path, data, stages=stages)) == {}
    silent = [{**each, "policy": {"never": ["parameters"]}} for each in tiny.said(data)["clients"]]
    ended = _setting(tmp_path, data, stages=stages, clients=silent)
    assert unused(ended) == {}, "also where the run ends before"


def test_results_are_the_same_without_what_nothing_uses(data: Path, tmp_path: Path) -> None:
    """Without it a result would change when a user does as `check` says."""
    useless = [{"kind": "logits"}, {"kind": "gram"}, {"kind": "inputs"}]
    full = tiny.run(tmp_path / "full", data, portland=NO_ALIGNMENT, **_one(*useless))
    less = tiny.run(tmp_path / "less", data, portland=NO_ALIGNMENT, **_one())
    assert tiny.results(full) == tiny.results(less)


def _alike(one: StageOutlook, other: StageOutlook) -> bool:
    """Whether two stages permit the same, in one order where both or none have sums."""
    sums = [any(share.in_sums for share in each.stage.share) for each in (one, other)]
    found = [[str(row) for row in each.results] for each in (one, other)]
    return found[0] == found[1] if sums[0] == sums[1] else sorted(found[0]) == sorted(found[1])


@given(said=scenarios())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_without_what_nothing_uses_as_much_is_permitted(said: dict[str, Any], data: Path) -> None:
    """Without it some step would lack what was called useless, in a scenario of any form."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "scenario.yaml"
        path.write_text(yaml.safe_dump(tiny.said(data, **said)), encoding="utf-8")
        try:
            scenario = load(path).resolved(path.parent)
        except ScenarioError:
            assume(False)
        whole = open_setting(_agreeing(scenario), scenario.seed)
        idle = unused(whole)
        less = replace(whole, scenario=_without(whole.scenario, idle))
        before, after = list(rehearse(whole)), list(rehearse(less))
        assert all(_alike(*each) for each in zip(after, before, strict=True))
        assert [each.stops for each in after] == [each.stops for each in before]


def _agreeing(scenario: Scenario) -> Scenario:
    clients = tuple(each.model_copy(update={"policy": AGREEING}) for each in scenario.clients)
    return scenario.model_copy(update={"clients": clients})


def _without(scenario: Scenario, idle: dict[str, list[Record]]) -> Scenario:
    stages = []
    for stage in scenario.stages:
        share = [_used(each, idle.get(stage.name, [])) for each in stage.share]
        kept = tuple(each for each in share if each is not None)
        stages.append(stage.model_copy(update={"share": kept}))
    return scenario.model_copy(update={"stages": tuple(stages)})


def _used(share: Share, idle: list[Record]) -> Share | None:
    """What is left of an entry of share; None where nothing is."""
    if not share.queries:
        return None if (share.kind, None) in idle else share
    kept = tuple(queries for queries in share.queries if (share.kind, queries) not in idle)
    return share.model_copy(update={"queries": kept}) if kept else None
