"""The plan: what is announced before anything is loaded."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import tiny

from neulig_fl.data.sources import imagefolder
from neulig_fl.models import checkpoints
from neulig_fl.models.families import open_clip
from neulig_fl.records import kinds
from neulig_fl.records.kinds import Request
from neulig_fl.records.release_plan import Planned, open_setting, stage_plan, stage_requests

FEATURES = {"kind": "features", "queries": ["pool", "evaluation"]}


def _plan(tmp_path: Path, data: Path, **changes: Any) -> list[list[Planned]]:
    scenario = tiny.scenario(tmp_path, data, **changes)
    setting = open_setting(scenario, scenario.seed)
    return [list(stage_plan(setting, stage)) for stage in scenario.stages]


def test_every_release_has_its_rows_and_bytes(data: Path, tmp_path: Path) -> None:
    """Without it a user would agree to something else than what is sent."""
    outputs, merging = _plan(tmp_path, data)
    entries = open_setting(tiny.scenario(tmp_path, data), tiny.SEED).family.entries()
    weights = sum(math.prod(shape) for shape in entries.values())
    assert [(p.client, p.request.kind, p.request.queries, p.rows, p.bytes) for p in outputs] == [
        *[(name, "offset-sum", None, 1, 8) for name in tiny.CLIENTS],
        *[(name, "features", "pool", 12, 12 * 16 * 4) for name in tiny.CLIENTS],
        *[(name, "features", "evaluation", 14, 14 * 16 * 4) for name in tiny.CLIENTS],
    ]
    assert [(p.client, p.rows, p.bytes) for p in merging] == [
        (n, 1, 4 * weights) for n in tiny.CLIENTS
    ]
    assert all(p.refusal is None for p in outputs + merging)


def test_inputs_are_each_owners_and_answers_to_them_everybodys(data: Path, tmp_path: Path) -> None:
    """Without it the paper's supervised protocol would look cheaper than it is."""
    share = [
        {"kind": "logits", "queries": ["train"], "fraction": 0.4},
        {"kind": "inputs", "fraction": 0.4},
    ]
    (found,) = _plan(tmp_path, data, stages=[{"name": "s", "share": share}])
    assert [(p.request.kind, p.rows, p.bytes) for p in found] == [
        *[("inputs", 2, 2 * (3 * 32 * 32 + 8))] * 3,
        *[("logits", 6, 6 * 5 * 4)] * 3,
    ]


def test_a_clients_refusal_is_foretold(data: Path, tmp_path: Path) -> None:
    """Without it the user would learn of a refusal after hours of training."""
    clients = [
        {"name": "ada", "task": "first", "policy": {"never": ["parameters"]}},
        {"name": "bob", "task": "second", "policy": {"only": ["features", "offset-sum"]}},
        {"name": "cyd", "task": "first"},
    ]
    outputs, merging = _plan(tmp_path, data, clients=clients)
    assert not [p for p in outputs if p.refusal]
    assert [p.refusal for p in merging] == [
        "policy of client 'ada': never parameters",
        "policy of client 'bob': only features, offset-sum",
        None,
    ]


def _limited(**limits: Any) -> list[dict[str, Any]]:
    return [
        {"name": "ada", "task": "first", "policy": {"budgets": limits}},
        {"name": "bob", "task": "second"},
    ]


def test_a_limit_that_will_be_reached_is_foretold(data: Path, tmp_path: Path) -> None:
    """Without it a budget would be found to be too small halfway through a run."""
    half = {"kind": "labels", "queries": ["pool"], "fraction": 0.5}
    stages = [
        {"name": "one", "share": [FEATURES]},
        {"name": "two", "share": [{"kind": "logits", "queries": ["pool"]}, half]},
        {"name": "three", "group": "B", "share": [FEATURES, {"kind": "offset-sum"}]},
    ]
    found = _plan(
        tmp_path,
        data,
        clients=_limited(max_rows=32),
        stages=stages,
        experts={"groups": ["A", "B"]},
    )
    refused = [
        (p.request.stage, p.request.kind, p.request.queries, p.refusal)
        for stage in found
        for p in stage
        if p.refusal
    ]
    told = "policy of client 'ada': limit max_rows 32: 26 rows of this expert have been released, and this"
    assert refused == [("two", "logits", "pool", f"{told} record has 12")]


def test_bytes_and_time_are_foretold_too(data: Path, tmp_path: Path) -> None:
    """Without it a plan would know one limit and not the others."""
    outputs, merging = _plan(tmp_path, data, clients=_limited(max_bytes=8 + 12 * 64))
    refused = [(p.request.kind, p.request.queries) for p in (*outputs, *merging) if p.refusal]
    assert refused == [("features", "evaluation"), ("parameters", None)]
    late = _plan(tmp_path, data, clients=_limited(not_after="2001-01-01"))
    assert {p.refusal for stage in late for p in stage if p.client == "ada"} == {
        "policy of client 'ada': limit not_after 2001-01-01: its time is over"
    }


