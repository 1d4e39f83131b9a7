"""From times to figures: what `bench merge` finds, as its JSON has it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from neulig_fl.config.scenario import Model
from neulig_fl.study.baseline_rows import peak_rss_bytes
from neulig_fl.study.bench._interleaved import Timed
from neulig_fl.study.bench._merge_methods import METHODS, SINGLE
from neulig_fl.study.bench._merge_subject import Subject

EXACT = "one-at-a-time"
"""The plainest of the exact ways, against which the others' outputs are held."""

NOT_ASKED = "not asked for"


@dataclass(frozen=True)
class Found:
    """What was found; milliseconds a sample are medians over rounds, None where not measured.

    Args:
        single_ms: one model, the faster of a batch at once and one by one.
        ensemble_ms: every expert on the batch.
        batched_ms: batched merged inference.
        one_at_a_time_ms: mixing and running one network after the other.
        vmap_ms: mixing all networks, then `torch.func.vmap`.
        released_ms: the released code's procedure, for every sample.
        stage_ms: a stage's whole evaluation.
        stage_ratio: that over (experts + 1) forward passes of one model.
        ratio_to_single: `batched_ms` over `single_ms`.
        ratios: every method's milliseconds over `single_ms`.
        max_relative_error: of batched merged inference against one at a time on the whole batch:
            largest difference over largest value.
        peak_rss_bytes: the process's largest resident set, with everything that was measured.
        model: its name.
        experts: how many.
        batch: samples.
        threads: of torch.
        rounds: that counted.
        dtype: of the model.
        random_weights: whether the model's weights are random.
        details: other figures of the same run; `reasons` says why one is null.
    """

    single_ms: float
    ensemble_ms: float | None
    batched_ms: float | None
    one_at_a_time_ms: float | None
    vmap_ms: float | None
    released_ms: float | None
    stage_ms: float | None
    stage_ratio: float | None
    ratio_to_single: float | None
    ratios: dict[str, float]
    max_relative_error: float | None
    peak_rss_bytes: int
    model: str
    experts: int
    batch: int
    threads: int
    rounds: int
    dtype: str
    random_weights: bool
    details: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One comparison, before its figures are worked out.

    Args:
        model: what was measured.
        seed: of everything random.
        subject: the same, opened.
        samples: how many of the batch a call did, by name.
        timed: seconds and outputs of every call.
        rounds: that counted.
    """

    model: Model
    seed: int
    subject: Subject
    samples: Mapping[str, int]
    timed: Timed
    rounds: int

    @cached_property
    def rounds_ms(self) -> dict[str, list[float]]:
        """Milliseconds a sample in every round, by call."""
        return {
            name: [1000.0 * each / self.samples[name] for each in seconds]
            for name, seconds in self.timed.seconds.items()
        }

    @cached_property
    def ms(self) -> dict[str, float]:
        """Milliseconds a sample, by method; `single` is the faster of two."""
        found = {name: statistics.median(each) for name, each in self.rounds_ms.items()}
        return {"single": min(found[name] for name in SINGLE), **found}

    @cached_property
    def errors(self) -> dict[str, float]:
        """Largest differences from one at a time over the largest value, by method that merges."""
        results = self.timed.results
        if EXACT not in results:
            return {}
        return {
            name: relative_error(found, results[EXACT])
            for name, found in results.items()
            if METHODS[name].merges and name != EXACT
        }

    def reasons(self) -> dict[str, str]:
        """Why there is no figure, by key."""
        found = {
            f"{underscored(name)}_ms": self.timed.failed.get(name, NOT_ASKED)
            for name in METHODS
            if name not in self.ms
        }
        if "stage" not in self.ms:
            found["stage_ratio"] = NOT_ASKED
        if "batched" not in self.ms:
            found["ratio_to_single"] = NOT_ASKED
        if "batched" not in self.errors:
            found["max_relative_error"] = f"batched and {EXACT} were not both asked for"
        return found

    def details(self) -> dict[str, Any]:
        """What stands beside the main figures."""
        return {
            "pretrained": self.model.pretrained,
            "seed": self.seed,
            "device": self.subject.inputs.device.type,
            **{f"{underscored(name)}_ms": self.ms[name] for name in SINGLE},
            "samples": by_key(self.samples),
            "rounds_ms": by_key(self.rounds_ms),
            "max_relative_errors": by_key(self.errors),
            "peak_rss_bytes_after": by_key(self.timed.peaks),
            "reasons": self.reasons(),
        }


def figures(run: Run) -> Found:
    """The figures of a comparison."""
    ms, experts = run.ms, len(run.subject.stack.experts)
    ratios = {name: ms[name] / ms["single"] for name in ms if name not in ("single", *SINGLE)}
    stage = ms.get("stage")
    return Found(
        single_ms=ms["single"],
        ensemble_ms=ms.get("ensemble"),
        batched_ms=ms.get("batched"),
        one_at_a_time_ms=ms.get(EXACT),
        vmap_ms=ms.get("vmap"),
        released_ms=ms.get("released"),
        stage_ms=stage,
        stage_ratio=None if stage is None else stage / ((experts + 1) * ms["single"]),
        ratio_to_single=ratios.get("batched"),
        ratios=by_key(ratios),
        max_relative_error=run.errors.get("batched"),
        peak_rss_bytes=peak_rss_bytes(),
        model=run.model.name,
        experts=experts,
        batch=len(run.subject.inputs),
        threads=torch.get_num_threads(),
        rounds=run.rounds,
        dtype=str(next(run.subject.encoder.parameters()).dtype).removeprefix("torch."),
        random_weights=run.model.pretrained == "none",
        details=run.details(),
    )


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Largest difference over largest value, on the samples that both have.

    Example:
        >>> relative_error(torch.tensor([1.0, 2.5]), torch.tensor([1.0, -2.0, 9.0]))
        2.25
    """
    exact = exact[: len(found)]
    return float((found - exact).abs().max() / exact.abs().max())


def underscored(name: str) -> str:
    """A method's name as a key.

    Example:
        >>> underscored("one-at-a-time")
        'one_at_a_time'
    """
    return name.replace("-", "_")


def by_key(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by method's name as values by key."""
    return {underscored(name): value for name, value in values.items()}
