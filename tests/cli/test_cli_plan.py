"""`neulig-fl plan`: what is announced is what is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_line import NEVER, Line, clients

from neulig_fl.cli.plan import colluding
from neulig_fl.config import conditions
from neulig_fl.data.sources.imagefolder import ImageFolder
from neulig_fl.records.secagg.plan import PlannedSum
from neulig_fl.study import runs

TRAIN = [
    {"kind": "inputs"},
    {"kind": "offset-sum"},
    {"kind": "features", "queries": ["train", "evaluation"]},
]
GROUPS = {"epochs": 1, "batch_size": 16, "groups": ["A", "B"]}

NOISED = tiny.noised(tiny.OUTPUTS[1], epsilon=8.0, clip=1.0, delta=1e-5)
PROMISED = ("epsilon", "delta", "adjacency")
NO_ALIGNMENT = {"epochs": 2, "batch_size": 4, "alignment": "none"}
OUTPUTS_THEN_PARAMETERS = [
    {"name": "outputs", "share": [NOISED], "run": ["train-portland", "ensemble"]},
    {
        "name": "merging",
        "share": [{"kind": "parameters", "protection": "sealed"}],
        "run": ["merge"],
    },
]

PLANNED: dict[str, dict[str, Any]] = {
    "plain": {},
    "noise": {"portland": NO_ALIGNMENT, "stages": OUTPUTS_THEN_PARAMETERS},
    "parameters refused": {
        "clients": clients("bob", **NEVER),
        "on_refusal": "continue",
        "stages": [
            {"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland", "ensemble"]},
            {
                "name": "merging",
                "share": [{"kind": "parameters"}],
                "run": ["ensemble", "merge"],
                "granularity": ["sample", "batch-first", "task", "global"],
            },
        ],
    },
    "outputs refused": {
        "clients": clients("ada", policy={"only": ["parameters"]}),
        "on_refusal": "continue",
    },
    "offset sum refused": {
        "clients": clients("cyd", policy={"never": ["offset-sum"]}),
        "on_refusal": "continue",
    },
    "a limit reached": {
        "clients": clients("bob", policy={"budgets": {"max_rows": 12, "max_bytes": 10_000}}),
        "on_refusal": "continue",
    },
    "a preset": {
        "clients": clients("cyd", policy={"preset": "outputs-only"}),
        "portland": {"epochs": 2, "batch_size": 4, "alignment": "none"},
        "on_refusal": "continue",
    },
    "every kind of answer": {
        "stages": [
            {
                "name": "outputs",
                "share": [
                    *tiny.OUTPUTS,
                    *({"kind": kind} for kind in ("logits", "probabilities", "top-k", "labels")),
                ],
                "run": ["train-portland", "ensemble"],
            }
        ],
    },
    "training inputs under a limit": {
        "portland": {"epochs": 2, "batch_size": 4, "queries": "train"},
        "clients": clients("bob", policy={"budgets": {"max_rows": 30}}),
        "on_refusal": "continue",
        "stages": [{"name": "s", "share": TRAIN, "run": ["train-portland", "ensemble"]}],
    },
    "another group": {
        "experts": GROUPS,
        "stages": [
            {"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland", "ensemble"]},
            {
                "name": "transfer",
                "group": "B",
                "share": [
                    {"kind": "features", "queries": ["evaluation"]},
                    {"kind": "parameters"},
                ],
                "run": ["ensemble", "merge"],
                "granularity": ["sample", "task", "global"],
            },
        ],
    },
    "diverse origin": {"experts": {"epochs": 1, "batch_size": 16, "origin": "diverse"}},
    "training inputs": {
        "portland": {"epochs": 2, "batch_size": 4, "queries": "train"},
        "stages": [{"name": "s", "share": TRAIN, "run": ["train-portland", "ensemble"]}],
    },
    "training inputs refused": {
        "portland": {"epochs": 2, "batch_size": 4, "queries": "train"},
        "clients": clients("cyd", policy={"never": ["inputs"]}),
        "on_refusal": "continue",
        "stages": [{"name": "s", "share": TRAIN, "run": ["train-portland", "ensemble"]}],
    },
}


@pytest.mark.parametrize("name", PLANNED)
def test_what_is_planned_is_what_is_done(
    line: Line, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without it partners would agree to something else than what happens."""
    report = tiny.run(tmp_path, data, **PLANNED[name])

    def read(*_: Any) -> None:
        raise AssertionError("a plan reads no image")

    monkeypatch.setattr(ImageFolder, "pixels", read)
    planned = json.loads(line("plan", tmp_path / "scenario.yaml", "--json").out)
    assert planned["not_reached"] == []
    for foretold, done in zip(planned["stages"], report.data["stages"], strict=True):
        keys = ("client", "kind", "queries", "protection", "rows", "bytes", *PROMISED)
        announced = [{k: r[k] for k in keys} for r in foretold["releases"]]
        assert announced == [{k: r[k] for k in keys} for r in done["releases"]]
        refused = [(r["client"], r["kind"]) for r in done["refusals"]]
        assert [(r["client"], r["kind"]) for r in foretold["refusals"]] == refused
        assert _permitted(foretold, done) == _computed(done)
        assert foretold["stops"] is None
    assert _cost(planned["privacy"]) == _cost(report.data["privacy"])
    given = [r for s in report.data["stages"] for r in s["releases"]]
    for client in planned["clients"]:
        own = [r["bytes"] for r in given if r["client"] == client["client"]]
        assert (client["records"], client["bytes"]) == (len(own), sum(own))


