r"""A report's accuracies as LaTeX tables in the form of the paper's Table 2, one a stage.

They need the packages `booktabs` and `graphicx` (a wide table is scaled to the line).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neulig_fl.report import figures, rows

_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_SHORT = {"merge_accuracy": "Mer.", "ensemble_accuracy": "Ens.", "gap": "Gap"}
_AVERAGE = {
    "merge_accuracy": "merge_accuracy",
    "ensemble_accuracy": "ensemble_accuracy",
    "gap": "gap_of_means",
}


def render(report: Mapping[str, Any]) -> str:
    """Every stage that has results, one table each."""
    everyone = rows.clients(report)
    parts = [_table(report, stage, everyone) for stage in report["stages"] if stage["results"]]
    head = "% \\usepackage{booktabs,graphicx}"
    return "\n\n".join([head, *parts]) + "\n"


def text(words: str) -> str:
    r"""Words from elsewhere, as LaTeX shows and does not run them.

    Example:
        >>> print(text(r"50 % of \input{x}_1"))
        50 \% of \textbackslash{}input\{x\}\_1
    """
    return "".join(_SIGNS.get(sign, sign) for sign in figures.plain(words))


def _table(report: Mapping[str, Any], stage: Mapping[str, Any], everyone: list[str]) -> str:
    found = rows.rows(stage, everyone)
    keys, tasks = rows.quantities(found), rows.tasks(stage)
    blocks = [*tasks, "Average"]
    spans, rules = [], []
    for at, name in enumerate(blocks):
        first = 2 + at * len(keys)
        spans.append(rf"\multicolumn{{{len(keys)}}}{{c}}{{{text(name)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + len(keys) - 1}}}")
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(report, stage)}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(blocks) * len(keys))}}}",
        r"\toprule",
    ]
    if keys:
        heads = [_SHORT[key] for _ in blocks for key in keys]
        lines += [f" & {' & '.join(spans)} \\\\", " ".join(rules)]
        lines += [f"Method & {' & '.join(heads)} \\\\", r"\midrule"]
    last = None
    for row in found:
        if last not in (None, row.rank):
            lines.append(r"\midrule")
        last = row.rank
        cells = [_cell(row.tasks.get(task), key, key) for task in tasks for key in keys]
        cells += [_cell(row.average, key, _AVERAGE[key]) for key in keys]
        label = row.label if not row.without else f"{row.label}, without {row.fewer}"
        lines.append(f"{' & '.join([text(label), *cells])} \\\\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}"])


def _caption(report: Mapping[str, Any], stage: Mapping[str, Any]) -> str:
    scenario = report["scenario"]
    where = f"{scenario['name']}, seed {scenario['seed']}, stage {stage['name']}"
    return text(f"{where} (group {stage['group']}): accuracy in percent, gap in points.")


def _cell(found: Mapping[str, Any] | None, key: str, name: str) -> str:
    value = found[name] if found else None
    if value is None:
        return "--"
    return f"${figures.signed(value)}$" if key == "gap" else figures.number(value)
