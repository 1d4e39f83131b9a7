"""Whole runs with secure sums: clients that mask, a server that gets mixtures, a report of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from neulig_fl.cli.plan import Plan, record
from neulig_fl.config import conditions
from neulig_fl.core.errors import ClientRefused
from neulig_fl.merging import portland
from neulig_fl.privacy import secagg
from neulig_fl.privacy.secagg import Terms, default_threshold
from neulig_fl.records.release_plan import open_setting
from neulig_fl.report import Report
from neulig_fl.study.checking import load
from neulig_fl.verification import whole_run

ANY_LEVERAGE = {"budgets": {"max_leverage": 1.0}}
TASKS = ("first", "second", "first", "second", "first")
EXPERTS = {"epochs": 8, "lr": 5.0e-3, "batch_size": 8}
"""Enough for the tiny experts to tell their classes apart, so that a wrong figure shows."""

OUTPUTS = {
    "name": "outputs",
    "share": [{"kind": "features", "queries": ["pool", "evaluation"]}],
    "run": ["train-portland"],
}
POOL = {**OUTPUTS, "share": [{"kind": "features", "queries": ["pool"]}]}
PORTLAND = {"alignment": "none", "epochs": 4, "lr": 0.02, "batch_size": 4}
EVALUATION = {"kind": "features", "queries": ["evaluation"], "protection": "secure-aggregation"}
PARAMETERS = {"kind": "parameters", "protection": "secure-aggregation"}
GRANULAR = ["global", "task", "sample"]


def _clients(count: int = 3, changed: str = "", **policy: Any) -> list[dict[str, Any]]:
    names = [*tiny.CLIENTS, "dan", "eve"][:count]
    clients = [{"name": n, "task": t} for n, t in zip(names, TASKS, strict=False)]
    return [c | {"policy": policy} if changed in ("", c["name"]) else c for c in clients]


def _said(*stages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    said = {"stages": list(stages), "portland": PORTLAND, "experts": EXPERTS, **changes}
    return {"on_refusal": "continue", **said}


def _rows(report: Report, stage: int) -> dict[tuple[str, str | None], dict[str, Any]]:
    results = report.data["stages"][stage]["results"]
    return {(row["method"], row["granularity"]): row for row in results}


def _figures(row: dict[str, Any]) -> Any:
    return [row["experts"], row["reason"], row["tasks"], row["average"]]


def _planned(folder: Path) -> dict[str, Any]:
    setting = open_setting(load(folder / "scenario.yaml"), tiny.SEED)
    return json.loads(json.dumps(record(Plan.of(setting))))  # type: ignore[no-any-return]


# ---------------------------------------------------------------- the same figures


def test_sums_give_the_figures_of_single_records(data: Path, tmp_path: Path) -> None:
    """Without it what is reported of masked sums would not be what a merge of these experts is."""
    found = []
    for guard in ("secure-aggregation", "none"):
        share = [{**EVALUATION, "protection": guard}, {**PARAMETERS, "protection": guard}]
        stage = {"name": "all", "share": share, "run": ["ensemble", "merge"]}
        clients = _clients(**ANY_LEVERAGE)
        said = _said(POOL, {**stage, "granularity": GRANULAR}, clients=clients)
        found.append(tiny.run(tmp_path / guard, data, **said))
    summed, single = (_rows(report, 1) for report in found)
    compared = (("neulig", "global"), ("neulig", "task"), ("simple-average", None))
    for name in compared:
        assert summed[name]["status"] == "ok", summed[name]["reason"]
        assert _figures(summed[name]) == _figures(single[name])
        assert all(t["merge_accuracy"] is not None for t in summed[name]["tasks"])
        assert all(t["ensemble_accuracy"] is not None for t in summed[name]["tasks"])
    different = {json.dumps(_figures(single[name])) for name in compared}
    assert len(different) == len(compared), "the methods must not all do the same"
    for name in (("neulig", "sample"), ("hard-routing", None), ("oracle", None)):
        assert (summed[name]["status"], single[name]["status"]) == ("not-permitted", "ok")
    assert summed["neulig", "task"]["bytes"] > summed["simple-average", None]["bytes"] > 0
    assert [v.failures for v in whole_run.verify(tmp_path / "secure-aggregation" / "out")] == [()]


# ---------------------------------------------------------------- sums alone


def test_a_run_of_sums_alone_is_what_was_planned(data: Path, tmp_path: Path) -> None:
    """Without it partners would agree to other sums than those that are taken."""
    stage = {"name": "sums", "share": [EVALUATION, PARAMETERS], "run": ["ensemble", "merge"]}
    said = _said(stage, clients=_clients(preset="sums-only"))
    report = tiny.run(tmp_path, data, **said)
    (done,), (foretold,) = report.data["stages"], _planned(tmp_path)["stages"]
    assert {r["protection"] for r in done["releases"]} == {"secure-aggregation"}
    sent = sorted((r["client"], r["kind"], r["queries"], r["bytes"]) for r in done["releases"])
    assert sent == sorted(
        (client, each["kind"], each["queries"], each["bytes"])
        for each in foretold["sums"]
        for client in each["clients"]
    )
    assert [each["leverage"] for each in foretold["sums"]] == [pytest.approx([1 / 3, 1 / 3])] * 2
    assert (foretold["releases"], foretold["refusals"], done["refusals"]) == ([], [], [])
    permitted = {(r["method"], r["granularity"]): r for r in foretold["results"]}
    for name, row in _rows(report, 0).items():
        shown = row["status"] == "ok"
        assert (permitted[name]["merge"], permitted[name]["ensemble"]) == (shown, shown)
        assert shown or permitted[name]["reason"] == row["reason"]
    assert _rows(report, 0)["simple-average", None]["status"] == "ok"


def test_the_report_says_what_its_sums_are(data: Path, tmp_path: Path) -> None:
    """Without it a reader would take merges of sums for merges that the server made itself."""
    stage = {"name": "sums", "share": [EVALUATION, PARAMETERS], "run": ["merge"]}
    report = tiny.run(tmp_path, data, **_said(stage, clients=_clients(5)))
    notes = " ".join(report.data["notes"])
    assert "Stage sums shares features, parameters within secure sums" in notes
    error = secagg.quantisation(64.0, 5)
    assert f"off by at most {error:.1e}" in notes
    threshold = default_threshold(5)
    terms = Terms(b"", tuple("abcde"), threshold, 1, 64.0)
    assert f"A secure sum of all 5 clients needs {threshold} of them to its end" in notes
    assert f"up to {terms.colluders} clients that work together with the server" in notes
    assert report.data["notes"][-len(conditions.ALL) :] == [*conditions.ALL]
    assert "secure sums" in report.markdown()
    assert not any("Portland is trained" in note for note in report.data["notes"])


# ---------------------------------------------------------------- refusals


def test_leverage_adds_up_over_the_rows_in_their_order(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the second sum would give away what the first one hid."""
    trained = portland.train

    def undecided(*arguments: Any) -> portland.Fit:
        """Portland as it was trained, but that no CoopVec favours one expert."""
        fit = trained(*arguments)
        own = fit.portland
        return replace(fit, portland=replace(own, weight=own.weight / 100, bias=own.bias / 100))

    monkeypatch.setattr(portland, "train", undecided)
    stage = {"name": "sums", "share": [PARAMETERS], "run": ["merge"], "granularity": ["global"]}
    # Two rows of near-equal weights single out someone to 0.4 at least: (1 + 1) / 5.
    clients = _clients(5, budgets={"max_leverage": 0.35})
    report = tiny.run(tmp_path, data, **_said(OUTPUTS, stage, clients=clients))
    rows = _rows(report, 1)
    given, refused = rows["neulig", "global"], rows["simple-average", None]
    assert given["status"] == "ok", given["reason"]
    assert refused["status"] == "not-permitted"
    assert "above max_leverage 0.35: 1 sum asked for, 1 before" in refused["reason"]
    refusals = report.data["stages"][1]["refusals"]
    assert {r["kind"] for r in refusals} == {"parameters"}
    refusing = {r["client"] for r in refusals}
    assert refusing <= {c["name"] for c in clients}
    assert 5 - len(refusing) < default_threshold(5), "a sum of the rest shows who was left out"
    assert len(report.data["stages"][1]["releases"]) == 5, "one sum alone"
    assert [v.failures for v in whole_run.verify(tmp_path / "out")] == [()]
    outlook = _planned(tmp_path)["stages"][1]
    assert [each["leverage"] for each in outlook["sums"]] == [pytest.approx([0.2, 1.0])] * 2
    reasons = {(r["method"], r["granularity"]): r["reason"] for r in outlook["results"]}
    assert "unless CoopVecs give a sum a leverage above" in reasons["neulig", "global"]