def test_answers_to_inputs_that_nobody_gives_use_up_no_limit(data: Path, tmp_path: Path) -> None:
    """Without it a plan would foretell a refusal that does not come."""
    share = [{"kind": "inputs"}, {"kind": "features", "queries": ["train"]}]
    clients = _limited(max_rows=10)
    clients[1]["policy"] = {"never": ["inputs"]}
    (found,) = _plan(tmp_path, data, clients=clients, stages=[{"name": "s", "share": share}])
    assert [(p.client, p.request.kind) for p in found if p.refusal] == [("bob", "inputs")]
    clients[1]["policy"] = {}
    (found,) = _plan(tmp_path, data, clients=clients, stages=[{"name": "s", "share": share}])
    assert [(p.client, p.request.kind) for p in found if p.refusal] == [("ada", "features")]


def _in_both_groups(first: str, second: str) -> list[dict[str, Any]]:
    return [
        {"name": "one", "share": [{"kind": "features", "queries": [first]}]},
        {"name": "two", "group": "B", "share": [{"kind": "features", "queries": [second]}]},
    ]


def test_one_checkpoint_for_both_groups_is_one_expert(data: Path, tmp_path: Path) -> None:
    """Without it the same expert would have its limit twice."""
    (tmp_path / "own.pt").write_bytes(b"not read here")
    clients = _limited(max_rows=20)
    changes = {"stages": _in_both_groups("pool", "evaluation"), "experts": {"groups": ["A", "B"]}}
    found = _plan(tmp_path, data, clients=clients, **changes)
    assert not [p for stage in found for p in stage if p.refusal]
    clients[0]["checkpoint"] = "own.pt"
    found = _plan(tmp_path, data, clients=clients, **changes)
    assert [(p.client, p.request.stage) for s in found for p in s if p.refusal] == [("ada", "two")]


def test_what_left_before_leaves_again_uncharged(data: Path, tmp_path: Path) -> None:
    """Without it a plan would refuse what a client sends once more, and count its noise twice."""
    (tmp_path / "own.pt").write_bytes(b"not read here")
    clients = _limited(max_rows=20)
    clients[0]["checkpoint"] = "own.pt"
    changes = {"stages": _in_both_groups("pool", "pool"), "experts": {"groups": ["A", "B"]}}
    found = _plan(tmp_path, data, clients=clients, **changes)
    assert not [p for stage in found for p in stage if p.refusal]
    events = {(p.client, p.request.stage): p.entry["event"] for s in found for p in s}
    assert [key for key, event in events.items() if event == "repeat"] == [("ada", "two")]


def _requests(tmp_path: Path, data: Path, *shares: Any, groups: str = "AAA") -> list[list[Request]]:
    stages = [
        {"name": f"s{i}", "group": group, "share": share}
        for i, (share, group) in enumerate(zip(shares, groups, strict=False))
    ]
    experts = {"groups": ["A", "B"]}
    scenario = tiny.scenario(tmp_path, data, stages=stages, experts=experts)
    return [stage_requests(scenario, stage) for stage in scenario.stages]


def test_what_is_known_is_not_asked_for_again(data: Path, tmp_path: Path) -> None:
    """Without it a client would be asked, and a sealed record sent, twice for nothing."""
    found = _requests(tmp_path, data, [FEATURES], [FEATURES, {"kind": "parameters"}], [FEATURES])
    assert [[(r.stage, r.kind, r.queries) for r in stage] for stage in found] == [
        [("s0", "features", "pool"), ("s0", "features", "evaluation")],
        [("s1", "parameters", None)],
        [],
    ]


def test_more_queries_or_another_group_are_asked_for(data: Path, tmp_path: Path) -> None:
    """Without it group B would be scored with group A's features, or half of the queries."""
    half = {**FEATURES, "fraction": 0.5}
    found = _requests(tmp_path, data, [half], [FEATURES], [half], groups="AAB")
    assert [[(r.group, r.queries, r.fraction) for r in stage] for stage in found] == [
        [("A", "pool", 0.5), ("A", "evaluation", 0.5)],
        [("A", "pool", 1.0), ("A", "evaluation", 1.0)],
        [("B", "pool", 0.5), ("B", "evaluation", 0.5)],
    ]


def test_inputs_come_before_the_answers_to_them(data: Path, tmp_path: Path) -> None:
    """Without it the server would ask about images that it does not have yet."""
    shares = [{"kind": k} for k in ("parameters", "offset-sum")]
    shares += [{"kind": "features", "queries": ["train"]}, {"kind": "inputs"}]
    (found,) = _requests(tmp_path, data, shares)
    assert [r.kind for r in found] == ["inputs", "offset-sum", "features", "parameters"]
    assert [k for k in kinds.names() if k in {r.kind for r in found}] == [r.kind for r in found]


def test_planning_reads_no_image_and_no_weights(
    data: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it `plan` would take as long as a run."""

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("the plan loads data")

    for path in data.rglob("*.bmp"):
        os.utime(path, (1e9, 1e9))  # ids of files that changed just now are not kept
    _plan(tmp_path, data)  # each image is decoded once, for its id
    monkeypatch.setattr(imagefolder.image_pixels, "opened", forbidden)
    monkeypatch.setattr(imagefolder.ImageFolder, "pixels", forbidden)
    monkeypatch.setattr(open_clip, "create", forbidden)
    monkeypatch.setattr(checkpoints, "read", forbidden)
    assert [len(stage) for stage in _plan(tmp_path, data)] == [9, 3]
    assert [path.name for path in own_cache.iterdir()] == ["ids"]
