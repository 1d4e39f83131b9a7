"""Merging a network for every sample: milliseconds a sample, beside one model's forward pass.

In one run and in turn: one model's plain forward pass, all experts (the ensemble's cost), batched
merged inference (`batched`), a whole stage, and three other exact ways to merge. The experts differ
from the model by random numbers and the images are random: neither affects the timings.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from neulig_fl.config.scenario import Model, Scenario
from neulig_fl.config.schema import exists, is_path, place
from neulig_fl.core.errors import InputError, nearest
from neulig_fl.core.progress import Progress
from neulig_fl.runtime.engines.local import threads
from neulig_fl.study.bench import Measurement
from neulig_fl.study.bench._interleaved import interleaved
from neulig_fl.study.bench._merge_figures import Found, Run, figures, underscored
from neulig_fl.study.bench._merge_methods import METHODS, SINGLE
from neulig_fl.study.bench._merge_subject import make
from neulig_fl.study.bench._merge_told import tell as tell
from neulig_fl.study.scenario_checks import problems_between

REPEATS = 5
ALL = ("single", *(name for name in METHODS if name not in SINGLE))
SILENT = Progress(lambda event: None)


@dataclass(frozen=True)
class Options:
    """What is measured.

    Args:
        model: its name.
        pretrained: tag, path, or `bundled`; None: `bundled`, or `none` with random weights.
        random_weights: start from random weights, which need no file and no network.
        experts: how many; at least 2.
        batch: samples in a batch.
        seed: of everything random.
        threads: of torch; None leaves them as they are.
        methods: a choice of `ALL`; `single` is always there.
    """

    model: str = "micro-vit"
    pretrained: str | None = None
    random_weights: bool = False
    experts: int = 5
    batch: int = 16
    seed: int = 0
    threads: int | None = None
    methods: tuple[str, ...] = ALL


def measure(repeats: int = REPEATS) -> Measurement:
    """Measure the bundled micro-vit, as one figure among other benchmarks'.

    Args:
        repeats: rounds; the median counts. One more goes before them to warm up.
    """
    return as_measurement(compare(Options(), repeats))


def compare(options: Options, rounds: int = REPEATS, progress: Progress = SILENT) -> Found:
    """Compare the ways to merge, in turn.

    Args:
        options: what is measured.
        rounds: the median of so many counts; one more goes before them to warm up.
        progress: takes progress events.

    Raises:
        InputError: an option that cannot be.
        CheckpointError: the weights cannot be fetched or do not fit the model.
        NotCovered: the engine cannot run the model.
    """
    model, names = checked_model(options), _names(options.methods)
    with threads(options.threads), torch.no_grad():
        subject = make(model, options.experts, options.batch, options.seed, progress)
        samples = {name: METHODS[name].samples(subject) for name in names}
        calls = {name: partial(METHODS[name].call, subject, samples[name]) for name in names}
        bar = progress.task(f"measuring {options.model}", len(calls) * (rounds + 1))
        fragile = frozenset(name for name in names if METHODS[name].may_fail)
        timed = interleaved(calls, rounds, bar.advance, fragile)
        return figures(Run(model, options.seed, subject, samples, timed, rounds))


def as_measurement(found: Found) -> Measurement:
    """One figure: time of batched merged inference over that of the fastest other exact method."""
    rounds, exact = found.details["rounds_ms"], found.max_relative_error
    others = [underscored(n) for n, m in METHODS.items() if m.merges and n != "batched"]
    fastest = [min(each) for each in zip(*(rounds[n] for n in others if n in rounds), strict=True)]
    values = [own / other for own, other in zip(rounds["batched"], fastest, strict=True)]
    figure = statistics.median(values)
    error = {} if exact is None else {"largest relative error": exact}
    return Measurement(
        name="merge",
        what=f"merging {found.model} for every sample, {found.experts} experts",
        figure=figure,
        unit="of the fastest other exact way",
        goal="under 1",
        met=figure < 1.0,
        values=values,
        details={
            "ms a sample, one model": found.single_ms,
            **{f"times one model, {n.replace('_', '-')}": r for n, r in found.ratios.items()},
            **error,
        },
    )


def checked_model(options: Options) -> Model:
    """The scenario's `model` that the options mean, its path absolute.

    Raises:
        InputError: an option that cannot be: too few experts, an unknown model, weights that are
            not there.
    """
    for name, least in (("experts", 2), ("batch", 1)):
        value = getattr(options, name)
        if value < least:
            raise InputError(f"--{name} {value}: too few; allowed: {least} or more")
    if options.random_weights and options.pretrained not in (None, "none"):
        raise InputError(
            f"--pretrained {options.pretrained}: not together with --random-weights; leave one out"
        )
    default = "none" if options.random_weights else "bundled"
    said = {"name": options.model, "pretrained": options.pretrained or default}
    _require_there(said["pretrained"])
    scenario = _scenario(said)
    for problem in problems_between(scenario, Path.cwd()):
        if problem.steps[0] == "model":
            _refuse(str(problem.steps[1]), said, problem.text)
    return scenario.resolved(Path.cwd()).model


def _require_there(pretrained: str) -> None:
    """Relative paths start from the working folder here, and there is no scenario's."""
    full = place(Path.cwd(), pretrained)
    if is_path(pretrained) and not exists(full, "file or folder"):
        raise InputError(
            f"--pretrained {pretrained}: there is no such file or folder; looked for {full}"
        )


def _refuse(key: str, said: dict[str, str], text: str) -> None:
    if key == "name":
        raise InputError(f"--model {said['name']}: {text}")
    raise InputError(f"--pretrained {said['pretrained']}: {text}; or take --random-weights")


def _scenario(model: dict[str, str]) -> Scenario:
    """The least scenario that has this model: a scenario's checks are the ones that hold here."""
    return Scenario.model_validate(
        {
            "name": "bench",
            "model": model,
            "clients": [{"name": name, "task": "digits"} for name in ("one", "other")],
            "stages": [{"name": "none"}],
        }
    )


def _names(methods: Sequence[str]) -> list[str]:
    """What is run, in `METHODS`' order.

    Raises:
        InputError: a method that does not exist.
    """
    for name in methods:
        if name not in ALL:
            raise InputError(f"--methods {name}: no such method; {nearest(name, ALL)}")
    return [name for name in METHODS if name in (*SINGLE, *methods)]
