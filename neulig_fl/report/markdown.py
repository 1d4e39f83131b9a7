"""report.md: every figure of a report, in tables like the paper's Table 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neulig_fl.report import coopvec_maps, figures, rows, sentences, settings, timeline
from neulig_fl.report.headline import SIDES
from neulig_fl.report.markdown_tables import filled, table, text

_SHORT = {"merge_accuracy": "Mer.", "ensemble_accuracy": "Ens.", "gap": "Gap"}
_EPOCHS = 20  # most lines of Portland's trajectory


def render(report: Mapping[str, Any]) -> str:
    """A report as Markdown (GitHub's tables)."""
    parts = [
        _head(report),
        _stages(report),
        _how_to_read(report),
        *(_stage(stage, report) for stage in report["stages"]),
        *map(_coopvec_map, coopvec_maps.ends(report)),
        _privacy(report),
        _portland(report),
        _reference(report),
        _run(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(report: Mapping[str, Any]) -> str:
    scenario = report["scenario"]
    return "\n".join(
        [
            f"# {text(scenario['name'])}",
            "",
            f"Seed {scenario['seed']}, {text(report['engine'])} engine, "
            f"{len(rows.clients(report))} clients. All accuracies are percentages.",
            *(text(sentence) for sentence in sentences.differs(scenario)),
        ]
    )


def _how_to_read(report: Mapping[str, Any]) -> str:
    notes = [f"- {text(note)}" for note in report["notes"]]
    return "\n".join(
        [
            "## How to read it",
            "",
            *(text(sentence) for sentence in sentences.how_to_read(report)),
            *(
                ["", "Departures from the paper, and choices, in this run:", "", *notes]
                if notes
                else []
            ),
        ]
    )


def _stages(report: Mapping[str, Any]) -> str:
    """Stage against stage: what each share policy gave, and what each client had released."""
    head = ["Stage", "Group", "Released in it", "Method", "Without", "Merge", "Ensemble"]
    head += ["Gap of means", "95 % CI", "Bytes each so far", "Epsilon so far"]
    body = [
        [
            line.name,
            line.group,
            "; ".join(line.given) or figures.NULL,
            line.label,
            line.without,
            *_mean_cells(line.average),
            line.released,
            line.epsilon,
        ]
        for line in timeline.stage_lines(report)
    ]
    said = _bullets([*timeline.answers(report), timeline.RULE])
    parts = ["## Stages", filled(head, body, words=5), *said, *_stage_differences(report)]
    return "\n\n".join(parts)


def _stage_differences(report: Mapping[str, Any]) -> Iterator[str]:
    body = [
        [
            found["stage"],
            rows.label(found["method"], found["granularity"], found["variant"]),
            SIDES[found["quantity"]],
            found["versus"],
            rows.label(
                found["versus_method"], found["versus_granularity"], found["versus_variant"]
            ),
            SIDES[found["versus_quantity"]],
            figures.signed(found["difference"]),
            figures.interval(found["ci95"]),
        ]
        for found in report["stage_comparisons"]
    ]
    if body:
        yield "### Stage minus earlier stage"
        head = ["Stage", "Method", "Accuracy", "Minus stage", "Method", "Accuracy"]
        yield table([*head, "Difference", "95 % CI"], body, words=6)


def _stage(stage: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    found = rows.rows(stage, rows.clients(report))
    parts = [f"## Stage {text(stage['name'])} (group {stage['group']})"]
    if found:
        parts += ["### Accuracies", _per_task(stage, found)]
        parts += ["### Averages", _averages(found)]
        told = [*rows.missing(found), *rows.groupings(stage), *settings.sentences(stage)]
        parts += _bullets(told)
        parts += [*_detail(stage, found), *_settings(stage), *_costs(stage)]
    parts += [*_differences(stage), *_given(stage, report), *_refusals(stage), *_audits(stage)]
    return "\n\n".join(parts)


def _privacy(report: Mapping[str, Any]) -> str:
    """Accuracy against epsilon, where something was noised."""
    said = sentences.privacy(report)
    if not said:
        return ""
    head = ["Stage", "Method", "Epsilon of the stage", "Epsilon so far", "Ensemble", "Merge"]
    lines = rows.accuracy_against_epsilon(report)
    parts = ["## Differential privacy", *_bullets(said)]
    return "\n\n".join([*parts, *([table(head, lines, words=2)] if lines else [])])


def _per_task(stage: Mapping[str, Any], found: Sequence[rows.TableRow]) -> str:
    names = rows.tasks(stage)
    quantities = [f"{task} {_SHORT[key]}" for task in names for key in rows.QUANTITIES]
    head = ["Method", "Without", *quantities]
    head += ["Avg Mer.", "Avg Ens.", "Gap of means", "95 % CI"]
    body = []
    for row in found:
        cells = [_cell(row.tasks.get(task), key) for task in names for key in rows.QUANTITIES]
        body.append([row.label, row.fewer, *cells, *_mean_cells(row.average)])
    return filled(head, body, words=2)


def _cell(task: Mapping[str, Any] | None, key: str) -> str:
    if task is None:
        return figures.NULL
    return figures.signed(task[key]) if key == "gap" else figures.number(task[key])


def _mean_cells(average: Mapping[str, Any]) -> list[str]:
    return [
        figures.number(average["merge_accuracy"]),
        figures.number(average["ensemble_accuracy"]),
        figures.signed(average["gap_of_means"]),
        figures.interval(average["gap_of_means_ci95"]),
    ]


def _averages(found: Sequence[rows.TableRow]) -> str:
    head = [
        "Method",
        "Without",
        "Verdict",
        "Merge",
        "Ensemble",
        "Gap of means",
        "95 % CI",
        "90 % CI",
        "Margin",
    ]
    head += ["Mean abs. gap", "Agreement %", "Effective experts", "Interior %"]
    body = []
    for row in found:
        average, test = row.average, row.average["equivalence"]
        reason = f": {row.reason}" if row.status != "ok" and row.reason else ""
        body.append(
            [
                row.label,
                row.fewer,
                f"{row.verdict}{reason}",
                *_mean_cells(average),
                figures.interval(test["ci90"] if test else None),
                figures.number(test["margin_pp"] if test else None),
                figures.number(average["mean_absolute_gap"]),
                figures.percent(average["agreement"]),
                figures.number(average["effective_experts"]),
                figures.percent(average["interior"]),
            ]
        )
    return filled(head, body, words=3)


def _bullets(sentences: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {text(sentence)}" for sentence in sentences)] if sentences else []


def _detail(stage: Mapping[str, Any], found: Sequence[rows.TableRow]) -> list[str]:
    body = []
    for name in rows.tasks(stage):
        for row in found:
            if (task := row.tasks.get(name)) is None:
                continue
            body.append(
                [
                    name,
                    row.label,
                    figures.count(task["n"]),
                    *(_cell(task, key) for key in rows.QUANTITIES),
                    figures.interval(task["gap_ci95"]),
                    figures.percent(task["agreement"]),
                    figures.number(task["effective_experts"]),
                    figures.percent(task["interior"]),
                ]
            )
    head = ["Task", "Method", "n", "Mer.", "Ens.", "Gap", "95 % CI", "Agreement %"]
    head += ["Effective experts", "Interior %"]
    return ["### Each task", filled(head, body, words=2)] if body else []


def _settings(stage: Mapping[str, Any]) -> list[str]:
    body = settings.table_rows(stage)
    return ["### Merge methods", table(settings.HEAD, body, words=4)] if body else []


def _costs(stage: Mapping[str, Any]) -> Iterator[str]:
    head = ["Method", "Experts mixed", "Seconds", "Peak memory, bytes", "Payload bytes"]
    body = [
        [
            rows.called(result),
            ", ".join(result["experts"]) or figures.NULL,
            figures.number(result["seconds"]),
            figures.count(result["peak_rss_bytes"]),
            figures.count(result["bytes"]),
        ]
        for result in rows.ordered(stage["results"])
        if result["status"] == "ok"
    ]
    if body:
        yield "### What each result took"
        yield table(head, body, words=2)


def _differences(stage: Mapping[str, Any]) -> Iterator[str]:
    found = rows.differences(stage)
    if found:
        yield "### Method minus NeuLig"
        head = ["Method", "Merge", "95 % CI", "Ensemble", "95 % CI"]
        body = []
        for difference in found:
            cells = [difference.label]
            for key in ("merge_accuracy", "ensemble_accuracy"):
                value, ends = difference.values.get(key, (None, None))
                cells += [figures.signed(value), figures.interval(ends)]
            body.append(cells)
        yield filled(head, body)


def _given(stage: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    yield "### What each client gave away"
    if not stage["releases"]:
        yield "Nothing left a client in this stage."
        return
    head = [
        "Client",
        "Kind",
        "Queries",
        "Protection",
        "Adjacency",
        "Rows",
        "Bytes",
        "Epsilon",
        "Delta",
    ]
    body = [
        [
            release["client"],
            release["kind"],
            release["queries"] or figures.NULL,
            release["protection"],
            release["adjacency"] or figures.NULL,
            figures.count(rows.counted_rows(release)),
            figures.count(release["bytes"]),
            figures.epsilon(release["epsilon"]),
            figures.epsilon(release["delta"]),
        ]
        for client in rows.clients(report)
        for release in stage["releases"]
        if release["client"] == client
    ]
    yield table(head, body, words=5)
    if any(release["epsilon"] is None for release in stage["releases"]):
        yield "Epsilon '-': no differential-privacy claim is made."


def _refusals(stage: Mapping[str, Any]) -> Iterator[str]:
    if stage["refusals"]:
        yield "### Refusals"
        body = [
            [refusal["client"], refusal["kind"], refusal["reason"]] for refusal in stage["refusals"]
        ]
        yield table(["Client", "Kind", "Reason"], body, words=3)


def _audits(stage: Mapping[str, Any]) -> Iterator[str]:
    if stage["audits"]:
        yield "### Audits"
        yield "\n".join(
            "- " + text("; ".join(f"{key}: {value}" for key, value in audit.items()))
            for audit in stage["audits"]
        )


def _coopvec_map(found: Mapping[str, Any]) -> str:
    body = [
        [task, *(figures.number(value) for value in values), figures.number(raw)]
        for task, values, raw in zip(
            found["tasks"], found["values"], found["raw_sums"], strict=True
        )
    ]
    where = f"stage {text(found['stage'])}, group {found['group']}, epoch {found['epoch']}"
    told = f"Estimator: {text(found['estimator'])}. Rows are tasks, columns the clients' experts."
    return "\n\n".join(
        [f"## CoopVec Map: {where}", told, table(["Task", *found["experts"], "Raw sum"], body)]
    )


def _portland(report: Mapping[str, Any]) -> str:
    parts = ["## Portland", text(sentences.portland(report))]
    if report["portland"] and report["portland"]["trajectory"]:
        trajectory = report["portland"]["trajectory"]
        step = -(-len(trajectory) // _EPOCHS)
        shown = [
            epoch
            for at, epoch in enumerate(trajectory, 1)
            if at % step == 0 or at == len(trajectory)
        ]
        keys = ("loss", "boosting", "alignment", "accuracy", "effective_experts")
        body = [
            [
                str(epoch["epoch"]),
                *(figures.number(epoch[key], 2 if key == "accuracy" else 4) for key in keys),
            ]
            for epoch in shown
        ]
        head = ["Epoch", "Loss", "Boosting", "Alignment", "Accuracy", "Effective experts"]
        parts.append(table(head, body, words=0))
        if len(shown) < len(trajectory):
            parts.append(f"Every {step} epochs; report.json has all {len(trajectory)}.")
    return "\n\n".join(parts)


def _reference(report: Mapping[str, Any]) -> str:
    found = report["reference"]
    words = (
        "Exact ground truth that only a simulation has: no method uses it, no record released it,"
    )
    words += " and no epsilon covers it. `neulig-fl run --no-reference` leaves it out."
    parts = ["## Experts alone", words]
    if found["reason"]:
        parts.append(text(found["reason"]))
    if found["experts"]:
        head = ["Client", "Task", "Group", "Origin", "Accuracy", "Trained on", "Evaluated on"]
        body = [
            [
                *(expert[key] for key in ("client", "task", "group", "origin")),
                figures.number(expert["accuracy"]),
                figures.count(expert["n_train"]),
                figures.count(expert["n_eval"]),
            ]
            for expert in found["experts"]
        ]
        parts.append(table(head, body, words=4))
    return "\n\n".join(parts)


def _run(report: Mapping[str, Any]) -> str:
    spent = [[part, figures.number(seconds)] for part, seconds in report["seconds"].items()]
    versions = [[name, version] for name, version in report["versions"].items()]
    memory = figures.count(report["peak_rss_bytes"])
    return "\n\n".join(
        [
            "## The run",
            f"{text(sentences.ledger(report))}. Scenario hash {report['scenario']['hash']}. "
            f"Peak memory of the server's process: {memory} bytes.",
            table(["Part", "Seconds"], spent),
            table(["Software", "Version"], versions, words=2),
        ]
    )
