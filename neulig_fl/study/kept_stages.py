"""A finished stage as an unfinished run keeps it: its part of the report, and what later ones need.

Of the clients' records it keeps none: a server that is resumed takes them from the answers that it
kept, in the order in which they came, and must so come to the receipts whose head stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from neulig_fl.core.errors import InputError
from neulig_fl.merging.portland import Fit, Portland
from neulig_fl.metrics.evaluation import TaskScore
from neulig_fl.metrics.predictions import Key, Scores
from neulig_fl.server.unfinished import Unfinished
from neulig_fl.study.trained_portland import TrainedPortland

_SIDES = ("targets", "merged", "ensembled", "coopvecs")


@dataclass(frozen=True)
class FinishedStage:
    """What a stage adds to a run.

    Args:
        record: its part of the report.
        maps: CoopVec Maps for the report.
        scores: what each row did on the evaluation queries.
        trained: the Portland after it; None where none is trained yet.
        seconds: that it took.
    """

    record: dict[str, Any]
    maps: list[dict[str, Any]]
    scores: Scores
    trained: TrainedPortland | None
    seconds: float

    @property
    def name(self) -> str:
        """Of the stage."""
        return str(self.record["name"])


@dataclass
class _Tensors:
    """Tensors by numbers, in place of which a text can stand."""

    all: dict[str, Tensor] = field(default_factory=dict)

    def put(self, tensor: Tensor | None) -> str | None:
        if tensor is None:
            return None
        name = str(len(self.all))
        self.all[name] = tensor.detach().clone().contiguous()  # saved tensors must share no memory
        return name


def keep(kept: Unfinished, stage: FinishedStage, head: str | None) -> None:
    """Keep a stage that is finished.

    Args:
        kept: of the run.
        stage: what it added.
        head: of the receipts after it.
    """
    tensors = _Tensors()
    said = {
        "record": stage.record,
        "maps": stage.maps,
        "scores": [_rows(key, scores, tensors) for key, scores in stage.scores.items()],
        "trained": None if stage.trained is None else _portland(stage.trained, tensors),
        "seconds": stage.seconds,
        "head": head,
    }
    kept.keep_stage(stage.name, said, save(tensors.all))


def read(kept: Unfinished, name: str) -> tuple[FinishedStage, str | None]:
    """What `keep` kept: the stage, and the head of the receipts after it.

    Raises:
        InputError: its file was cut or changed.
    """
    said, payload = kept.read_stage(name)
    tensors = load(bytes(payload))
    try:
        scores = dict(_read_rows(each, tensors) for each in said["scores"])
        trained = None if said["trained"] is None else _read_portland(said["trained"], tensors)
        stage = FinishedStage(said["record"], said["maps"], scores, trained, said["seconds"])
        return stage, said["head"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{kept.folder}: stage {name!r} is not as this neulig-fl keeps one; begin the run anew"
        ) from error


def _rows(key: Key, scores: Any, tensors: _Tensors) -> dict[str, Any]:
    rows = [
        {"task": score.task, "reason": score.reason}
        | {side: tensors.put(getattr(score, side)) for side in _SIDES}
        for score in scores
    ]
    return {"key": list(key), "rows": rows}


def _read_rows(
    said: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[Key, list[TaskScore]]:
    method, granularity, variant = said["key"]
    rows = []
    for row in said["rows"]:
        merged, ensembled, beta = (
            None if row[side] is None else tensors[row[side]]
            for side in ("merged", "ensembled", "coopvecs")
        )
        targets = tensors[row["targets"]]
        rows.append(TaskScore(row["task"], targets, merged, ensembled, beta, row["reason"]))
    return (method, granularity, variant), rows


def _portland(trained: TrainedPortland, tensors: _Tensors) -> dict[str, Any]:
    fit, network = trained.fit, trained.portland
    return {
        "weight": tensors.put(network.weight),
        "bias": tensors.put(network.bias),
        "experts": list(network.experts),
        "fit": {"trajectory": fit.trajectory, "seconds": fit.seconds, "samples": fit.samples},
        "choice": {
            "stage": trained.stage,
            "group": trained.group,
            "queries": trained.queries,
            "best_single": trained.best_single,
            "choice": trained.choice,
        },
    }


def _read_portland(said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TrainedPortland:
    weight, bias = tensors[said["weight"]], tensors[said["bias"]]
    network = Portland(weight, bias, tuple(said["experts"]))
    return TrainedPortland(Fit(network, **said["fit"]), **said["choice"])
