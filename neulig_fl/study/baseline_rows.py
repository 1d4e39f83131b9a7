"""Runs NeuLig and the controls on the evaluation queries of one stage, as rows of the report."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neulig_fl.config.scenario import Stage
from neulig_fl.config.values import MODEL_KINDS
from neulig_fl.core.errors import NotAvailable
from neulig_fl.core.progress import Progress
from neulig_fl.metrics import evaluation
from neulig_fl.metrics.evaluation import TaskScore
from neulig_fl.metrics.predictions import Key
from neulig_fl.models import outputs
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study import coopvec_needs
from neulig_fl.study.coopvec_rules import RULES, RunSituation
from neulig_fl.study.merged_predictions import Grouping
from neulig_fl.study.mixture import Mixture
from neulig_fl.study.mixture_inputs import MixtureInputs, NoSums, Sums
from neulig_fl.study.trained_portland import TrainedPortland

NOT_MERGED = "no parameters are merged in this stage"


@dataclass(frozen=True)
class Settings:
    """How a merge method was set.

    Args:
        needs: what it needs, in words.
        options: every option by its name, defaults too.
        tried: what was tried on the labelled pool: options and accuracy (percent); nothing where
            nothing was tuned.
        extension: how the method's rule is extended to this model; None where it is not.
    """

    needs: str
    options: Mapping[str, Any]
    tried: Sequence[tuple[Mapping[str, Any], float]] = ()
    extension: str | None = None

    def record(self) -> dict[str, Any]:
        """The row's `settings` as the report contract has it."""
        tried = [{"options": dict(o), "pool_accuracy": accuracy} for o, accuracy in self.tried]
        return {
            "needs": self.needs,
            "options": dict(self.options),
            "tried": tried,
            "extension": self.extension,
        }


@dataclass
class Row:
    """One row of a stage's results.

    Args:
        method: `neulig` or a control.
        granularity: how finely NeuLig mixes; None for the others.
        experts: the clients whose experts are mixed.
        scores: one a task; empty when there is nothing to show.
        reason: why there is nothing, or None.
        seconds: time that it took.
        bytes: bytes of the records that it needed.
        peak_rss_bytes: the process's largest resident set up to then.
        grouping: what it changed to merge near-equal CoopVecs as one; None where it did not.
        variant: how a merge method's options differ from its defaults; None for the others.
        settings: a merge method's options, and how they were chosen.
        failed: whether it was permitted, and could not be computed.
    """

    method: str
    granularity: str | None
    experts: tuple[str, ...]
    scores: list[TaskScore] = field(default_factory=list)
    reason: str | None = None
    seconds: float = 0.0
    bytes: int = 0
    peak_rss_bytes: int = 0
    grouping: Grouping | None = None
    variant: str | None = None
    settings: Settings | None = None
    failed: bool = False

    @property
    def key(self) -> Key:
        """What it is known by in its stage."""
        return self.method, self.granularity, self.variant

    def record(self) -> dict[str, Any]:
        """The row as the report contract has it."""
        shown = bool(self.scores)
        return {
            "method": self.method,
            "granularity": self.granularity,
            "variant": self.variant,
            "status": "ok" if shown else "failed" if self.failed else "not-permitted",
            "reason": self.reason,
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "bytes": self.bytes,
            "experts": list(self.experts),
            "tasks": [evaluation.task_record(s) for s in self.scores],
            "average": evaluation.average_record(self.scores) if shown else None,
            "grouping": self.grouping.record() if self.grouping else None,
            "settings": self.settings.record() if self.settings else None,
        }


@dataclass
class StageRun:
    """What a stage's steps work on.

    Args:
        stage: the scenario's stage.
        released: everything released so far.
        trained: the Portland at hand; `train-portland` replaces it.
        progress: takes progress events.
        sums: who asks the clients for secure sums.
        rows: the results so far, by method, granularity and variant.
        maps: CoopVec Maps for the report.
    """

    stage: Stage
    released: ReleasedRecords
    trained: TrainedPortland | None
    progress: Progress
    sums: Sums = field(default_factory=NoSums)
    rows: dict[Key, Row] = field(default_factory=dict)
    maps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def inputs(self) -> MixtureInputs:
        """What the stage's mixtures are made of."""
        return MixtureInputs(self.stage, self.released)


