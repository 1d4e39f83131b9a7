"""Tests of what the tables show."""

from __future__ import annotations

from report_example import NO_PARAMETERS, ONE_MODEL, example, merging

from neulig_fl.report import rows, sentences


def test_order() -> None:
    """Without it NeuLig could stand below the controls that it is compared with."""
    labels = [row.label for row in rows.rows(merging())]
    assert labels == [
        "NeuLig (sample)",
        "NeuLig (task)",
        "NeuLig (global)",
        "regmean",
        "simple-average",
        "hard-routing",
        "best-single",
        "oracle",
        "pretrained",
    ]


def test_one_expert_cannot_differ_from_its_ensemble() -> None:
    """Without it one client's own model would be judged as if something had been merged."""
    result = next(r for r in merging()["results"] if r["method"] == "neulig")
    for gap, experts, verdict in (
        (0.0, ["north"], rows.BY_CONSTRUCTION),
        (0.5, ["north"], result["average"]["equivalence"]["verdict"]),
        (0.0, ["north", "east"], result["average"]["equivalence"]["verdict"]),
    ):
        result["average"]["mean_absolute_gap"], result["experts"] = gap, experts
        assert rows.row(result).verdict == verdict


def test_missing_reasons() -> None:
    """Without it a "-" would stand in a table without a reason."""
    report = example()
    assert rows.missing(rows.rows(report["stages"][0])) == [
        f"NeuLig, simple-average: no merge accuracy: {NO_PARAMETERS}"
    ]
    assert rows.missing(rows.rows(report["stages"][1])) == [
        "NeuLig (global): failed: the mean CoopVec has no finite entry",
        "regmean: not permitted: needs kind gram, which no stage releases",
        f"pretrained: no ensemble accuracy: {ONE_MODEL}",
    ]


def test_missing_on_one_task() -> None:
    """Without it a reason that holds for one task would seem to hold for all."""
    stage = merging()
    stage["results"][0]["tasks"][1]["reason"] = "two queries were lost"
    assert "hard-routing: some figures missing on digits: two queries were lost" in rows.missing(
        rows.rows(stage)
    )


def test_averages_of_shares() -> None:
    """Without it agreement, effective experts and interior would be missing from the averages."""
    first = rows.rows(merging())[0]
    assert first.average["interior"] is not None
    assert abs(first.average["interior"] - (0.173 + 0.223 + 0.273 + 0.323) / 4) < 1e-12
    assert rows.rows(merging())[2].average["interior"] is None


def test_given() -> None:
    """Without it like releases could hide one that is different."""
    stage = merging()
    stage["releases"][1]["bytes"] += 1
    found = rows.given(stage)
    assert [(given.clients, given.bytes) for given in found] == [
        (("north", "south"), 11_534_336),
        (("east",), 11_534_337),
    ]
    assert rows.what(stage["releases"][0] | {"protection": "none"}) == "parameters, unprotected"


def test_routing() -> None:
    """Without it a gap of 0 that is only routing would be sold as merging."""
    report = example()
    assert len(sentences.how_to_read(report)) == 3
    ours = next(r for r in report["stages"][1]["results"] if r["method"] == "neulig")
    for task in ours["tasks"]:
        task["interior"] = 0.0
    assert sentences.how_to_read(report)[3] == (
        "Here, in stage merging, NeuLig (sample) is nearly all routing: "
        "0.00 % of the queries are interior."
    )


def test_ledger_not_verified() -> None:
    """Without it a ledger that was tampered with would look like any other."""
    report = example()
    report["ledger"] = {"entries": 3, "head": None, "verified": False}
    assert sentences.ledger(report) == "Ledger: 3 entries, NOT VERIFIED; head -"


def test_trust_on_first_use_is_said() -> None:
    """Without it a reader would take every key for one that was known beforehand."""
    report = example()
    keys = {
        name: {"key": "ed25519:" + "A" * 43, "pinned": name == "east"} for name in ("east", "sea")
    }
    report["ledger"]["trust"] = keys
    assert sentences.ledger(report).endswith("; keys trusted on first use: sea")
    keys["sea"]["pinned"] = True
    assert sentences.ledger(report).endswith("; all keys were pinned")


def test_experts_unknown() -> None:
    """Without it a deployment, which cannot know the accuracies, would print an empty line."""
    report = example()
    report["reference"] = {"experts": [], "reason": "a deployment cannot know it"}
    assert sentences.experts(report) == ["Experts alone: a deployment cannot know it"]


def test_what_the_boosting_term_was_computed_on() -> None:
    """Without it an extension of ours would pass as the paper's training."""
    report = example()
    assert "extension" not in sentences.portland(report)
    for on, judged in {"merge": "merged models", "both": "ensemble and merged models"}.items():
        report["portland"]["objective_on"] = on
        assert f"queries, through {judged} (an extension), alignment" in sentences.portland(report)


def test_transductive() -> None:
    """Without it training on the evaluation inputs could go unsaid."""
    report = example()
    report["portland"]["transductive"] = True
    assert "transductive: the inputs on which accuracy is measured" in sentences.portland(report)
    report["portland"] = None
    assert sentences.portland(report) == "Portland: no stage trained it."


def test_a_record_that_was_not_released_has_one_sentence() -> None:
    """`refused` would stand there twice, or of a client that was only missing."""
    report = example()
    client, stage = report["stages"][1]["refusals"][0]["client"], report["stages"][1]["name"]
    for reason in ("refused: policy of client 'harbour': never parameters", "missing: no reply"):
        report["stages"][1]["refusals"][0]["reason"] = reason
        told = f"{client} did not release parameters in stage {stage}: {reason}"
        assert sentences.refusals(report) == [told]
