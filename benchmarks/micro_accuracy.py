"""How good the bundled models and their experts are on every offline task: the accuracy card.

    python benchmarks/micro_accuracy.py --seed 0 1 2 --processes 2

For each model and task: the checkpoint as it is (zero-shot), an expert fine-tuned from it (shared
origin) and one trained from scratch (diverse), each on train-A and measured on all evaluation
images. Experts come from the usual cache, so an interrupted measurement goes on where it stopped.
Markdown goes to the standard output, progress to the standard error; the card is written after
every task.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from pydantic import ValidationError

from neulig_fl.cli import exits
from neulig_fl.cli.inventory import listed_tasks
from neulig_fl.client import experts
from neulig_fl.config.scenario import MICRO_MODELS, Experts, Model, Scenario
from neulig_fl.core.errors import InputError, NeuligError, nearest
from neulig_fl.core.live import Live
from neulig_fl.data.sources import opened, source_hash
from neulig_fl.models import accuracy_card
from neulig_fl.models.accuracy_card import Card, Measured, Training, mean
from neulig_fl.models.families import open_family

ORIGINS = ("shared", "diverse")
ZERO_SHOT = "zero-shot"
CLIENT = "measured"
"""Whose experts these are; a part of their name in the cache."""

Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """One accuracy to measure: of the checkpoint, or of an expert that may have to be trained."""

    model: str
    task: str
    seed: int
    what: str
    options: Experts

    @property
    def name(self) -> str:
        """What the progress says."""
        return f"{self.model} {self.task} seed {self.seed} {self.what}"


@dataclass(frozen=True)
class Done:
    """What a job found.

    Args:
        accuracy: per cent.
        n_eval: evaluation images.
        seconds: of the training; None where nothing was trained.
    """

    accuracy: float
    n_eval: int
    seconds: float | None


def measure(job: Job, show: Show = lambda done, total: None) -> Done:
    """Do one job; training calls `show` with (steps done, all steps)."""
    task = opened(job.task, None, job.seed)
    family = open_family(Model(name=job.model), job.seed)
    queries, seconds = task.indices("evaluation"), None
    if job.what == ZERO_SHOT:
        encoder = family.encoder()
    else:
        scenario = _scenario(job)
        start = time.perf_counter()
        encoder, trained = experts.obtain(
            scenario, scenario.clients[0], "A", family, task, job.seed, show
        )
        seconds = time.perf_counter() - start if trained else None
    return Done(experts.accuracy(encoder, task, queries, family), len(queries), seconds)


def _scenario(job: Job) -> Scenario:
    """A scenario whose first client has the expert; a scenario needs two."""
    return Scenario.model_validate(
        {
            "name": "micro-accuracy",
            "seed": job.seed,
            "model": {"name": job.model},
            "clients": [{"name": name, "task": job.task} for name in (CLIENT, "other")],
            "experts": job.options,
            "stages": [{"name": "none"}],
        }
    )


def measured(asked: argparse.Namespace, model: str, task: str, run: Runner, card: Card) -> Measured:
    """Every figure of one model on one task; seconds of experts from the cache are the card's."""
    source = opened(task, None, asked.seed[0]).source
    data = source_hash(source)
    before = card.find(model, accuracy_card.bundled_weights(model) or "", task, data)
    zero = [run(_job(asked, model, task, seed, ZERO_SHOT)) for seed in asked.seed]
    found = {
        origin: _training(
            _options(asked, origin),
            [run(_job(asked, model, task, seed, origin)) for seed in asked.seed],
            getattr(before, origin, None) if before and before.seeds == asked.seed else None,
        )
        for origin in origins(asked)
    }
    return Measured(
        data=data,
        classes=len(source.class_names),
        seeds=asked.seed,
        n_eval=[each.n_eval for each in zero],
        zero_shot=[_rounded(each.accuracy) for each in zero],
        shared=found["shared"],
        diverse=found.get("diverse"),
    )


