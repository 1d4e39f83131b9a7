"""One point for each case and stage: the joint model's accuracy over the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neulig_fl.report import figures, revealed
from neulig_fl.report.headline import SIDES


def points(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stages of every case that have an accuracy.

    Returns:
        `case`, `stage`, `method`, `side`, `accuracy` (the seeds' mean, percent), `low` and `high`
        (its 95 % interval; None with one seed), `bytes` (the most that a client had released by
        then), `revealed` (of `revealed.LEVELS`), `speaks` (whether it is the case's last).
    """
    found = []
    for stage in study["stages"]:
        row = stage["headline"]
        if row is None or row["accuracy"]["mean"] is None:
            continue
        low, high = row["accuracy"]["ci95"] or (None, None)
        found.append(
            {
                "case": figures.plain(stage["case"]),
                "stage": figures.plain(stage["stage"]),
                "method": figures.plain(row["label"]),
                "side": SIDES[row["quantity"]],
                "accuracy": row["accuracy"]["mean"],
                "low": low,
                "high": high,
                "bytes": stage["bytes_so_far"]["most"],
                "revealed": revealed.most(stage["released_so_far"]),
                "speaks": stage["last"],
            }
        )
    return found
