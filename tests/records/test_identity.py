"""What a record's identity follows from, kind by kind; and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from neulig_fl.records.identity import Basis, data_hash
from neulig_fl.records.kinds import Request
from neulig_fl.records.release_plan import Setting, open_setting

KINDS = ("inputs", "features", "logits", "labels", "parameters", "task-vector", "gram", "fisher")


def _setting(folder: Path, data: Path, **changes: object) -> Setting:
    scenario = tiny.scenario(folder, data, **changes)
    return open_setting(scenario, scenario.seed)


def _hashes(
    setting: Setting, payload: bytes = b"", expert: str = "e", queries: str = "pool"
) -> dict[str, str]:
    asked = setting.blocks(Request("outputs", "A", "features", queries))
    own = setting.tasks["first"]
    return {
        kind: Basis(kind, data_hash(setting, expert, kind, asked, payload), asked, own).record_hash(
            setting
        )
        for kind in KINDS
    }


def _changed(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [kind for kind in KINDS if one[kind] != other[kind]]


@pytest.fixture
def setting(data: Path, tmp_path: Path) -> Setting:
    """The tiny scenario, opened."""
    return _setting(tmp_path / "one", data)


def test_each_record_is_of_its_expert_and_images(setting: Setting) -> None:
    """Without it a kept answer would be handed out for another model's, or another image's."""
    base = _hashes(setting)
    assert len(set(base.values())) >= len(KINDS) - 2, "labels and logits, gram and fisher are alike"
    assert _hashes(setting) == base
    for other in ({"expert": "f"}, {"queries": "evaluation"}, {"payload": b"images"}):
        assert _changed(base, _hashes(setting, **other)) == list(KINDS)  # type: ignore[arg-type]


def test_images_by_value_are_what_came(setting: Setting) -> None:
    """Without it the same images under another query set would get fresh noise."""
    (first, second) = (
        _hashes(setting, b"images", queries=queries) for queries in ("pool", "evaluation")
    )
    assert _changed(first, second) == ["inputs"], "their labels are others"


def test_answers_follow_from_the_heads_of_all_tasks(
    setting: Setting, data: Path, tmp_path: Path
) -> None:
    """Without it logits over other prompts would be handed out as these."""
    tasks = tiny.said(data)["tasks"]
    for name, kinds in (
        ("first", ["logits", "labels", "gram", "fisher"]),
        ("second", ["logits", "labels"]),
    ):
        said = {**tasks, name: {**tasks[name], "templates": ["another photo of {}"]}}
        other = _setting(tmp_path / name, data, tasks=said)
        assert _changed(_hashes(setting), _hashes(other)) == kinds


def test_models_are_told_against_their_start(setting: Setting, data: Path, tmp_path: Path) -> None:
    """Without it a task vector against one theta_0 would pass for that against another."""
    experts = {**tiny.said(data)["experts"], "origin": "diverse"}
    other = _setting(tmp_path / "diverse", data, experts=experts)
    assert _changed(_hashes(setting), _hashes(other)) == ["parameters", "task-vector"]


def test_what_is_told_of_a_model_is_bound_to_theta_0(setting: Setting) -> None:
    """Without it several roundings against several starts would be the whole difference."""
    asked = setting.blocks(Request("outputs", "A", "features", "pool"))
    plain, bound = (
        data_hash(setting, "e", kind, asked, b"") for kind in ("features", "offset-sum")
    )
    assert plain != bound
    assert data_hash(setting, "e", "parameters", asked, b"") == plain
