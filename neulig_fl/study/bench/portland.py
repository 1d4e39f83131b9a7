"""Portland's training, samples a second, on features shaped like quickstart's: one thread.

Beside it, in the same run, the least that such a training can be: the same layer, batches and Adam,
but nothing mixed, scored or recorded. Their ratio depends little on the machine.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from neulig_fl.config.scenario import PortlandOptions
from neulig_fl.merging import portland
from neulig_fl.merging.portland import TrainingQueries
from neulig_fl.runtime.engines.local import threads
from neulig_fl.study.bench import Measurement

REPEATS = 7
EXPERTS, DIM, TASKS, CLASSES, QUERIES = 4, 128, 4, 10, 300
GOAL = 50_000
"""Samples a second on one core."""


def measure(repeats: int = REPEATS) -> Measurement:
    """Train Portland, and its bare layer, in turn.

    Args:
        repeats: trainings; the median counts. One more goes before them to warm up.
    """
    queries, options = made_up(), PortlandOptions()
    rates, bare = [], []
    with threads(1):
        for _ in range(repeats + 1):
            rates.append(_rate(queries, options))
            bare.append(_bare_rate(queries, options))
    figure, least = statistics.median(rates[1:]), statistics.median(bare[1:])
    return Measurement(
        name="portland",
        what="training on recorded features, one thread",
        figure=figure,
        unit="samples/s",
        goal=f"over {GOAL:,}",
        met=figure > GOAL,
        values=rates[1:],
        details={"samples/s of the bare layer": least, "times slower than bare": least / figure},
    )


def made_up() -> list[TrainingQueries]:
    """Random features, heads and labels in the shapes of quickstart's group A."""
    generator = torch.Generator().manual_seed(0)

    def task() -> TrainingQueries:
        head = nn.functional.normalize(torch.randn(CLASSES, DIM, generator=generator), dim=1)
        return TrainingQueries(
            outputs=torch.randn(QUERIES, EXPERTS, DIM, generator=generator),
            head=14.0 * head,
            columns=None,
            labels=torch.randint(CLASSES, (QUERIES,), generator=generator),
        )

    return [task() for _ in range(TASKS)]


def _rate(queries: list[TrainingQueries], options: PortlandOptions) -> float:
    offsets = torch.linspace(-1.0, 1.0, EXPERTS)
    names = [f"expert-{i}" for i in range(EXPERTS)]
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    fit = portland.train(queries, offsets, names, options, generator)
    return fit.samples / (time.perf_counter() - start)


def _bare_rate(queries: list[TrainingQueries], options: PortlandOptions) -> float:
    """The same layer on the same batches with the simplest loss."""
    layer = nn.Linear(EXPERTS * DIM, EXPERTS)
    optimiser = torch.optim.Adam(layer.parameters(), lr=options.lr)
    generator = torch.Generator().manual_seed(0)
    sizes = [len(task.outputs) for task in queries]
    start, samples = time.perf_counter(), 0
    for _ in range(options.epochs):
        for index, rows in portland.batches(sizes, options.batch_size, generator):
            loss = layer(queries[index].outputs[rows].flatten(1)).square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            samples += len(rows)
    return samples / (time.perf_counter() - start)
