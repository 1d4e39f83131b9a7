"""The sums that a scenario's steps will ask for: their size, their leverage, and who will refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny

from neulig_fl.config.scenario import Stage
from neulig_fl.privacy.secagg import Terms
from neulig_fl.records.release_plan import open_setting
from neulig_fl.records.secagg import requests
from neulig_fl.records.secagg.plan import PlannedSum, SumPlan

AVERAGE, GLOBAL, TASK = ("simple-average", None), ("neulig", "global"), ("neulig", "task")
PARAMETERS, FEATURES = ("parameters", None), ("features", "evaluation")
SHARE = [
    {"kind": "features", "queries": ["evaluation"], "protection": "secure-aggregation"},
    {"kind": "parameters", "protection": "secure-aggregation"},
]
STAGE = {"name": "one", "share": SHARE, "run": ["merge"]}
SUMMED = {"name": "one", "share": SHARE}


class Planning:
    """The sums of a scenario, asked for by hand."""

    def __init__(self, folder: Path, data: Path, **changes: Any) -> None:
        said = {"stages": [STAGE], "portland": {"alignment": "none"}, **changes}
        scenario = tiny.scenario(folder, data, **said)
        self.setting = open_setting(scenario, scenario.seed)
        self.plan = SumPlan(self.setting)
        self.everyone = tuple(client.name for client in scenario.clients)

    def stage(self, name: str = "one") -> Stage:
        """One stage of the scenario."""
        return next(s for s in self.setting.scenario.stages if s.name == name)

    def ask(
        self,
        row: tuple[str, str | None] = AVERAGE,
        record: tuple[str, str | None] = PARAMETERS,
        **more: Any,
    ) -> PlannedSum:
        """What comes of asking; in the first stage, of everybody."""
        stage, experts = self.stage(more.get("stage", "one")), more.get("experts", self.everyone)
        return self.plan.ask(stage, row, record, experts, more.get("portland"))[0]


def _clients(changed: str = "", count: int = 3, **policy: Any) -> list[dict[str, Any]]:
    names = [*tiny.CLIENTS, "dan", "eve"][:count]
    return [
        {"name": n, "task": ("second" if n == "bob" else "first")}
        | ({"policy": policy} if n == changed else {})
        for n in names
    ]


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("count", "threshold", "colluders"),
    [(3, None, 1), (5, None, 2), (5, 3, 0), (5, 5, 3), (2, None, None)],
)
def test_colluders_are_those_of_the_sums_terms(
    count: int, threshold: int | None, colluders: int | None, data: Path, tmp_path: Path
) -> None:
    """Without it a plan would promise more or less than the clients' terms keep."""
    said = {"clients": _clients(count=count), "secure_aggregation": {"threshold": threshold}}
    planning = Planning(tmp_path, data, **said) if count > 2 else Planning(tmp_path, data)
    found = planning.ask(experts=planning.everyone[:count])
    assert found.colluders == colluders
    if colluders is not None:
        least = requests.threshold(planning.setting.scenario.secure_aggregation, count)
        assert found.colluders == Terms(b"", tuple("abcde"[:count]), least, 1, 64.0).colluders


def test_a_sum_of_parameters_is_as_large_as_its_models(data: Path, tmp_path: Path) -> None:
    """Without it a user would not learn that a CoopVec Map costs a model for each task."""
    planning = Planning(tmp_path, data)
    entries = sum(math.prod(s) for s in planning.setting.family.entries().values())
    found = [planning.ask(row) for row in (GLOBAL, TASK, AVERAGE)]
    assert [(p.sums, p.bytes) for p in found] == [
        (1, 4 * entries),
        (2, 8 * entries),
        (1, 4 * entries),
    ]
    assert {p.clients for p in found} == {tiny.CLIENTS}


def test_a_sum_of_outputs_is_one_for_each_task(data: Path, tmp_path: Path) -> None:
    """Without it the rows of a masked answer would be foretold wrongly."""
    found = Planning(tmp_path, data).ask(AVERAGE, FEATURES)
    assert (found.sums, found.bytes) == (2, 14 * 16 * 4)
    half = [{**SHARE[0], "fraction": 0.5}, SHARE[1]]
    planning = Planning(tmp_path / "half", data, stages=[{**STAGE, "share": half}])
    assert planning.ask(AVERAGE, FEATURES).bytes == 2 * round(0.5 * 7) * 16 * 4


# ---------------------------------------------------------------- leverage