def _cost(privacy: dict[str, Any]) -> dict[str, Any]:
    """What a plan and a report both say of the privacy that is spent."""
    clients = [{k: c[k] for k in ("client", "epsilon", "unprotected")} for c in privacy["clients"]]
    return {**{k: privacy[k] for k in (*PROMISED, "stages")}, "clients": clients}


def _permitted(stage: dict[str, Any], done: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What the plan permits, less what it permits "unless" the reason that a row of the run has.

    Which expert is the best single one, and so whether it consents, is known after training alone.
    """
    came_true = [
        row["reason"] is not None and planned["reason"] == f"unless {row['reason']}"
        for planned, row in zip(stage["results"], done["results"], strict=True)
    ]
    return [
        (r["method"], r["granularity"], r["ensemble"] and not less, r["merge"] and not less)
        for r, less in zip(stage["results"], came_true, strict=True)
    ]


def _computed(stage: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            r["method"],
            r["granularity"],
            any(task["ensemble_accuracy"] is not None for task in r["tasks"]),
            any(task["merge_accuracy"] is not None for task in r["tasks"]),
        )
        for r in stage["results"]
    ]


def test_a_plan_in_words(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a reader would have to read JSON to learn what they give away."""
    path = tiny.write(tmp_path, data, **PLANNED["parameters refused"])
    ended = line("plan", path)
    assert (ended.code, ended.err) == (0, "")
    told = " ".join(ended.out.split())
    assert "all 3 features of pool, unprotected 12 768" in told
    assert "A plan does not know the policies of nodes, nor what earlier runs released" in told
    assert "Known from earlier stages: offset-sum (all 3), features of pool (all 3)" in told
    assert "- bob would refuse parameters: policy of client 'bob': never parameters" in told
    assert "Permits merge and ensemble accuracy of: NeuLig (sample), NeuLig (batch-first)" in told
    assert "- oracle: not on second: its own expert is bob's, who does not share it here" in told
    assert "best-single: unless the best single expert is bob's" in told


def test_a_plan_tells_what_noise_promises_and_what_undoes_it(
    line: Line, data: Path, tmp_path: Path
) -> None:
    """Without it a user would learn after the run that their epsilon of 8 is none."""
    path = tiny.write(tmp_path, data, **PLANNED["noise"])
    told = " ".join(line("plan", path).out.split())
    assert "Rows Bytes each Epsilon Delta" in told
    assert "all 3 features of pool, gaussian 12 768 5.326 1e-05" in told
    assert "Epsilon so far is 8 at delta 1e-05, of the client that spends most." in told
    bare = "Epsilon is infinite from this stage on: without noise leaves parameters (all 3)."
    assert f"all 3 parameters, sealed - {_bytes(path, line)} {bare}" in told
    planned = json.loads(line("plan", path, "--json").out)
    assert planned["privacy"]["infinite"] == {
        "stage": "merging",
        "kinds": {"parameters": ["ada", "bob", "cyd"]},
    }


def _bytes(path: Path, line: Line) -> str:
    stages = json.loads(line("plan", path, "--json").out)["stages"]
    return f"{stages[1]['releases'][0]['bytes']:,}"


def test_a_plan_marks_what_nothing_uses(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a client would give its training images away for nothing."""
    share = [*tiny.OUTPUTS, {"kind": "inputs"}, {"kind": "gram"}]
    stages = [{"name": "outputs", "share": share, "run": ["train-portland", "ensemble"]}]
    path = tiny.write(tmp_path, data, stages=stages)
    told = " ".join(line("plan", path).out.split())
    assert "inputs of train, unprotected (nothing uses it)" in told
    assert "gram, unprotected (nothing uses it) - " in told, "and no row of it is counted"
    assert "features of pool, unprotected 12" in told
    (stage,) = json.loads(line("plan", path, "--json").out)["stages"]
    idle = {r["kind"] for r in stage["releases"] if not r["used"]}
    assert idle == {"inputs", "gram"}


SUMMED = [
    {"kind": "features", "queries": ["evaluation"], "protection": "secure-aggregation"},
    {"kind": "parameters", "protection": "secure-aggregation"},
]


def _summing(**changes: Any) -> dict[str, Any]:
    outputs = {"name": "outputs", "share": [{"kind": "features", "queries": ["pool"]}]}
    stages = [
        {**outputs, "run": ["train-portland"]},
        {"name": "sums", "share": SUMMED, "run": ["ensemble", "merge"], "granularity": ["task"]},
    ]
    portland = {"alignment": "none", "epochs": 2, "batch_size": 4}
    return {"stages": stages, "portland": portland, "on_refusal": "continue", **changes}


def test_a_plan_tells_of_sums_in_words(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a reader would see that nothing is released, and not what is masked and sent."""
    path = tiny.write(tmp_path, data, **_summing())
    ended = line("plan", path)
    assert (ended.code, ended.err) == (0, "")
    told = " ".join(ended.out.split())
    assert "Nothing new would be released" not in told
    assert "NeuLig (task) features of evaluation all 3 2 896 0.333 to 1" in told
    assert "simple-average features of evaluation all 3 2 896 0.333 to 1" in told
    assert "Leverage is the largest of a client, with all sums before it." in told
    assert "- NeuLig (task), simple-average: unless CoopVecs give a sum a leverage" in told
    assert f"In these sums, {conditions.with_server(1)}." in told
    assert "Client Records Bytes Masked records Masked bytes" in told
    assert [sentence for sentence in conditions.ALL if sentence not in told] == []
    planned = json.loads(line("plan", path, "--json").out)
    assert planned["conditions"] == [*conditions.ALL]
    (outputs, sums) = planned["stages"]
    assert (outputs["sums"], sums["releases"]) == ([], [])
    of = [(s["method"], s["granularity"], s["kind"], s["sums"]) for s in sums["sums"]]
    assert of == [
        ("neulig", "task", "features", 2),
        ("simple-average", None, "features", 2),
        ("neulig", "task", "parameters", 2),
        ("simple-average", None, "parameters", 1),
    ], "the merge step takes the ensemble's sums from the step before"
    assert {s["colluders"] for s in sums["sums"]} == {1}


def test_a_plan_tells_who_refuses_a_sum(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it partners would learn after the training that nobody could be summed."""
    changed = clients("bob", policy={"budgets": {"max_leverage": 0.3}})
    path = tiny.write(tmp_path, data, **_summing(clients=changed))
    told = " ".join(line("plan", path).out.split())
    assert "- bob would refuse sums of parameters for simple-average: policy of client" in told
    few = "a secure sum needs 3 clients here, and would have 2 (ada, cyd)"
    assert f"- no sums of parameters for simple-average: {few}" in told
    planned = json.loads(line("plan", path, "--json").out)
    masked = {c["client"]: c["masked_records"] for c in planned["clients"]}
    assert masked == {"ada": 2, "bob": 2, "cyd": 2}, "those of CoopVecs are not certain"
    sums = planned["stages"][1]["sums"]
    assert [s["colluders"] for s in sums if s["refusal"]] == [None, None]


def test_a_plan_says_how_many_may_work_with_the_server() -> None:
    """Without it a client would count on all others of a sum, and one of them be the server's."""
    known: tuple[Any, ...] = (("ada",), ("ada",), 1, 8, (0.2, 0.2))
    sums = [
        PlannedSum("neulig", "task", "features", "evaluation", *known, colluders=2),
        PlannedSum("simple-average", None, "features", "evaluation", *known, colluders=0),
        PlannedSum("neulig", "task", "parameters", None, *known, colluders=2),
        PlannedSum("ties", None, "parameters", None, *known, refusal="too few"),
    ]
    learns_no = "client's record, beyond what the sums tell."
    assert colluding(sums) == [
        "In sums of features of evaluation for NeuLig (task), parameters for NeuLig (task), up to 2 "
        f"clients that work together with the server learn no other {learns_no}",
        "In sums of features of evaluation for simple-average, as long as no client works together "
        f"with the server, it learns no {learns_no}",
    ]
    assert colluding(sums[3:]) == []


def test_a_plan_of_a_vote_is_what_is_done(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a stage of labels would be announced to permit nothing."""
    share = [{"kind": "labels", "queries": ["evaluation"]}]
    silent = {"clients": clients("bob", policy={"never": ["labels"]}), "on_refusal": "continue"}
    for changes in ({}, silent):
        stages = [{"name": "s", "share": share, "run": ["vote"]}]
        path = tiny.write(tmp_path, data, stages=stages, **changes)
        (foretold,) = json.loads(line("plan", path, "--json").out)["stages"]
        (row,) = foretold["results"]
        assert (row["method"], row["ensemble"], row["merge"]) == ("vote", True, False)
        assert row["reason"] == ("without bob" if changes else None)
        report = runs.run(path, engine="local", out=tmp_path / f"out{len(changes)}")
        assert report.result("s", "vote")["reason"] == row["reason"]


def test_a_plan_ends_where_the_run_would(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it releases would be announced that never happen."""
    path = tiny.write(tmp_path, data, clients=clients("bob", policy={"never": ["offset-sum"]}))
    planned = json.loads(line("plan", path, "--json").out)
    (stage,) = planned["stages"]
    assert stage["stops"] == (
        "bob refuses offset-sum, and on_refusal is stop: policy of client 'bob': never offset-sum"
    )
    assert [r["client"] for r in stage["releases"]] == ["ada", "cyd"]
    assert planned["not_reached"] == ["merging"]
    told = line("plan", path).out
    assert "The run would end here: bob refuses offset-sum" in told
    assert "Stage merging would not be reached." in told


def test_a_plan_takes_settings_and_tells_bad_ones(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it one could not ask what another policy would change."""
    path = tiny.write(tmp_path, data)
    setting = "clients.1.policy={never: [parameters]}"
    assert "bob would refuse parameters" in line("plan", path, "--set", setting).out
    ended = line("plan", path, "--set", "clients.1.policy={nevr: []}")
    assert ended.code == 2
    assert ended.err.startswith("error: --set clients.1.policy={nevr: []}: ")
