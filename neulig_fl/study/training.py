"""Training Portland on what was released, and choosing the best single expert beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neulig_fl.core.errors import ClientRefused, NotAvailable, RunError
from neulig_fl.core.randomness import torch_generator
from neulig_fl.merging import coopvecs, portland
from neulig_fl.merging.portland import EpochMeans, Fit, Portland, TrainingQueries, to_logits
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study import coopvec_needs, trained_portland
from neulig_fl.study.baseline_rows import StageRun
from neulig_fl.study.merged_queries import MergedQueries, open_merged
from neulig_fl.study.trained_portland import TrainedPortland

MOST_MAPS = 50
"""CoopVec Maps that a report has of one training."""


def train(run: StageRun) -> None:
    """Train Portland on the stage's group.

    The boosting term judges the ensemble (the paper's), or by `objective_on` merged models, which
    is an extension: those are differentiated through to their CoopVecs.

    Raises:
        ClientRefused: fewer than two clients share what it needs.
        RunError: the query set is empty.
        NotCovered: merged models of this architecture cannot be trained through.
    """
    released, group = run.released, run.stage.group
    options = released.setting.scenario.portland
    try:
        names = coopvec_needs.learners(released, group)
    except NotAvailable as reason:
        raise ClientRefused(f"stage {run.stage.name!r}: {reason}") from reason
    try:
        coopvec_needs.require_queries(released, group)
    except NotAvailable as reason:
        raise RunError(f"stage {run.stage.name!r}: {reason}") from reason
    queries = training_queries(released, group, names, _merged(run, names))
    sums = released.sums.get(group, {})
    offsets = torch.zeros(len(names))
    if options.alignment != "none":
        raw = torch.tensor([sums[n] for n in names], dtype=torch.float64)
        offsets = portland.standardised_offset_sums(raw)
    bar = run.progress.task(f"{run.stage.name}: Portland, epochs", options.epochs)

    kept = kept_epochs(options.epochs)

    def on_epoch(epoch: int, network: Portland, means: EpochMeans) -> None:
        bar.advance(says=_stands(means))
        if epoch in kept:
            _keep_map(run, network, epoch, whole=epoch in (1, options.epochs))

    generator = torch_generator(released.setting.seed, "portland", group)
    fit = portland.train(queries, offsets, names, options, generator, on_epoch)
    best, choice = best_single(queries, names)
    run.trained = TrainedPortland(fit, run.stage.name, group, options.queries, best, choice)


def _stands(means: EpochMeans) -> str:
    """How training stands, for who watches it."""
    right = means["accuracy"]
    accuracy = "" if right is None else f", accuracy {right:.1f} %"
    return f"loss {means['loss']:.4f}{accuracy}"


def kept_epochs(epochs: int) -> list[int]:
    """The epochs after which a CoopVec Map is kept: evenly spread, the first and the last included.

    Args:
        epochs: how many there are.

    Example:
        >>> kept_epochs(3), len(kept_epochs(1000)), kept_epochs(1000)[-1]
        ([1, 2, 3], 50, 1000)
    """
    if epochs <= MOST_MAPS:
        return list(range(1, epochs + 1))
    steps = MOST_MAPS - 1
    return [1 + round(at * (epochs - 1) / steps) for at in range(MOST_MAPS)]


def _keep_map(run: StageRun, network: Portland, epoch: int, *, whole: bool) -> None:
    """Add a CoopVec Map to the report; without answers for every task there is none."""
    try:
        run.maps.append(map_record(run, network, epoch, whole=whole))
    except NotAvailable as reason:
        if whole:  # said of the first and the last; it is so of those between
            run.progress.note(f"{run.stage.name}: no CoopVec Map after epoch {epoch}: {reason}")


def _merged(run: StageRun, names: tuple[str, ...]) -> MergedQueries | None:
    """The merged models, with progress of their own; None where the ensemble alone is judged."""
    released, group = run.released, run.stage.group
    options = released.setting.scenario.portland
    if options.objective_on == "ensemble":
        return None
    rows = sum(len(q.labels) for q in released.questions(group, options.queries))
    label = f"{run.stage.name}: Portland, merged models"
    bar = run.progress.task(label, options.epochs * rows)
    return open_merged(released, group, names, bar.advance)


def training_queries(
    released: ReleasedRecords,
    group: str,
    names: tuple[str, ...],
    merged: MergedQueries | None = None,
) -> list[TrainingQueries]:
    """The released outputs, block by block, with labels when the objective is supervised.

    Args:
        released: the records.
        group: whose outputs.
        names: the experts that Portland reads.
        merged: their merged models, where those are judged.
    """
    options = released.setting.scenario.portland
    questions = released.questions(group, options.queries)
    supervised = options.objective == "supervised"
    return [
        TrainingQueries(
            outputs=outputs,
            head=released.head_for_outputs(question.task),
            columns=released.columns(question.task),
            labels=released.targets(question) if supervised else None,
            merged=merged.logits(question, released.head(question.task)) if merged else None,
        )
        for question, outputs in zip(
            questions, released.stacked(group, options.queries, names), strict=True
        )
        if len(outputs)
    ]


def best_single(queries: list[TrainingQueries], names: tuple[str, ...]) -> tuple[str, str]:
    """The expert that is best alone on the training queries, and how it was chosen."""
    worth = [_worth(queries, position) for position in range(len(names))]
    supervised = queries[0].labels is not None
    rule = "highest accuracy" if supervised else "lowest mean entropy"
    return names[int(torch.stack(worth).argmax())], f"{rule} on Portland's training queries"


def _worth(queries: list[TrainingQueries], position: int) -> Tensor:
    """Mean over tasks of one expert's accuracy, or of its negative entropy without labels."""
    parts = []
    for task in queries:
        logits = to_logits(task.outputs[:, position], task.head, task.columns)
        if task.labels is None:
            parts.append(-portland.boosting(logits, None))
        else:
            parts.append((logits.argmax(dim=1) == task.labels).float().mean())
    return torch.stack(parts).mean()


def map_record(run: StageRun, network: Portland, epoch: int, *, whole: bool) -> dict[str, Any]:
    """A CoopVec Map as the report has it; `whole` with the distributions that it is made from."""
    released = run.released
    options = released.setting.scenario.portland
    trained = TrainedPortland(
        Fit(network, [], 0.0, 0), run.stage.name, run.stage.group, options.queries, "", ""
    )
    per_task = trained_portland.public_coopvecs(released, trained, run.stage.group, network.experts)
    found = coopvecs.coopvec_map(per_task)
    return {
        "stage": run.stage.name,
        "group": run.stage.group,
        "epoch": epoch,
        "estimator": coopvecs.ESTIMATOR,
        "tasks": list(released.setting.tasks),
        "experts": list(network.experts),
        "values": found.values.tolist(),
        "raw_sums": found.raw_sums.tolist(),
        "histograms": {"bins": coopvecs.BINS, "counts": found.counts.tolist()} if whole else None,
    }