def test_the_leverage_of_an_average_is_known_and_that_of_coopvecs_is_not(
    data: Path, tmp_path: Path
) -> None:
    """Without it a plan would promise a merge that every client refuses, or hide what is certain."""
    planning = Planning(tmp_path, data)
    assert planning.ask().leverage == pytest.approx((1 / 3, 1 / 3))
    assert planning.ask(GLOBAL).leverage == pytest.approx((1 / 3, 1.0))
    other = Planning(tmp_path / "other", data)
    other.ask(TASK)
    assert other.ask().leverage == pytest.approx((1 / 3, 1.0)), "what came before is not known"
    assert other.ask(AVERAGE, FEATURES).leverage == pytest.approx((1 / 3, 1 / 3))


def test_averages_of_different_clients_add_up(data: Path, tmp_path: Path) -> None:
    """Without it two sums that single a client out would each be announced as harmless."""
    planning = Planning(tmp_path, data, clients=_clients(count=5))
    assert planning.ask().leverage == pytest.approx((0.2, 0.2))
    again = planning.ask(experts=("ada", "bob", "cyd", "dan"))
    # Everybody's mean and that without eve: the difference is eve's record, who is not asked.
    assert set(again.refusals) == {"ada", "bob", "cyd", "dan"}
    assert (
        "leverage of client 'eve' in sums over parameters would be 1.000" in (again.refusals["ada"])
    )
    assert again.refusal == "a secure sum needs 3 clients here, and would have 0 (nobody)"


def test_another_groups_expert_has_a_leverage_of_its_own(data: Path, tmp_path: Path) -> None:
    """Without it group B's sums would be refused for group A's, or one checkpoint counted twice."""
    stages = [STAGE, {**STAGE, "name": "two", "group": "B"}]
    changes = {"stages": stages, "experts": {"groups": ["A", "B"]}}
    clients = _clients(count=5)
    four = ("ada", "bob", "cyd", "dan")
    planning = Planning(tmp_path, data, clients=clients, **changes)
    planning.ask()
    assert planning.ask(stage="two", experts=four).refusal is None
    for client in clients:
        (tmp_path / f"{client['name']}.pt").write_bytes(b"not read here")
        client["checkpoint"] = f"{client['name']}.pt"
    planning = Planning(tmp_path, data, clients=clients, **changes)
    planning.ask()
    assert planning.ask(stage="two", experts=four).refusal is not None


# ---------------------------------------------------------------- who refuses


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"never": ["parameters"]}, "policy of client 'bob': never parameters"),
        (
            {"budgets": {"min_group_size": 4}},
            "policy of client 'bob': limit min_group_size 4: the sum has 3 clients",
        ),
        (
            {"budgets": {"max_leverage": 0.3}},
            "policy of client 'bob': leverage of client 'bob' in sums over parameters would be "
            "0.334, above max_leverage 0.3: 1 sum asked for, 0 before",
        ),
        (
            {"budgets": {"max_bytes": 100}},
            "policy of client 'bob': limit max_bytes 100: 0 bytes of this expert have been released, and "
            "this record has ",
        ),
        (
            {"budgets": {"max_epsilon": 8.0}},
            "policy of client 'bob': limit max_epsilon 8: with protection secure-aggregation no epsilon is "
            "known",
        ),
    ],
)  # fmt: skip
def test_a_refusal_is_foretold_and_too_few_are_no_sum(
    policy: dict[str, Any], reason: str, data: Path, tmp_path: Path
) -> None:
    """Without it a user would train for hours and learn then that nothing can be summed."""
    found = Planning(tmp_path, data, clients=_clients("bob", **policy)).ask()
    assert list(found.refusals) == ["bob"]
    assert found.refusals["bob"].startswith(reason)
    assert found.clients == ("ada", "cyd")
    assert found.refusal == "a secure sum needs 3 clients here, and would have 2 (ada, cyd)"


def test_others_go_on_and_one_refusal_can_bring_about_another(data: Path, tmp_path: Path) -> None:
    """Without it the plan would count on clients to whom a smaller group is too small."""
    clients = _clients("bob", count=5, never=["parameters"])
    found = Planning(tmp_path / "one", data, clients=clients).ask()
    assert (set(found.refusals), found.refusal) == ({"bob"}, None)
    assert found.clients == ("ada", "cyd", "dan", "eve")
    assert found.leverage == pytest.approx((0.25, 0.25))
    clients[0]["policy"] = {"budgets": {"min_group_size": 5}}
    found = Planning(tmp_path / "two", data, clients=clients).ask()
    assert list(found.refusals) == ["bob", "ada"]
    assert found.clients == ("cyd", "dan", "eve")