def _training(options: Experts, done: Sequence[Done], before: Training | None) -> Training:
    found = Training(
        epochs=options.epochs,
        lr=options.lr,
        batch_size=options.batch_size,
        weight_decay=options.weight_decay,
        accuracy=[_rounded(each.accuracy) for each in done],
        seconds=[None if d.seconds is None else round(d.seconds, 1) for d in done],
    )
    if before is None or before.model_copy(update={"seconds": found.seconds}) != found:
        return found
    pairs = zip(found.seconds, before.seconds, strict=True)
    return found.model_copy(update={"seconds": [old if new is None else new for new, old in pairs]})


def _rounded(accuracy: float) -> float:
    """Enough digits to count the images with, even in float32."""
    return round(accuracy, 4)


class Runner:
    """Does jobs: at once in this process, or ahead of time in several.

    Args:
        jobs: all that will be asked for, in this order.
        processes: how many to use.
        live: shows progress.
    """

    def __init__(self, jobs: Sequence[Job], processes: int, live: Live) -> None:
        self._live = live
        self._pool: ProcessPoolExecutor | None = None
        self._ahead: dict[str, Future[Done]] = {}
        if processes > 1:
            spawn = get_context("spawn")
            self._pool = ProcessPoolExecutor(
                processes, mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,)
            )
            self._ahead = {job.name: self._pool.submit(measure, job) for job in jobs}

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __call__(self, job: Job) -> Done:
        """Wait for one job, or do it now."""
        if job.name in self._ahead:
            done = self._ahead[job.name].result()
        else:
            done = measure(
                job, lambda at, of: self._live({"task": job.name, "done": at, "total": of})
            )
        took = "" if done.seconds is None else f" ({done.seconds:.0f} s of training)"
        self._live({"note": f"{job.name}: {done.accuracy:.2f} %{took}"})
        return done


def _job(asked: argparse.Namespace, model: str, task: str, seed: int, what: str) -> Job:
    return Job(model, task, seed, what, _options(asked, "shared" if what == ZERO_SHOT else what))


def _options(asked: argparse.Namespace, origin: str) -> Experts:
    shared = origin == "shared"
    return Experts.model_validate(
        {
            "origin": origin,
            "epochs": asked.epochs_shared if shared else asked.epochs_diverse,
            "lr": asked.lr if shared or asked.lr_diverse is None else asked.lr_diverse,
            "batch_size": asked.batch_size,
        }
    )


def origins(asked: argparse.Namespace) -> tuple[str, ...]:
    """The origins that are asked for."""
    return ORIGINS[:1] if asked.skip_diverse else ORIGINS


def all_jobs(asked: argparse.Namespace, tasks: Sequence[str]) -> list[Job]:
    """Every job, in the order in which the table wants them.

    Raises:
        InputError: a seed or a setting that no scenario could have.
    """
    try:
        jobs = [
            _job(asked, model, task, seed, what)
            for model in asked.models
            for task in tasks
            for what in (ZERO_SHOT, *origins(asked))
            for seed in asked.seed
        ]
        for job in jobs:
            _scenario(job)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][-1]} {first['input']}: {first['msg']}") from error
    return jobs


def offline_tasks(wanted: Sequence[str] | None, live: Live) -> list[str]:
    """The tasks to measure; those whose files are not here are left out, unless asked for.

    Raises:
        InputError: a wanted task does not exist, or its files are not here.
    """
    there = {each.name: each for each in listed_tasks(0)}
    for name in wanted or ():
        if name not in there:
            raise InputError(f"--tasks {name}: no such task; {nearest(name, there)}")
        if there[name].task is None:
            raise InputError(f"--tasks {name}: its images are not here. {there[name].missing}")
    for each in there.values():
        if each.task is None:
            live({"note": f"{each.name} is left out: its images are not here. {each.missing}"})
    return [name for name in (wanted or there) if there[name].task is not None]


