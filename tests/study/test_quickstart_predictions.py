"""The quickstart's predictions do not depend on how its merged models are run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from neulig_fl.merging.inference import Merging, merged_outputs
from neulig_fl.models.outputs import classify
from neulig_fl.study import merged_predictions, runs

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
TIE = 1e-5
"""Two largest logits that differ by less, relative to the largest, are a tie."""


class Compared:
    """Every evaluation query of a run, merged in batches and one at a time."""

    def __init__(self) -> None:
        self.rows = self.changed = self.ties = 0
        self.largest_error = 0.0

    def outputs(self, *arguments: Any, merging: Merging, **options: Any) -> Tensor:
        """In the place of `merged_outputs`: both ways; the run goes on with batched inference's."""
        found = merged_outputs(*arguments, merging=merging, **options)
        plain = replace(merging, method="one-at-a-time")
        self.exact = merged_outputs(*arguments, merging=plain, **options)
        change = float((found - self.exact).abs().max() / self.exact.abs().max())
        self.largest_error = max(self.largest_error, change)
        return found

    def classes(self, job: merged_predictions._Job, outputs: Tensor) -> list[Tensor]:
        """In the place of `_Job.classes`: count what changes, apart from ties."""
        sizes = [len(question.labels) for question in job.questions]
        found = []
        parts = zip(job.questions, outputs.split(sizes), self.exact.split(sizes), strict=True)
        for question, own, exact in parts:
            head = job.released.head(question.task)
            logits = classify(exact, head)
            found.append(classify(own, head).argmax(dim=1))
            first, second = logits.topk(2, dim=1).values.T
            changed = found[-1] != logits.argmax(dim=1)
            tie = (first - second).abs() <= TIE * first.abs()
            self.rows += len(changed)
            self.ties += int(tie.sum())
            self.changed += int((changed & ~tie).sum())
        return found


@pytest.mark.slow
def test_the_quickstart_has_the_predictions_of_merging_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the paper's figures would rest on how we compute them."""
    seen = Compared()
    monkeypatch.setattr(merged_predictions, "merged_outputs", seen.outputs)
    monkeypatch.setattr(
        merged_predictions._Job, "classes", lambda job, outputs: seen.classes(job, outputs)
    )
    few = ("experts.epochs=1", "queries.evaluation=20", "queries.pool=100", "portland.epochs=5")
    runs.run(QUICKSTART, engine="local", out=tmp_path / "out", overrides=few)
    assert seen.rows >= 5 * 20 * 8, "a row of the report did not come by"
    assert seen.changed == 0, f"of {seen.rows}, {seen.ties} of them ties"
    assert seen.ties <= seen.rows // 100
    assert 0.0 < seen.largest_error <= 1e-4
