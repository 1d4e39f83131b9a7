"""How far apart a scenario's experts are: task vectors, TIES' places, distances, second order.

    python benchmarks/task_vectors.py

Takes the quickstart's experts of group A, from the cache where they were trained before, for three
seeds. Writes benchmarks/results/task-vectors.json, which the docs quote (benchmarks/quotes.py);
progress goes to the standard error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from reproduction.data import laid_out
from torch import Tensor

from neulig_fl.cli import exits
from neulig_fl.client import experts
from neulig_fl.core.errors import NeuligError
from neulig_fl.core.files import write_atomically
from neulig_fl.merging.inference import ExpertStack, merged_outputs
from neulig_fl.merging.methods import StateDicts, merged
from neulig_fl.records.release_plan import Setting, open_setting
from neulig_fl.study.checking import load

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_name("results") / "task-vectors.json"
GROUP = "A"
LAMBDA, DENSITY = 0.3, 0.2
HALVINGS = 6
QUERIES, TASK = 100, "glyphs"
StateDict = dict[str, Tensor]


def flat(state: Mapping[str, Tensor]) -> Tensor:
    """All entries as one float64 vector."""
    return torch.cat([entry.double().flatten() for entry in state.values()])


def obtained(setting: Setting, seed: int) -> tuple[StateDict, dict[str, StateDict]]:
    """theta_0, and each client's expert, trained now where the cache has none."""
    family, names = setting.family, setting.family.entries()
    start = {k: v for k, v in family.encoder().state_dict().items() if k in names}
    found = {}
    for client in setting.scenario.clients:
        exits.say(f"seed {seed}: the expert of {client.name}")
        task = setting.tasks[client.task]
        encoder, _ = experts.obtain(setting.scenario, client, GROUP, family, task, seed)
        found[client.name] = {k: v for k, v in encoder.state_dict().items() if k in names}
    return start, found


def geometry(start: StateDict, tuned: Mapping[str, StateDict]) -> dict[str, float]:
    """Cosines and lengths of task vectors; lengths over the mean length of one."""
    origin = flat(start)
    vectors = torch.stack([flat(state) - origin for state in tuned.values()])
    lengths = vectors.norm(dim=1)
    unit = vectors / lengths[:, None]
    cosines = torch.stack([one @ other for one, other in combinations(unit, 2)])

    def length(method: str, **options: float) -> float:
        found = merged(method, StateDicts(tuned, checkpoint=start), **options)
        return float((flat(found) - origin).norm() / lengths.mean())

    return {
        "cosine_mean": float(cosines.mean()),
        "cosine_largest": float(cosines.max()),
        "mean_length": float(vectors.mean(dim=0).norm() / lengths.mean()),
        "task_arithmetic_length": length("task-arithmetic", **{"lambda": LAMBDA}),
        "ties_length": length("ties", density=DENSITY),
        "ties_places_of_one": places_of_one(vectors),
    }


def places_of_one(vectors: Tensor, density: float = DENSITY) -> float:
    """Of the places that TIES moves, the share at which one client's number alone is kept.

    Args:
        vectors: task vectors, (experts, entries).
        density: share of each that is kept.

    Example:
        >>> places_of_one(torch.tensor([[3.0, 2.0, 0.1, 0.1], [2.0, 0.1, 4.0, 0.1]]), 0.5)
        0.6666666666666666
    """
    kept = max(1, round(density * vectors.shape[1]))
    least = vectors.abs().topk(kept, dim=1).values[:, -1:]
    trimmed = torch.where(vectors.abs() >= least, vectors, 0.0)
    sign = trimmed.sum(dim=0).sign()
    agreeing = (trimmed * sign > 0).sum(dim=0)
    return float((agreeing == 1).sum() / (agreeing > 0).sum())


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """||a - b|| / ||(a + b) / 2|| over all entries, as `neulig-fl inspect` has it.

    Example:
        >>> distance({"a": torch.tensor([3.0, 0.0])}, {"a": torch.tensor([0.0, 3.0])})
        2.0
    """
    a, b = flat(one), flat(other)
    return float((a - b).norm() / ((a + b) / 2).norm())


def distances(setting: Setting, seed: int, start: StateDict, tuned: Mapping[str, StateDict]) -> Any:
    """Smallest and largest distance among experts, and from them and a fresh start to theta_0."""
    fresh = setting.family.fresh_encoder(seed).state_dict()
    return {
        "experts": _ends([distance(a, b) for a, b in combinations(tuned.values(), 2)]),
        "to_start": _ends([distance(start, each) for each in tuned.values()]),
        "fresh_to_start": distance(start, {k: fresh[k] for k in start}),
    }


def _ends(values: Sequence[float]) -> list[float]:
    return [min(values), max(values)]


def second_order(setting: Setting, start: StateDict, tuned: Mapping[str, StateDict]) -> Any:
    """Relative difference of ensembled and merged features, as the offsets are halved.

    The snippet in docs/method.md computes the same.
    """
    family, names = setting.family, tuple(tuned)
    task = setting.tasks[TASK]
    images = family.normalise(task.pixels(task.indices("evaluation", QUERIES), family.image_size))

    def difference(scale: float, beta: Tensor) -> float:
        stack = ExpertStack(family.entries(), names)
        for name, state in tuned.items():
            stack.put(name, {k: v + scale * (state[k] - v) for k, v in start.items()})

        def outputs(weights: Tensor) -> Tensor:
            rows = weights.expand(len(images), -1)
            return merged_outputs(family.encoder(), stack, rows, lambda at: images[at])

        alone = torch.stack([outputs(weights) for weights in torch.eye(len(names))])
        ensemble = torch.einsum("t,tqd->qd", beta, alone)
        return float((ensemble - outputs(beta)).norm(dim=1).mean() / ensemble.norm(dim=1).mean())

    count = len(names)
    betas = {
        "uniform": torch.full((count,), 1 / count),
        "uneven": torch.tensor([0.7] + [0.3 / (count - 1)] * (count - 1)),
    }
    return {
        name: [difference(2.0**-k, beta) for k in range(HALVINGS)] for name, beta in betas.items()
    }


@torch.no_grad()
def measured(path: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Everything, seed by seed; the second order for the scenario's own seed."""
    said = load(path)
    found: dict[str, Any] = {"schema_version": 1, "scenario": said.name, "seeds": []}
    for seed in seeds:
        one = said.model_copy(update={"seed": seed, "seeds": None}).resolved(path.parent)
        setting = open_setting(one, seed)
        start, tuned = obtained(setting, seed)
        apart = distances(setting, seed, start, tuned)
        found["seeds"].append({"seed": seed, **geometry(start, tuned), "distances": apart})
        if seed == said.seed:
            found["second_order"] = {"seed": seed, **second_order(setting, start, tuned)}
    return found


def asked_for(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    quickstart = ROOT / "scenarios" / "quickstart.yaml"
    add("--scenario", type=Path, default=quickstart, help="whose experts")
    add("--seed", type=int, nargs="+", default=[7, 8, 9], help="of their training")
    add("--out", type=Path, default=FILE, help="the file to write")
    return parser.parse_args(arguments)


def main(asked: argparse.Namespace) -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    found = laid_out(measured(asked.scenario, asked.seed)) + "\n"
    write_atomically(asked.out, found)
    sys.stdout.write(found)


if __name__ == "__main__":
    try:
        main(asked_for())
    except NeuligError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
