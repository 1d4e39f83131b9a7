"""Runs the scenario's merge methods on the evaluation queries of a stage, as rows of the report.

Every method has a row in every stage that merges or ensembles. Where the stage does not permit what
it needs, the row says what that is. All methods read the same released records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, linalg, nn

from neulig_fl.config.methods import MethodEntry
from neulig_fl.config.values import MODEL_KINDS
from neulig_fl.core.errors import InputError, NotAvailable, RunError
from neulig_fl.core.progress import Bar, Progress
from neulig_fl.merging import methods
from neulig_fl.merging.methods import Answers, Given, Needs
from neulig_fl.merging.portland import to_logits
from neulig_fl.metrics.evaluation import TaskScore
from neulig_fl.server.released_records import Questions
from neulig_fl.study.baseline_rows import NOT_MERGED, Row, Settings, StageRun, close
from neulig_fl.study.coopvec_needs import compared
from neulig_fl.study.merged_predictions import run_models, run_network
from neulig_fl.study.method_inputs import RunSource, collected
from neulig_fl.study.method_requirements import Reach
from neulig_fl.study.method_tuning import accuracy, combinations

Predictions = list[Tensor | None]


def run_methods(run: StageRun, merging: bool) -> None:
    """Compute every merge method's row, with or without its merged side.

    Args:
        run: the stage; its rows are added to, or replaced.
        merging: whether models are merged as well as outputs.
    """
    for entry in compared(run.released.scenario):
        start = time.perf_counter()
        row = Row(entry.name, None, (), variant=entry.variant)
        try:
            _Method(run, entry, row).fill(merging)
        except NotAvailable as reason:
            row.reason = str(reason)
        except _Failed as problem:
            row.failed, row.scores, row.reason = True, [], str(problem)
        close(run, row, start)


@dataclass
class _Method:
    """One method's row in the making.

    Args:
        run: the stage.
        entry: what the scenario says of the method.
        row: what is filled.
    """

    run: StageRun
    entry: MethodEntry
    row: Row
    module: ModuleType = field(init=False)
    options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.module = methods.load(self.entry.name)
        self.options = methods.settings(self.module, self.entry.options)

    @property
    def _needs(self) -> Needs:
        needs: Needs = self.module.NEEDS
        return needs

    @property
    def _reach(self) -> Reach:
        return Reach(self.run.inputs)

    def fill(self, merging: bool) -> None:
        """Compute both sides, as far as they are permitted, and score them.

        Raises:
            NotAvailable: neither side is.
        """
        questions = self.run.released.questions(self.run.stage.group, "evaluation")
        nothing: Predictions = [None] * len(questions)
        merged, not_merged = nothing, NOT_MERGED
        if merging:
            merged, not_merged = self._side(self._merged, nothing)
        ensembled, not_ensembled = self._side(self._ensembled, nothing)
        self._note_settings()
        if merged is nothing and ensembled is nothing:
            raise NotAvailable(not_merged if merging else self._why_neither(not_ensembled))
        reasons = [] if merged is not nothing else [not_merged]
        reasons += [] if ensembled is not nothing else [not_ensembled]
        self.row.scores = [
            TaskScore(
                question.task,
                self.run.released.targets(question),
                merged[i],
                ensembled[i],
                None,
                "; ".join(reasons) or None,
            )
            for i, question in enumerate(questions)
        ]
        self.row.reason = self.run.released.without(self.row.experts)

    def _why_neither(self, not_ensembled: str) -> str:
        """Where nothing is merged, a method without counterpart lacks what its rule needs."""
        if self._needs.outputs:
            return not_ensembled
        return self._reach.unmet(self._needs) or NOT_MERGED

    def _side(
        self, compute: Callable[[], Predictions], nothing: Predictions
    ) -> tuple[Predictions, str]:
        try:
            return compute(), ""
        except NotAvailable as reason:
            return nothing, str(reason)

    # ------------------------------------------------------------ the merged side

    def _merged(self) -> Predictions:
        run, group = self.run, self.run.stage.group
        source = collected(self._reach, self._needs, run.released, run.sums)
        self.row.experts = source.experts
        self._tune(partial(self._pool_score, source))
        self.row.bytes += source.bytes + self._bytes()
        questions = run.released.questions(group, "evaluation")
        title = f"{run.stage.name}: merge, {self.entry.name} {self.entry.variant or ''}".strip()
        return self._predicted(source, questions, title)

    def _predicted(
        self, source: RunSource, questions: Sequence[Questions], title: str
    ) -> Predictions:
        """Classes of some queries by the merged model."""
        released, progress = self.run.released, self.run.progress
        given = Given(source, self._needs, self.entry.name, _steps(progress, f"{title}, steps"))
        with _failing():
            found = self._model(given)
        if isinstance(found, nn.Module):
            return run_network(released, questions, found, progress, title)
        model_of = [0] * len(questions)
        again = getattr(self.module, "RE_ESTIMATES", False)
        return run_models(released, questions, [found], model_of, progress, title, again)

    def _model(self, given: Given) -> dict[str, NDArray[np.float32]] | nn.Module:
        rule = methods.rule(self.module)
        found = rule(given, **methods.arguments(rule, self.options))
        if isinstance(found, nn.Module):
            return found
        return _finite({name: value.numpy() for name, value in found}, self.entry.name)

    def _pool_score(self, source: RunSource) -> float:
        questions = self.run.released.questions_at(self.run.stage.group, "pool", 1.0)
        title = f"{self.run.stage.name}: tune {self.entry.name}"
        targets = [self.run.released.targets(question) for question in questions]
        return accuracy(self._predicted(source, questions, title), targets)

    def _tune(self, score: Callable[[], float]) -> None:
        """Choose the tuned options by accuracy on the labelled pool; of equal ones the first."""
        if not self.entry.tune or self.row.settings is not None:
            return
        tried: list[tuple[Mapping[str, Any], float]] = []
        fixed = self.options
        for chosen in combinations(self.entry.tune):
            self.options = {**fixed, **chosen}
            tried.append((chosen, score()))
        best = max(range(len(tried)), key=lambda at: (tried[at][1], -at))
        self.options = {**fixed, **tried[best][0]}
        self._note_settings(tried)

    def _note_settings(self, tried: Sequence[tuple[Mapping[str, Any], float]] = ()) -> None:
        if self.row.settings is not None:
            return
        extended = getattr(self.module, "extension", lambda entries: None)
        entries = self.run.released.setting.family.entries()
        self.row.settings = Settings(str(self._needs), self.options, tried, extended(entries))

    # ------------------------------------------------------------ the ensemble

    def _ensembled(self) -> Predictions:
        """Classes of the ensemble counterpart, over the experts that are merged.

        Raises:
            NotAvailable: there is none, or not every expert's outputs are known.
        """
        self.row.experts = self._reach.answering(self._needs, self.row.experts)
        self._tune(self._pool_score_of_ensemble)
        released = self.run.released
        self.row.bytes += sum(
            released.bytes.get((self.run.stage.group, released.kind, queries), 0)
            for queries in self._needs.outputs
        )
        found: Predictions = list(self._mixed(self._answers("evaluation")))
        return found

    def _answers(self, queries: str) -> list[Answers]:
        released, group = self.run.released, self.run.stage.group
        questions = released.questions(group, queries)
        outputs = released.stacked(group, queries, self.row.experts)
        diverse = released.setting.scenario.experts.origin == "diverse"
        starts = [None] * len(questions) if diverse else released.outputs_at_start(questions)
        return [
            Answers(question.task, own, start, self._score(question.task))
            for question, own, start in zip(questions, outputs, starts, strict=True)
        ]

    def _score(self, task: str) -> Callable[[Tensor], Tensor]:
        released = self.run.released
        head, columns = released.head_for_outputs(task), released.columns(task)
        return lambda mixed: to_logits(mixed, head, columns)

    def _mixed(self, evaluation: Sequence[Answers]) -> list[Tensor]:
        """Classes of some queries by the ensemble counterpart."""
        pool: Sequence[Answers] = ()
        if "pool" in self._needs.outputs:
            pool = self._answers("pool")
        counterpart = self.module.ensemble
        chosen = methods.arguments(counterpart, self.options)
        with _failing():
            mixed = counterpart(pool, evaluation, **chosen)
        return [a.logits(m).argmax(dim=1) for a, m in zip(evaluation, mixed, strict=True)]

    def _pool_score_of_ensemble(self) -> float:
        released, group = self.run.released, self.run.stage.group
        if not set(self.row.experts) <= set(released.sharing(group, "pool")):
            raise NotAvailable(f"no ensemble: tuning needs {released.kind} of each on pool")
        answers = self._answers("pool")
        targets = [released.targets(q) for q in released.questions(group, "pool")]
        return accuracy(self._mixed(answers), targets)

    def _bytes(self) -> int:
        """Bytes of the single records that the rule reads; a task vector is as good as a model."""
        kinds = {*self._needs.each, *self._needs.sums}
        kinds |= set(MODEL_KINDS) if kinds & set(MODEL_KINDS) else set()
        group, known = self.run.stage.group, self.run.released.bytes
        return sum(known.get((group, kind, None), 0) for kind in sorted(kinds))


def _steps(progress: Progress, title: str) -> Callable[[int, int], None]:
    """What shows the steps of a rule that takes long; no bar before the first step is done."""
    bars: list[Bar] = []

    def show(done: int, total: int) -> None:
        bars[:] = bars or [progress.task(title, total)]
        bars[0].advance(done - bars[0].done)

    return show


class _Failed(Exception):
    """A method was permitted and could not be computed; the text is the report's reason."""


@contextmanager
def _failing() -> Iterator[None]:
    """What a method's own rule raises is the end of its row, not of the run."""
    try:
        yield
    except (InputError, RunError, linalg.LinAlgError) as problem:  # type: ignore[attr-defined]
        raise _Failed(str(problem)) from problem


def _finite(entries: dict[str, NDArray[np.float32]], method: str) -> dict[str, NDArray[np.float32]]:
    """The same entries.

    Raises:
        InputError: some are not finite.
    """
    bad = [name for name, value in entries.items() if not np.isfinite(value).all()]
    if bad:
        raise InputError(f"{method}: {bad[0]} of the merged model is not finite; try other options")
    return entries
