"""study.md: every figure of a study over its seeds, in tables."""

from __future__ import annotations

from collections.abc import Iterator

from neulig_fl.report import figures, study_words
from neulig_fl.report.headline import SIDES
from neulig_fl.report.markdown_tables import filled, table, text
from neulig_fl.report.rows import called
from neulig_fl.report.study_words import Study, spread

_FIGURES = ("merge_accuracy", "ensemble_accuracy", "gap_of_means")


def render(study: Study) -> str:
    """A study as Markdown (GitHub's tables)."""
    parts = [
        f"# {text(study['name'])}",
        text(study["question"]) if study["question"] else "",
        f"{len(study['cases'])} cases of the scenario {text(study['base']['name'])} "
        f"({text(study['base']['file'])}), {study_words.seeds(study)}. Accuracies are percentages: "
        "the mean over the seeds +- its standard deviation; '-' where a seed lacks the figure.",
        "\n".join(f"- {text(sentence)}" for sentence in study["answers"]),
        text(study["rule"]),
        _stages(study),
        _comparisons(study),
        *(_results(study, case["name"]) for case in study["cases"]),
        _cases(study),
        _runs(study),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _stages(study: Study) -> str:
    head = ["Case", "Stage", "Group", "Method", "Without", "Released in it", "Merge", "Ensemble"]
    head += ["Gap of means", "Bytes each so far", "Epsilon so far", "Refusals"]
    body = []
    for stage in study["stages"]:
        row = stage["headline"]
        body.append(
            [
                stage["case"],
                stage["stage"],
                stage["group"],
                row["label"] if row else figures.NULL,
                ", ".join(stage["without"]) or figures.NULL,
                "; ".join(stage["given"]) or figures.NULL,
                *(spread(row[key]) if row else figures.NULL for key in _FIGURES),
                study_words.size(stage),
                figures.epsilon(stage["epsilon_so_far"]),
                figures.count(stage["refusals"] or None),
            ]
        )
    return f"## Stages\n\n{filled(head, body, words=6)}"


def _comparisons(study: Study) -> str:
    body = [
        [
            f"{found['case']}, {found['stage']}",
            SIDES[found["quantity"]],
            f"{found['versus_case']}, {found['versus_stage']}",
            SIDES[found["versus_quantity"]],
            figures.signed(found["difference"]["mean"]),
            figures.interval(found["difference"]["ci95"]),
            *(figures.signed(value) for value in found["difference"]["values"]),
        ]
        for found in study["comparisons"]
    ]
    if not body:
        return ""
    head = ["Case, stage", "Accuracy", "minus case, stage", "Its accuracy", "Difference", "95 % CI"]
    head += [f"Seed {seed}" for seed in study["seeds"]]
    return f"## Against {text(study['versus'])}\n\n{table(head, body, words=4)}"


def _results(study: Study, case: str) -> str:
    found = [result for result in study["results"] if result["case"] == case]
    if not found:
        return ""
    body = [
        [
            result["stage"],
            called(result),
            *(spread(result[key]) for key in _FIGURES),
            figures.interval(result["gap_of_means"]["ci95"]),
        ]
        for result in found
    ]
    head = ["Stage", "Method", "Merge", "Ensemble", "Gap of means", "95 % CI of the gap"]
    return "\n\n".join([f"## Case {text(case)}", filled(head, body, words=2), *_reasons(found)])


def _reasons(found: list[dict[str, object]]) -> Iterator[str]:
    """Why rows have no figures."""
    lines = [
        f"- {text(str(result['stage']))}, {text(called(result))}: {text(str(result['reason']))}"
        for result in found
        if result["reason"]
    ]
    if lines:
        yield "\n".join(lines)


def _cases(study: Study) -> str:
    body = [
        [case["name"], "; ".join(case["overrides"]) or "the scenario as it is"]
        for case in study["cases"]
    ]
    return f"## Cases\n\n{table(['Case', 'Differs from the scenario in'], body, words=2)}"


def _runs(study: Study) -> str:
    body = [
        [
            run["case"],
            str(run["seed"]),
            run["folder"],
            run["state"],
            run["reason"] or figures.NULL,
            figures.number(run["seconds"], 1),
            figures.count(run["trained"]),
        ]
        for run in study["runs"]
    ]
    head = ["Case", "Seed", "Folder", "State", "Reason", "Seconds", "Experts trained"]
    return f"## Runs\n\n{filled(head, body, words=5)}"
