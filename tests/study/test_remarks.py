"""What `check` says of a scenario that is valid and hardly meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from neulig_fl.core.errors import ClientRefused
from neulig_fl.records.release_plan import open_setting
from neulig_fl.study.remarks import remarks

FEATURES = {"kind": "features", "queries": ["pool", "evaluation"]}
NO_ALIGNMENT = {"epochs": 1, "batch_size": 4, "alignment": "none"}
SUMS = {"kind": "parameters", "protection": "secure-aggregation"}
TRAINED = {"name": "outputs", "share": [FEATURES], "run": ["train-portland", "ensemble"]}
SUMMED = {"name": "sums", "share": [SUMS], "run": ["merge"], "granularity": ["global", "task"]}


def _remarks(folder: Path, data: Path, **changes: Any) -> list[str]:
    scenario = tiny.scenario(folder, data, **{"portland": NO_ALIGNMENT, **changes})
    return list(remarks(open_setting(scenario, scenario.seed)))


def _with(data: Path, **policies: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**c, "policy": policies.get(c["name"], {})} for c in tiny.said(data)["clients"]]


def test_the_first_refusal_of_several_ends_the_run_and_is_named(data: Path, tmp_path: Path) -> None:
    """Without it the wrong client is blamed, and nobody learns what to change."""
    share = [tiny.noised(FEATURES, epsilon=8.0, clip=1.0, delta=1e-3)]
    changes = {"stages": [{**TRAINED, "share": share}], "portland": NO_ALIGNMENT}
    (found,) = _remarks(tmp_path, data, **changes)
    reason = (
        "policy of client 'ada': limit max_delta 1e-05 (the default): the noise is for a delta of "
        "0.001; budgets: {max_delta: 0.001} in that policy would allow it"
    )
    assert found == (
        "but its run would end in stage outputs: ada refuses features, and on_refusal is stop: "
        f"{reason}"
    )
    with pytest.raises(ClientRefused, match=r"client 'ada', .*limit max_delta 1e-05 \(the default"):
        tiny.run(tmp_path, data, **changes)
    allowing = {name: {"budgets": {"max_delta": 1e-3}} for name in tiny.CLIENTS}
    assert _remarks(tmp_path, data, **changes, clients=_with(data, **allowing)) == []


def test_what_portland_lacks_is_named_with_its_owner(data: Path, tmp_path: Path) -> None:
    """Without it one would look for features that are all there."""
    changes = {
        "clients": _with(data, ada={"never": ["offset-sum"]}, cyd={"never": ["offset-sum"]}),
        "portland": {**NO_ALIGNMENT, "alignment": "paper"},
        "stages": [{**TRAINED, "share": [{"kind": "offset-sum"}, FEATURES]}],
        "on_refusal": "continue",
    }
    lacks = (
        "Portland needs two clients that share features on pool queries, offset-sum; shared by: "
        "bob; missing: offset-sum of ada and cyd; portland.alignment: none needs no offset-sum"
    )
    found = _remarks(tmp_path, data, **changes)
    assert f"but its run would end in stage outputs: {lacks}" in found
    with pytest.raises(ClientRefused) as ended:
        tiny.run(tmp_path, data, **changes)
    assert str(ended.value) == f"stage 'outputs': {lacks}"


def test_without_training_inputs_it_is_these_that_are_named(data: Path, tmp_path: Path) -> None:
    """Without it one would look for outputs that nobody could be asked for."""
    share = [{"kind": "inputs"}, {"kind": "features", "queries": ["train"]}]
    changes = {
        "clients": _with(data, **{name: {"never": ["inputs"]} for name in tiny.CLIENTS}),
        "portland": {**NO_ALIGNMENT, "queries": "train"},
        "stages": [{**TRAINED, "share": share, "run": ["train-portland"]}],
        "on_refusal": "continue",
    }
    what = "no client released its training inputs; portland.queries: pool needs none"
    assert any(each.endswith(what) for each in _remarks(tmp_path, data, **changes))
    with pytest.raises(ClientRefused, match=what):
        tiny.run(tmp_path, data, **changes)


@pytest.mark.parametrize(
    ("changes", "may_end"),
    [
        ({}, True),
        ({"on_refusal": "continue"}, False),
        ({"policy": {"budgets": {"max_leverage": 1.0}}}, False),
        ({"policy": {"budgets": {"max_leverage": 1.0, "min_group_size": 2}}}, True),
        ({"granularity": ["sample"]}, False),
    ],
)
def test_a_run_that_coopvecs_may_end_is_foretold(
    changes: dict[str, Any], may_end: bool, data: Path, tmp_path: Path
) -> None:
    """Without it a run of hours ends at a sum that was likely to be refused."""
    policy, granularity = changes.pop("policy", {}), changes.pop("granularity", ["global", "task"])
    clients = _with(data, **dict.fromkeys(tiny.CLIENTS, policy))
    stages = [TRAINED, {**SUMMED, "granularity": granularity}]
    found = _remarks(tmp_path, data, stages=stages, clients=clients, **changes)
    assert len(found) == may_end
    if may_end:
        assert found[0].startswith(
            "but its run would end in stage sums if CoopVecs weigh the sums of parameters for "
            "NeuLig (global), simple-average, NeuLig (task)"
        )
        assert "on_refusal: continue" in found[0]


def test_what_nothing_uses_is_said_with_what_to_write(data: Path, tmp_path: Path) -> None:
    """Without it `labels` by itself asks for twice what a vote reads."""
    stages = [{"name": "vote", "share": [{"kind": "labels"}, {"kind": "gram"}], "run": ["vote"]}]
    assert _remarks(tmp_path, data, stages=stages) == [
        "stage vote shares labels of pool, and nothing uses that; write queries: [evaluation]",
        "stage vote shares gram, and nothing uses that; leave it out",
    ]
    stages = [
        {"name": "v", "share": [{"kind": "labels", "queries": ["evaluation"]}], "run": ["vote"]}
    ]
    assert _remarks(tmp_path, data, stages=stages) == []


@pytest.mark.parametrize(
    ("policy", "summed", "words"),
    [
        ({"budgets": {"min_group_size": 4}}, False, "min_group_size 4, and the scenario has 3"),
        ({"budgets": {"min_group_size": 4}}, True, "min_group_size 4, and the scenario has 3"),
        ({"budgets": {"min_group_size": 3}}, True, None),
        ({"budgets": {"max_leverage": 0.3}}, True, "max_leverage 0.3, and in a sum of 3 clients"),
        ({"preset": "outputs-only"}, False, None),
    ],
)
def test_a_limit_that_no_sum_meets_is_said(
    policy: dict[str, Any], summed: bool, words: str | None, data: Path, tmp_path: Path
) -> None:
    """Without it a client would believe that it takes part, and be in no sum."""
    stages = [TRAINED, *([SUMMED] if summed else [])]
    changes = {"stages": stages, "on_refusal": "continue"}
    found = _remarks(tmp_path, data, clients=_with(data, bob=policy), **changes)
    met = [each for each in found if each.startswith("policy of client 'bob': m")]
    assert len(met) == (words is not None)
    assert all(str(words) in each for each in met)
