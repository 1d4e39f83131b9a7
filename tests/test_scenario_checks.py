"""What a scenario's parts must be to one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neulig_fl.scenario_checks import problems_between
from neulig_fl.scenario_models import Scenario

OUTPUTS = {
    "name": "outputs",
    "share": [{"kind": "offset-sum"}, {"kind": "features"}],
    "run": ["train-portland", "ensemble"],
}
MERGING = {"name": "merging", "share": [{"kind": "parameters"}], "run": ["merge"]}


def found(base: Path = Path(), **said: Any) -> list[str]:
    """Check a scenario that is good but for `said`: `steps: text` of each problem."""
    good: dict[str, Any] = {
        "name": "good",
        "clients": [{"name": "a", "task": "digits"}, {"name": "b", "task": "shapes"}],
        "stages": [OUTPUTS],
    }
    scenario = Scenario.model_validate({**good, **said})
    return [
        f"{'.'.join(map(str, problem.steps))}: {problem.text}"
        for problem in problems_between(scenario, base)
    ]


def only(problems: list[str]) -> str:
    assert len(problems) == 1, problems
    return problems[0]


def test_a_good_scenario_has_no_problem() -> None:
    """Everybody's scenario would be refused."""
    assert found() == []
    assert found(stages=[OUTPUTS, MERGING]) == []


def test_a_later_stage_may_use_what_an_earlier_one_released() -> None:
    """The server would ask for the same outputs again at every stage."""
    reuse = {"name": "again", "run": ["train-portland", "ensemble", "merge"]}

    assert found(stages=[OUTPUTS, MERGING, reuse]) == []
    assert "merge needs {kind: parameters}" in only(found(stages=[OUTPUTS, reuse, MERGING]))


def test_one_group_does_not_lend_its_releases_to_the_other() -> None:
    """A merge of group B would be planned from group A's parameters."""
    transfer = {"name": "transfer", "group": "B", "run": ["ensemble"]}
    experts = {"groups": ["A", "B"]}

    problem = only(found(experts=experts, stages=[OUTPUTS, transfer]))

    assert problem.startswith("stages.1.run.0: ensemble needs {kind: features")
    assert "of group B" in problem
    transfer["share"] = [{"kind": "features", "queries": ["evaluation"]}]
    assert found(experts=experts, stages=[OUTPUTS, transfer]) == []


def test_portland_needs_the_outputs_that_it_reads() -> None:
    """Portland would be trained on logits that nobody released."""
    problems = found(portland={"outputs": "logits"})

    assert "train-portland needs {kind: logits, queries: [pool]}" in problems[0]
    assert "ensemble needs {kind: logits, queries: [evaluation]}" in problems[1]


def test_labels_are_no_substitute_for_what_is_mixed() -> None:
    """A user of labels-only would be told to add features, and not why labels do not do."""
    share = [{"kind": kind} for kind in ("offset-sum", "labels", "top-k", "probabilities")]
    stage = {**OUTPUTS, "share": share}

    problems = found(stages=[stage])

    assert len(problems) == 2
    for problem in problems:
        assert (
            "releases; add it to share; with probabilities, top-k, labels alone it is not"
            in problem
        )
        assert problem.endswith("not possible: only features or logits can be mixed")
    assert found(stages=[{**stage, "run": []}]) == []


def test_alignment_needs_the_offset_sums_unless_there_is_none() -> None:
    """The alignment term would be computed from records that were never released."""
    stage = {**OUTPUTS, "share": [{"kind": "features"}]}

    assert "set portland.alignment to none" in only(found(stages=[stage]))
    assert found(stages=[stage], portland={"alignment": "none"}) == []


def test_training_on_train_needs_the_owners_inputs() -> None:
    """Experts would be asked about inputs that their owner never disclosed."""
    features = {"kind": "features", "queries": ["train", "evaluation"]}
    stage = {**OUTPUTS, "share": [{"kind": "offset-sum"}, features]}

    problem = only(found(stages=[stage], portland={"queries": "train"}))

    assert "train-portland needs {kind: inputs, queries: [train]}" in problem
    stage["share"] = [{"kind": "inputs"}, {"kind": "offset-sum"}, features]
    assert found(stages=[stage], portland={"queries": "train"}) == []


@pytest.mark.parametrize("on", ["merge", "both"])
def test_training_through_merged_models_needs_the_parameters_by_then(on: str) -> None:
    """A run would train experts and collect outputs before it missed the parameters."""
    options = {"objective_on": on}
    parameters = {"name": "parameters", "share": [{"kind": "parameters"}]}
    together = {**OUTPUTS, "share": [*OUTPUTS["share"], {"kind": "parameters"}]}  # type: ignore[misc]
    other_half = {**parameters, "group": "B"}

    problem = only(found(stages=[OUTPUTS, MERGING], portland=options))

    assert problem.startswith("stages.0.run.0: train-portland needs {kind: parameters} of group A")
    assert problem.endswith(
        f'add it to share, or set portland.objective_on to ensemble (got "{on}")'
    )
    assert found(stages=[parameters, OUTPUTS], portland=options) == []
    assert found(stages=[together], portland=options) == []
    assert found(stages=[OUTPUTS, MERGING], portland={"objective_on": "ensemble"}) == []
    groups = {"groups": ["A", "B"]}
    late = only(found(experts=groups, stages=[other_half, OUTPUTS], portland=options))
    assert late == problem.replace("stages.0", "stages.1")


