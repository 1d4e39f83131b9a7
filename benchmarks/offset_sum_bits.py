"""What the offset sum tells of a checkpoint, and what the alignment term needs of it, bit by bit.

    python benchmarks/offset_sum_bits.py

Who knows some candidate checkpoints, and sees one rounded offset sum, names those that round to it.
The candidates' sums are drawn from the normal distribution that has the mean and the standard
deviation of the scenario's own experts' sums. Beside it: how wrong the standardised sums xi* get,
and how accurate the scenario is, with the same bits. Experts come from the cache where they were
trained before. Writes benchmarks/results/offset-sum.json, which the docs quote
(benchmarks/quotes.py); progress goes to the standard error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from reproduction.data import laid_out

from neulig_fl.cli import exits
from neulig_fl.client import experts
from neulig_fl.core.errors import NeuligError
from neulig_fl.core.files import write_atomically
from neulig_fl.records import offset_sum
from neulig_fl.records.offset_sum import SIGNIFICANT_BITS, entry_sum, rounded
from neulig_fl.records.release_plan import open_setting
from neulig_fl.study import runs
from neulig_fl.study.checking import load

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_name("results") / "offset-sum.json"
GROUP = "A"
CANDIDATES = (10, 100, 1000)
BITS = (3, 5, 7, SIGNIFICANT_BITS)
DRAWS = 2000
STAGE = "merging"


def differences(path: Path, seeds: Sequence[int]) -> dict[int, list[float]]:
    """Each seed's experts' entry sums less theta_0's, in the order of the clients."""
    found = {}
    for seed in seeds:
        one = load(path).model_copy(update={"seed": seed, "seeds": None}).resolved(path.parent)
        setting = open_setting(one, seed)
        start = _sum(setting.family.encoder())
        found[seed] = []
        for client in one.clients:
            exits.say(f"seed {seed}: the expert of {client.name}")
            task = setting.tasks[client.task]
            encoder, _ = experts.obtain(one, client, GROUP, setting.family, task, seed)
            found[seed].append(_sum(encoder) - start)
    return found


def _sum(encoder: torch.nn.Module) -> float:
    state = encoder.state_dict()
    return entry_sum({k: v.numpy() for k, v in state.items() if v.is_floating_point()})


def named(
    own: NDArray[np.float64], candidates: int, bits: int, draws: int, rng: np.random.Generator
) -> float:
    """How often who sees a rounded sum names the right one of some candidates, in percent.

    Of several that round to the same, one is guessed.

    Args:
        own: sums that the candidates' are like.
        candidates: how many there are, the right one included.
        bits: of the rounding.
        draws: how often it is tried.
        rng: draws the candidates.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> named(np.array([-1.0, 1.0]), 2, 40, 100, rng), named(np.array([1.0, 1.0]), 2, 9, 9, rng)
        (100.0, 50.0)
    """
    drawn = rng.normal(own.mean(), own.std(ddof=1), size=(draws, candidates))
    told = all_rounded(drawn, bits)
    alike = (told == told[:, :1]).sum(axis=1)
    return float(100.0 * (1.0 / alike).mean())


def all_rounded(values: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """`offset_sum.rounded` of each number of an array, at once."""
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits))


def error(sums: Sequence[float], bits: int) -> float:
    """The largest change of a standardised sum by rounding.

    Example:
        >>> error([1.0, 2.0, 4.0], 9)
        0.0
    """
    exact, sent = np.array(sums), np.array([rounded(each, bits=bits) for each in sums])
    return float(np.abs(_standardised(exact) - _standardised(sent)).max())


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values - values.mean()) / values.std(ddof=1))


def accuracy(path: Path, seed: int, bits: int, queries: int) -> dict[str, float]:
    """NeuLig's averages where the sums that leave have so many bits, in percent."""
    exits.say(f"seed {seed}: the scenario with {bits} bits")
    few = [f"queries.pool={queries}", f"queries.evaluation={queries}", f"seed={seed}", "seeds=null"]
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(offset_sum, "rounded", partial(rounded, bits=bits)),
    ):
        report = runs.run(path, "local", Path(folder) / "run", few)
    average = report.result(STAGE, "neulig")["average"]
    return {name: average[f"{name}_accuracy"] for name in ("merge", "ensemble")}


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Everything."""
    sums = differences(asked.scenario, asked.seed)
    own = np.array([each for of_seed in sums.values() for each in of_seed])
    rng = np.random.default_rng(asked.seed[0])
    found = []
    for bits in BITS:
        exits.say(f"{bits} bits")
        tried = {str(n): named(own, n, bits, asked.draws, rng) for n in CANDIDATES}
        found.append(
            {
                "bits": bits,
                "named": tried,
                "error": max(error(of_seed, bits) for of_seed in sums.values()),
                "accuracy": accuracy(asked.scenario, asked.seed[0], bits, asked.queries),
            }
        )
    return {
        "schema_version": 1,
        "scenario": load(asked.scenario).name,
        "seeds": list(sums),
        "queries": asked.queries,
        "sums": {"mean": float(own.mean()), "sd": float(own.std(ddof=1)), "experts": len(own)},
        "bits": found,
    }


def asked_for(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    quickstart = ROOT / "scenarios" / "quickstart.yaml"
    add("--scenario", type=Path, default=quickstart, help="whose experts")
    add(
        "--seed",
        type=int,
        nargs="+",
        default=[7, 8, 9],
        help="of their training; accuracy is that of the first",
    )
    add("--draws", type=int, default=DRAWS, help="of candidates, for each figure")
    add("--queries", type=int, default=100, help="of each task's pool and evaluation set")
    add("--out", type=Path, default=FILE, help="the file to write")
    return parser.parse_args(arguments)


def main(asked: argparse.Namespace) -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    found: Mapping[str, Any] = measured(asked)
    text = laid_out(found) + "\n"
    write_atomically(asked.out, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    try:
        main(asked_for())
    except NeuligError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
