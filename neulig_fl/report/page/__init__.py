"""A report as one page: a self-contained HTML file, made from report.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any

from neulig_fl.core import cache_folder
from neulig_fl.report import charts, figures, question, rows, sentences, timeline
from neulig_fl.report.page import tables

if TYPE_CHECKING:
    from jinja2 import Environment


def render(report: Mapping[str, Any]) -> str:
    """The page of one run and one seed.

    Args:
        report: the content of report.json.

    Returns:
        HTML that loads nothing: styles, figures and scripts are in it.
    """
    scenario = report["scenario"]
    answer = question.answer(report)
    return _page(
        "run.html",
        charts.figures(report),
        title=figures.plain(scenario["name"]),
        run=f"Seed {scenario['seed']}, {figures.plain(report['engine'])} engine, "
        f"{len(rows.clients(report))} clients",
        differs=sentences.differs(scenario),
        question=question.question(report),
        answer=answer,
        said=timeline.answers(report),
        rule=timeline.RULE,
        stages=[
            _card(line, stage, rows.clients(report))
            for line, stage in zip(timeline.stage_lines(report), report["stages"], strict=True)
        ],
        results=[_stage(stage, report) for stage in report["stages"]],
        differences=tables.stage_differences(report),
        releases=tables.releases(report),
        refusals=tables.refusals(report),
        privacy=sentences.privacy(report),
        spent=tables.accuracy_against_epsilon(report),
        experts=tables.experts(report),
        experts_reason=report["reference"]["reason"],
        ledger=sentences.ledger(report),
        portland=sentences.portland(report),
        notes=[figures.plain(note) for note in report["notes"]],
        reading=sentences.how_to_read(report),
        seconds=tables.seconds(report),
        versions=tables.versions(report),
        hash=scenario["hash"],
        engine=figures.plain(report["engine"]),
        memory=figures.size(report["peak_rss_bytes"]),
    )


def render_study(study: Mapping[str, Any]) -> str:
    """The page of a study.

    Args:
        study: the content of study.json.

    Returns:
        HTML that loads nothing: styles, figures and scripts are in it.
    """
    from neulig_fl.report.page import study_tables

    asked = study["question"] or "What does each case give, and what does it cost?"
    failed = [run for run in study["runs"] if run["state"] == "failed"]
    return _page(
        "study.html",
        charts.figures(study, charts.OF_STUDIES),
        title=figures.plain(study["name"]),
        run=f"{len(study['cases'])} cases, seeds {', '.join(map(str, study['seeds']))}, "
        f"{figures.plain(', '.join(study['engines']))} engine, "
        f"{len(study['base']['clients'])} clients",
        question=figures.plain(asked),
        answer=[figures.plain(sentence) for sentence in study["answers"][:2]],
        said=[figures.plain(sentence) for sentence in study["answers"][2:]],
        rule=study["rule"],
        cases=[study_tables.card(case, study) for case in study["cases"]],
        failed=[
            figures.plain(f"{run['case']}, seed {run['seed']}: {run['reason']}") for run in failed
        ],
        stages=study_tables.stages(study),
        comparisons=study_tables.comparisons(study),
        results=study_tables.results(study),
        tasks=study_tables.tasks(study),
        released=study_tables.released(study),
        overrides=study_tables.overrides(study),
        runs=study_tables.runs(study),
        base=figures.plain(study["base"]["file"]),
        hash=study["hash"],
        versions=figures.plain(", ".join(study["versions"])),
    )


def _card(
    line: timeline.StageLine, stage: Mapping[str, Any], everyone: Sequence[str]
) -> dict[str, Any]:
    """What the timeline shows of a stage."""
    givers = {release["client"] for release in stage["releases"]}
    average = line.average
    sides = {"Merged model": "merge_accuracy", "Ensemble": "ensemble_accuracy"}
    protections = dict.fromkeys(release["protection"] for release in stage["releases"])
    return {
        "name": figures.plain(line.name),
        "group": line.group,
        "given": line.given or ("nothing",),
        "clients": f"{len(givers)} of {len(everyone)} clients",
        "label": line.label,
        "sides": [
            {"name": name, "text": figures.number(average[key]), "value": average[key]}
            for name, key in sides.items()
            if average[key] is not None
        ],
        "gap": figures.signed(average["gap_of_means"]),
        "gap_ends": figures.interval(average["gap_of_means_ci95"]),
        "bytes": line.released,
        "protection": figures.plain(", ".join(protections)) or figures.NULL,
        "epsilon": "no claim" if line.epsilon == figures.NULL else line.epsilon,
        "without": line.without if line.without != figures.NULL else "",
        "refusals": line.refusals,
    }


def _stage(stage: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    found = rows.rows(stage, rows.clients(report))
    return {
        "name": figures.plain(stage["name"]),
        "group": stage["group"],
        "averages": tables.averages(stage, report),
        "tasks": tables.by_task(stage, report),
        "minus": tables.minus_neulig(stage),
        "settings": tables.settings(stage),
        "reasons": [*rows.missing(found), *rows.groupings(stage)],
        "audits": tables.audits(stage),
    }


def _page(template: str, found: list[charts.Figure], **parts: Any) -> str:
    from neulig_fl.report.charts import _theme

    specs = {figure.name: figure.chart.to_dict() for figure in found}
    themes = {"light": _theme.light(), "dark": _theme.dark()}
    page = _templates().get_template(template)
    return page.render(
        figures=found,
        specs=specs,
        themes=themes,
        style=_file("style.css"),
        script=_file("page.js"),
        vega=_vega(),
        **parts,
    )


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

    templates = Environment(
        loader=FunctionLoader(lambda name: _file(f"templates/{name}.j2")),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["script"] = lambda code: code.replace("</script", "<\\/script")
    templates.filters["json"] = lambda value: (
        json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        .replace("<", "\\u003c")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )
    return templates


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    import vl_convert

    return cache_folder.script(
        "vega",
        metadata.version("vl-convert-python"),
        lambda: str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")),
    )