def run_rows(run: StageRun, merging: bool) -> None:
    """Compute every method's row, with or without its merged side.

    The order is the report's. It matters where secure sums are asked for: what the earlier rows got
    counts, so that a later row's sum may be refused.

    Args:
        run: the stage; its rows are added to, or replaced.
        merging: whether parameters are mixed as well as outputs.
    """
    run.inputs.settle()
    kept = run.inputs.experts(merging)
    for method, granularity in coopvec_needs.rows(run.stage):
        start = time.perf_counter()
        row = Row(method, granularity, kept)
        try:
            _fill(run, row, merging)
            row.reason = _missing_experts(run.released, row.experts)
        except NotAvailable as reason:
            row.reason = str(reason)
        row.bytes += _bytes_used(run, method, merging)
        close(run, row, start)
    _pretrained(run, merging)


def close(run: StageRun, row: Row, start: float) -> None:
    """Note what a row took, and keep it."""
    row.seconds = time.perf_counter() - start
    row.peak_rss_bytes = peak_rss_bytes()
    run.rows[row.key] = row


def peak_rss_bytes() -> int:
    """The largest resident set of this process so far, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _missing_experts(released: ReleasedRecords, kept: tuple[str, ...]) -> str | None:
    without = released.without(kept)
    return without and f"{without}: weights renormalised"


def _fill(run: StageRun, row: Row, merging: bool) -> None:
    """Mix for one row and score it, over the experts that were mixed."""
    name = row.granularity or row.method
    unmet = run.inputs.unmet(name, merging)
    if unmet is not None:
        raise NotAvailable(unmet)
    situation = RunSituation(run.released, run.trained, run.stage.group, row.experts)
    mixture = Mixture(run.inputs, run.released, row.experts, RULES[name](situation))
    title = f"{run.stage.name}: merge, {row.method} {row.granularity or ''}".strip()
    mixture.mix(merging, run.sums, run.progress, title)
    row.experts, row.grouping, row.bytes = mixture.experts, mixture.grouping, mixture.bytes
    row.scores = _scores(run, mixture, merging)


def _scores(run: StageRun, mixture: Mixture, merging: bool) -> list[TaskScore]:
    questions, weighting = run.released.questions(run.stage.group, "evaluation"), mixture.weighting
    return [
        TaskScore(
            task=question.task,
            targets=run.released.targets(question),
            merged=mixture.merged[i],
            ensembled=mixture.ensembled[i],
            coopvecs=weighting.merge[i] if merging else weighting.ensemble[i],
            reason=weighting.reasons[i] or (mixture.reason if merging else NOT_MERGED),
        )
        for i, question in enumerate(questions)
    ]


def _bytes_used(run: StageRun, method: str, merging: bool) -> int:
    """Bytes of the single records that a method's row needed."""
    released, group = run.released, run.stage.group
    keys: set[tuple[str, str, str | None]] = {(group, released.kind, "evaluation")}
    if merging:
        keys |= {(group, kind, None) for kind in MODEL_KINDS}
    if method not in ("simple-average", "oracle") and run.trained is not None:
        trained, options = run.trained, released.setting.scenario.portland
        keys.add((trained.group, released.kind, trained.queries))
        if options.alignment != "none":
            keys.add((trained.group, "offset-sum", None))
        if trained.queries == "train":
            keys.add((trained.group, "inputs", "train"))
        if options.objective_on != "ensemble":
            keys |= {(trained.group, kind, None) for kind in MODEL_KINDS}
    return sum(size for key, size in released.bytes.items() if key in keys)


def _pretrained(run: StageRun, merging: bool) -> None:
    """The checkpoint theta_0 alone: one model, so its own merge and its own ensemble."""
    start = time.perf_counter()
    row = Row("pretrained", None, ())
    setting = run.released.setting
    if setting.scenario.experts.origin == "diverse":
        row.reason = coopvec_needs.NO_CHECKPOINT
    else:
        questions = run.released.questions(run.stage.group, "evaluation")
        for question, features in zip(questions, run.released.at_start(questions), strict=True):
            guess = outputs.classify(features, run.released.head(question.task)).argmax(dim=1)
            targets = run.released.targets(question)
            merged = guess if merging else None
            reason = None if merging else NOT_MERGED
            row.scores.append(TaskScore(question.task, targets, merged, guess, None, reason))
    close(run, row, start)