def test_the_threshold_is_the_scenarios(data: Path, tmp_path: Path) -> None:
    """Without it a sum below the threshold would be announced, and fail closed in the run."""
    clients = _clients("bob", count=5, never=["parameters"])
    found = Planning(tmp_path, data, clients=clients, secure_aggregation={"threshold": 5}).ask()
    assert found.refusal == (
        "a secure sum needs 5 clients here, and would have 4 (ada, cyd, dan, eve)"
    )


def test_what_was_released_before_counts(data: Path, tmp_path: Path) -> None:
    """Without it a limit would be foretold as if the stage before had taken nothing of it."""
    first = {"name": "zero", "share": [{"kind": "logits", "queries": ["pool"]}]}
    changes = {
        "clients": _clients("bob", budgets={"max_rows": 20}),
        "stages": [first, STAGE],
    }
    found = Planning(tmp_path, data, **changes).ask(AVERAGE, FEATURES)
    assert dict(found.refusals) == {
        "bob": "policy of client 'bob': limit max_rows 20: 12 rows of this expert have been released, and "
        "this record has 14"
    }


@pytest.mark.parametrize(
    ("share", "record"),
    [
        ({"kind": "parameters"}, PARAMETERS),
        ({"kind": "trimmed-task-vector", "fraction": 0.2}, PARAMETERS),
        ({"kind": "gram", "examples": 4}, PARAMETERS),
        ({"kind": "features", "queries": ["evaluation"], "fraction": 0.5}, FEATURES),
        ({"kind": "labels", "queries": ["evaluation"]}, FEATURES),
        ({"kind": "parameters"}, FEATURES),
        ({"kind": "features", "queries": ["train"]}, FEATURES),
    ],
)
def test_a_sum_with_those_whose_records_left_alone_is_foretold_as_refused(
    share: dict[str, Any], record: tuple[str, str | None], data: Path, tmp_path: Path
) -> None:
    """Without it a plan would promise a sum that the client whom it would tell refuses."""
    inputs = [{"kind": "inputs", "queries": ["train"]}] if "train" in str(share) else []
    first = {"name": "zero", "share": [*inputs, share]}
    clients = _clients("ada", count=4, preset="sums-only")
    planning = Planning(tmp_path, data, clients=clients, stages=[first, SUMMED])
    found = planning.ask(AVERAGE, record)
    assert "leverage of client 'ada' in sums over" in found.refusals["ada"]
    assert "would be 1.000" in found.refusals["ada"]


def test_a_sum_of_what_each_gave_alone_is_foretold_as_given(data: Path, tmp_path: Path) -> None:
    """Without it a plan would have sums refused that no client has a reason to refuse."""
    alone = {"kind": "features", "queries": ["pool", "evaluation"]}
    stages = [{"name": "zero", "share": [alone]}, SUMMED]
    found = Planning(tmp_path / "one", data, stages=stages).ask(AVERAGE, FEATURES)
    assert (dict(found.refusals), found.leverage) == ({}, pytest.approx((1 / 3, 1 / 3)))
    clients = _clients("ada", count=4, preset="sums-only")
    other = [{"name": "zero", "share": [{**alone, "queries": ["pool"]}]}, SUMMED]
    found = Planning(tmp_path / "two", data, clients=clients, stages=other).ask(AVERAGE, FEATURES)
    assert (dict(found.refusals), found.leverage) == ({}, pytest.approx((0.25, 0.25)))


def test_the_leverage_of_a_plan_counts_what_left_alone(data: Path, tmp_path: Path) -> None:
    """Without it a mean of five would be announced as one over five where the server knows one of them."""
    clients = _clients(count=5)
    for client in clients[1:]:
        client["policy"] = {"preset": "sums-only"}
    stages = [{"name": "zero", "share": [{"kind": "gram", "examples": 4}]}, SUMMED]
    found = Planning(tmp_path, data, clients=clients, stages=stages).ask()
    assert (dict(found.refusals), found.leverage) == ({}, pytest.approx((0.25, 0.25)))


def test_the_same_sum_is_asked_for_once(data: Path, tmp_path: Path) -> None:
    """Without it a second step or stage would be announced to take what is there already."""
    planning = Planning(tmp_path, data, stages=[STAGE, {**STAGE, "name": "two"}])

    def new(row: tuple[str, str | None], stage: str, portland: str | None) -> bool:
        where = planning.stage(stage)
        return planning.plan.ask(where, row, PARAMETERS, planning.everyone, portland)[1]

    assert [new(AVERAGE, "one", "x"), new(AVERAGE, "two", "y")] == [True, False]
    assert [new(GLOBAL, "one", "x"), new(GLOBAL, "two", "x"), new(GLOBAL, "two", "y")] == [
        True, False, True
    ]  # fmt: skip