def test_a_client_that_refuses_is_in_neither_side(data: Path, tmp_path: Path) -> None:
    """Without it a row would name experts that no sum holds."""
    share = [EVALUATION, PARAMETERS]
    stage = {"name": "sums", "share": share, "run": ["merge"]}
    clients = _clients(5, "bob", never=["parameters"])
    report = tiny.run(tmp_path, data, **_said(stage, clients=clients))
    row = _rows(report, 0)["simple-average", None]
    assert row["status"] == "ok", row["reason"]
    assert row["experts"] == ["ada", "cyd", "dan", "eve"]
    assert row["reason"] == "without bob: weights renormalised"
    assert all(t["gap"] is not None for t in row["tasks"])
    assert all(t["effective_experts"] == pytest.approx(4.0) for t in row["tasks"])
    assert {r["client"] for r in report.data["stages"][0]["releases"]} == set(row["experts"])
    (outlook,) = _planned(tmp_path)["stages"]
    assert [each["clients"] for each in outlook["sums"]] == [row["experts"]] * 2
    assert [list(each["refusals"]) for each in outlook["sums"]] == [["bob"], []]
    merges = {r["method"]: r for r in outlook["results"]}
    assert merges["simple-average"]["reason"] == "without bob"


def test_a_run_that_stops_at_a_refusal_is_foretold(data: Path, tmp_path: Path) -> None:
    """Without it `on_refusal: stop` would go on as soon as a refusal is one of a sum."""
    stage = {"name": "sums", "share": [EVALUATION, PARAMETERS], "run": ["merge"]}
    clients = _clients(5, "bob", never=["parameters"])
    said = _said(stage, {**stage, "name": "more"}, clients=clients, on_refusal="stop")
    with pytest.raises(ClientRefused, match=r"client 'bob', .*parameters"):
        tiny.run(tmp_path, data, **said)
    planned = _planned(tmp_path)
    assert planned["stages"][0]["stops"] == (
        "bob refuses a sum of parameters, and on_refusal is stop: policy of client 'bob': never "
        "parameters"
    )
    assert planned["not_reached"] == ["more"]


def test_too_few_for_a_sum_is_a_row_with_its_reason(data: Path, tmp_path: Path) -> None:
    """Without it a run would end, or report a sum of two."""
    stage = {"name": "sums", "share": [EVALUATION, PARAMETERS], "run": ["merge"]}
    said = _said(stage, clients=_clients(3, "bob", never=["parameters"]))
    row = _rows(tiny.run(tmp_path, data, **said), 0)["simple-average", None]
    assert row["status"] == "not-permitted"
    assert "2 clients" in row["reason"]
    (outlook,) = _planned(tmp_path)["stages"]
    assert outlook["sums"][0]["refusal"] == (
        "a secure sum needs 3 clients here, and would have 2 (ada, cyd)"
    )
    permitted = {r["method"]: r for r in outlook["results"]}["simple-average"]
    assert (permitted["merge"], permitted["ensemble"]) == (False, False)
