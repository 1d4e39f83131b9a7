"""What a scenario's parts must be to one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neulig_fl.config.schema import Scenario
from neulig_fl.core.errors import InputError
from neulig_fl.privacy.secagg.terms import LEAST_CLIENTS, Terms
from neulig_fl.records import kinds
from neulig_fl.study.scenario_checks import problems_between

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


# ---------------------------------------------------------------- secure sums, and votes

SUMS = {"protection": "secure-aggregation"}
SUMMED_OUTPUTS = {"kind": "features", "queries": ["evaluation"], **SUMS}
SUMMED_PARAMETERS = {"kind": "parameters", **SUMS}
THREE = [{"name": n, "task": t} for n, t in zip("abc", ("digits", "shapes", "signs"), strict=True)]


def summing(*stages: dict[str, Any], **said: Any) -> list[str]:
    """Problems of a scenario of three clients without alignment."""
    portland = {"alignment": "none", **said.pop("portland", {})}
    return found(stages=list(stages), portland=portland, **{"clients": THREE, **said})


def test_a_stage_that_mixes_sums_alone_needs_no_portland() -> None:
    """A scenario of sums alone would be refused, though a simple average can be had of it."""
    share = [SUMMED_OUTPUTS, SUMMED_PARAMETERS]
    stage = {"name": "sums", "share": share, "run": ["ensemble", "merge"]}
    single = {"kind": "features", "queries": ["evaluation"]}

    assert summing(stage) == []
    assert summing({**stage, "granularity": ["sample", "batch-first", "task", "global"]}) == []
    needed = summing({**stage, "share": [single, SUMMED_PARAMETERS]})
    assert [p.split(":")[0] for p in needed] == ["stages.0.run.0", "stages.0.run.1"]
    assert all("needs a Portland, and none is trained up to here" in p for p in needed)
    later = {"name": "later", "share": [{"kind": "features"}], "run": ["train-portland"]}
    assert len(summing(stage, later)) == 2, "where one is trained, it comes first"


def test_sums_of_outputs_do_not_train_portland() -> None:
    """Portland would be trained on outputs that the server never has."""
    pool = {**SUMMED_OUTPUTS, "queries": ["pool", "evaluation"]}
    stage = {"name": "s", "share": [pool], "run": ["train-portland", "ensemble"]}

    problem = only(summing(stage))

    assert problem.startswith("stages.0.run.0: train-portland needs {kind: features, queries: [po")
    assert problem.endswith(
        "add it to share with another protection than secure-aggregation: Portland reads every client's "
        "own outputs, and a sum does not tell them"
    )
    first = {"name": "first", "share": [{"kind": "features", "queries": ["pool"]}], "run": []}
    assert summing(first, stage) == []


@pytest.mark.parametrize("on", ["merge", "both"])
def test_training_through_merged_models_needs_single_parameters(on: str) -> None:
    """Portland would be trained through experts that are known as a sum alone."""
    share = [{"kind": "features"}, SUMMED_PARAMETERS]
    stage = {"name": "s", "share": share, "run": ["train-portland"]}

    problem = only(summing(stage, portland={"objective_on": on}))

    assert "train-portland needs {kind: parameters} of group A" in problem
    assert "add it to share with another protection than secure-aggregation, or set" in problem
    first = {"name": "first", "share": [{"kind": "parameters"}]}
    assert summing(first, stage, portland={"objective_on": on}) == []


def test_sums_are_those_of_the_stage_that_shares_them() -> None:
    """A step would ask for sums that its own stage does not share, and every client refuse."""
    outputs = {"name": "o", "share": [{"kind": "features"}], "run": ["train-portland"]}
    sums = {"name": "sums", "share": [SUMMED_PARAMETERS], "run": ["merge"]}
    again = {"name": "again", "run": ["merge"]}

    assert summing(outputs, sums) == []
    problem = only(summing(outputs, sums, again))
    assert problem.startswith("stages.2.run.0: merge needs {kind: parameters} of group A")
    assert problem.endswith(
        "add it to share of this stage: sums are asked for by the steps of the stage that shares "
        "them"
    )
    assert summing(outputs, sums, {**again, "share": [SUMMED_PARAMETERS]}) == []


def test_one_kind_may_be_shared_both_ways() -> None:
    """A study could not compare sums with single records in one scenario."""
    outputs = {"name": "o", "share": [{"kind": "features"}], "run": ["train-portland"]}
    sums = {"name": "sums", "share": [SUMMED_PARAMETERS], "run": ["merge"]}
    single = {"name": "single", "share": [{"kind": "parameters"}], "run": ["merge"]}

    assert summing(outputs, sums, single) == summing(outputs, single, sums) == []


@pytest.mark.parametrize("kind", kinds.those(lambda kind: not kind.summed))
def test_what_cannot_be_summed_is_said(kind: str) -> None:
    """A stage would share labels within sums, and no step could ask for them."""
    share = {"kind": kind, "fraction": 0.5, **SUMS}

    (problem,) = [p for p in summing({"name": "s", "share": [share]}) if ".kind: " in p]

    assert problem == (
        f'stages.0.share.0.kind: cannot be summed (got "{kind}" with protection "secure-aggregation"); '
        "allowed: features, logits, parameters, gram, fisher"
    )


@pytest.mark.parametrize("fraction", [1.0, 0.9999999, 0.991])
def test_a_trimmed_task_vector_that_keeps_all_is_none(fraction: float) -> None:
    """A stage would share whole models under another name."""
    share = {"kind": "trimmed-task-vector", "fraction": fraction}
    assert only(found(stages=[OUTPUTS, {"name": "t", "share": [share]}])) == (
        f"stages.1.share.0.fraction: keeps all of the task vector (got {fraction}); give 0.99 or "
        "less, or share task-vector"
    )
    assert found(stages=[OUTPUTS, {"name": "t", "share": [{**share, "fraction": 0.99}]}]) == []


def test_two_clients_are_too_few_for_a_sum() -> None:
    """Of two clients each could subtract its own record from the sum."""
    problem = only(summing({"name": "s", "share": [SUMMED_PARAMETERS]}, clients=THREE[:2]))

    assert problem.startswith("stages.0.share.0.protection: a sum of fewer than 3 clients hides ")
    assert problem.endswith('(got "secure-aggregation" with 2 clients); add clients, or take another '
                            "protection")  # fmt: skip
    assert LEAST_CLIENTS == 3


@pytest.mark.parametrize("clients", [3, 4, 5])
@pytest.mark.parametrize("threshold", [1, 2, 3, 4, 5, 6])
def test_a_threshold_is_refused_where_the_protocol_refuses_it(clients: int, threshold: int) -> None:
    """A run would train every expert before it learns that no sum can be made."""
    named = [{"name": f"c{i}", "task": "digits"} for i in range(clients)]
    stage = {"name": "s", "share": [SUMMED_PARAMETERS]}
    try:
        Terms(b"", tuple(n["name"] for n in named), threshold, 1, 1.0)
        possible = threshold >= LEAST_CLIENTS  # two vectors in a sum: each knows the other's
    except InputError:
        possible = False

    problems = summing(stage, clients=named, secure_aggregation={"threshold": threshold})

    assert (problems == []) is possible
    if problems:
        assert only(problems).startswith(
            "secure_aggregation.threshold: must be 3 or more, more than"
        )
        assert f"(got {threshold} with {clients} clients); allowed: " in only(problems)


def test_a_vote_needs_answers_that_name_a_class() -> None:
    """A vote would be held on features, which name none, or on the pool."""
    assert found(stages=[{"name": "s", "share": [{"kind": "labels"}], "run": ["vote"]}]) == []
    for kind in ("top-k", "probabilities"):
        stage = {"name": "s", "share": [{"kind": kind, "queries": ["evaluation"]}], "run": ["vote"]}
        assert found(stages=[stage]) == []
    pool = {"kind": "labels", "queries": ["pool"]}
    for share in ([{"kind": "features"}], [pool]):
        problem = only(found(stages=[{"name": "s", "share": share, "run": ["vote"]}]))
        assert problem.startswith(
            "stages.0.run.0: vote needs {kind: labels, queries: [evaluation]} of group A"
        )
        assert problem.endswith("add it to share, or top-k or probabilities instead")