@pytest.mark.parametrize("on", ["merge", "both"])
def test_statistics_that_are_estimated_again_are_not_trained_through(on: str) -> None:
    """Portland would be trained on averaged statistics and measured on estimated ones."""
    stages = [{**MERGING, "run": []}, OUTPUTS]

    problem = only(found(stages=stages, portland={"objective_on": on}, batch_norm="re-estimate"))

    assert problem.startswith("portland.objective_on: re-estimated BatchNorm")
    assert f'(got "{on}" with batch_norm: re-estimate); allowed: ensemble' in problem
    assert found(stages=stages, portland={"objective_on": on}) == []
    assert found(stages=stages, batch_norm="re-estimate") == []


def test_evaluation_labels_are_refused_and_unlabelled_evaluation_is_not() -> None:
    """Accuracy would be measured on the labels that Portland saw."""
    assert "never trained on" in only(found(portland={"queries": "evaluation"}))
    assert found(portland={"queries": "evaluation", "objective": "semi"}) == []


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ({"kind": "features", "queries": []}, "name a query set"),
        ({"kind": "inputs", "queries": ["pool"]}, "write [train]"),
        ({"kind": "offset-sum", "queries": ["pool"]}, "leave queries out"),
        ({"kind": "parameters", "queries": ["train"]}, "leave queries out"),
    ],
)
def test_query_sets_belong_to_the_kinds_that_answer_them(
    share: dict[str, Any], message: str
) -> None:
    """A share would ask for something that has no meaning and be silently ignored."""
    problem = only(found(stages=[OUTPUTS, {"name": "s", "share": [share]}]))

    assert problem.startswith("stages.1.share.0.queries: ")
    assert problem.endswith(message)


def test_a_kind_is_asked_for_once_per_query_set() -> None:
    """Two protections for one record would leave open which one holds."""
    twice = [{"kind": "features", "queries": ["pool"]}, {"kind": "features"}]
    apart = [{"kind": "logits", "queries": [name]} for name in ("pool", "evaluation")]

    assert "asked for twice" in only(found(stages=[OUTPUTS, {"name": "s", "share": twice}]))
    assert found(stages=[OUTPUTS, {"name": "s", "share": apart}]) == []


def test_a_stage_that_does_nothing_is_refused() -> None:
    """A stage whose `share` and `run` were forgotten would pass as one."""
    assert "shares nothing and runs nothing" in only(found(stages=[OUTPUTS, {"name": "s"}]))


def test_stage_names_are_unique() -> None:
    """Two stages would stand under one name in the report."""
    assert only(found(stages=[OUTPUTS, {**OUTPUTS}])).startswith("stages.1.name: the name is taken")


def test_tasks_of_the_users_own_are_known_and_need_their_folder(tmp_path: Path) -> None:
    """A folder of images could not be used, or would be missed only when the run has started."""
    clients = [{"name": "a", "task": "plants"}, {"name": "b", "task": "shapes"}]
    (tmp_path / "images").mkdir()

    def problems(**options: Any) -> list[str]:
        return found(tmp_path, clients=clients, tasks={"plants": options})

    assert problems(source="imagefolder", root="images") == []
    assert "root: is missing" in only(problems(source="imagefolder"))
    assert "there is no such folder" in only(problems(source="imagefolder", root="other"))
    assert "digits reads no folder" in only(problems(source="digits", root="images"))


def test_a_built_in_tasks_name_cannot_be_given_away() -> None:
    """`task: digits` would mean one thing here and another there."""
    problem = only(found(tasks={"digits": {"source": "shapes"}}))

    assert problem.startswith("tasks.digits: is a built-in task")


def test_a_source_is_not_a_task() -> None:
    """`task: imagefolder` would be accepted without a folder."""
    clients = [{"name": "a", "task": "imagefolder"}, {"name": "b", "task": "shapes"}]

    assert "tasks: {my-task: {source: imagefolder, root: FOLDER}}" in only(found(clients=clients))


def test_weights_are_bundled_a_file_or_a_tag(tmp_path: Path) -> None:
    """Missing weights would be noticed only when the first client loads them."""
    (tmp_path / "start").write_bytes(b"")

    def problems(pretrained: str) -> list[str]:
        return found(tmp_path, model={"name": "micro-vit", "pretrained": pretrained})

    assert problems("none") == problems("start") == []
    assert "did you mean bundled?" in only(problems("bundeld"))
    assert "there is no such file" in only(problems("weights/start.pt"))
    assert "there is no such file" in only(problems("~no-such-user/start"))
    assert "there is no such file" in only(problems("x" * 5000 + ".pt"))


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B-32", "none", None),
        ("ViT-B-32", "openai", None),
        ("ViT-B-32", "opnai", "did you mean openai?"),
        ("vit-b-32", "none", "did you mean ViT-B-32?"),
        ("micro-vitt", "none", "did you mean micro-vit?"),
    ],
)
def test_openclip_names_and_tags_are_checked(
    name: str, pretrained: str, message: str | None
) -> None:
    """A misspelt model would be noticed only when a client builds it."""
    problems = found(model={"name": name, "pretrained": pretrained})

    assert problems == [] if message is None else message in only(problems)