def say(text: str) -> None:
    """A line of the table, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def row(name: str, found: Measured) -> str:
    """One task as a line of Markdown: the mean over the seeds, and each where there are several."""
    cells = [name, str(found.classes), f"{found.chance:.1f}", _cell(found.zero_shot)]
    for training in (found.shared, found.diverse):
        cells.append(_cell(training.accuracy) if training else "-")
    cells.append(f"{mean(found.n_eval):.0f}")
    for training in (found.shared, found.diverse):
        known = [s for s in training.seconds if s is not None] if training else []
        cells.append(f"{mean(known):.0f}" if known else "-")
    return f"| {' | '.join(cells)} |"


def _cell(values: Sequence[float]) -> str:
    each = f" ({', '.join(f'{v:.1f}' for v in values)})" if len(values) > 1 else ""
    return f"{mean(values):.2f}{each}"


HEAD = (
    "| task | classes | chance | zero-shot | expert | scratch | images | s/expert | s/scratch |",
    "| :-- | --: | --: | --: | --: | --: | --: | --: | --: |",
)


def summary(found: dict[str, Measured]) -> Iterator[str]:
    """The last row of a model's table, and which goals hold."""
    over = accuracy_card.means(list(found.values()))
    if over is None:
        return
    scratch = "-" if over.scratch is None else f"{over.scratch:.2f}"
    yield f"| mean | | | {over.zero_shot:.2f} | {over.expert:.2f} | {scratch} | | | |"
    yield f"\nExpert mean minus zero-shot mean: {over.expert - over.zero_shot:.2f} points.\n"
    words = {True: "holds", False: "FAILS", None: "unknown"}
    for goal in accuracy_card.goals(found):
        yield f"- {words[goal.holds]}: {goal.words} ({goal.found})"


def asked_for(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", type=int, nargs="+", default=[0], help="of splits and training")
    add("--models", nargs="+", choices=MICRO_MODELS, default=list(MICRO_MODELS), help="which")
    add("--tasks", nargs="+", help="which; all offline tasks if not given")
    add("--epochs-shared", type=int, default=8, help="of fine-tuning")
    add("--epochs-diverse", type=int, default=40, help="of training from scratch")
    add("--lr", type=float, default=1e-3, help="AdamW's largest learning rate")
    add("--lr-diverse", type=float, help="the same from scratch; --lr if not given")
    add("--batch-size", type=int, default=32, help="images in a step")
    add("--skip-diverse", action="store_true", help="train nothing from scratch")
    add("--processes", type=int, default=1, help="jobs at a time, one thread each")
    add("--out", type=Path, default=accuracy_card.FILE, help="the card to write")
    asked = parser.parse_args(arguments)
    for name in ("seed", "models", "tasks"):
        setattr(asked, name, getattr(asked, name) and list(dict.fromkeys(getattr(asked, name))))
    return asked


def main(asked: argparse.Namespace) -> None:
    """Measure, print the tables, write the card.

    Raises:
        NeuligError: a task or a setting that cannot be, or a training that failed.
    """
    torch.set_num_threads(1)
    card = accuracy_card.read(asked.out)
    with ExitStack() as stack:
        live = stack.enter_context(Live())
        tasks = offline_tasks(asked.tasks, live)
        jobs = all_jobs(asked, tasks)
        run = stack.enter_context(Runner(jobs, asked.processes, live))
        for model in asked.models:
            weights = accuracy_card.bundled_weights(model) or ""
            say(f"\n## {model}, weights {weights[:12]}, seeds {asked.seed}\n")
            say("\n".join(HEAD))
            found = {}
            for task in tasks:
                found[task] = measured(asked, model, task, run, card)
                card = card.with_measured(model, weights, task, found[task])
                accuracy_card.write(card, asked.out)
                say(row(task, found[task]))
            for line in summary(found):
                say(line)


if __name__ == "__main__":
    try:
        main(asked_for())
    except NeuligError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
