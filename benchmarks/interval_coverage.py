"""How often the intervals of gaps hold the truth, and how often a gap of the margin passes as none.

    python benchmarks/interval_coverage.py

Counts are drawn for tasks whose true probabilities are known, and `score_interval` is asked at the
truth: for one task over all counts there can be, for several over many draws. The figures are
written to benchmarks/results/interval-coverage.json, and the tables made from them take the place
of the last ones in docs/method.md. Progress goes to the standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.special import ndtri
from scipy.stats import binom

from neulig_fl.cli import exits
from neulig_fl.core.errors import NeuligError
from neulig_fl.core.files import write_atomically
from neulig_fl.metrics.evaluation import MARGIN_PP
from neulig_fl.metrics.intervals import ALLOWANCE, Counts, mean_moments, tilted

DATA = Path(__file__).with_name("results") / "interval-coverage.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "method.md"
BEGIN, END = "<!-- coverage -->\n", "<!-- end of coverage -->"
MARGIN = MARGIN_PP / 100.0
Z95, Z90 = float(ndtri(0.975)), float(ndtri(0.95))
SHARES = (0.001, 0.003, 0.01, 0.0125, 0.015, 0.02, 0.05, 0.1, 0.2)
TASKS, QUERIES = (1, 2, 3, 5, 7), (100, 200, 300, 500, 1000)
UNEQUAL = (100, 1000, 300, 700, 150, 500, 200)
"""Queries of the first tasks, where they are unequal."""

LEAST, MOST = 93.5, 97.0
"""Between these a coverage of 95 % is meant to lie, percent."""

NUMBERS = (0, 3, 10, 30, 100, 2000)
"""Bounds of the effective number of discordant queries, for the rows of a table."""


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Args:
        sizes: queries of each task.
        share: of the queries that are discordant, mean over tasks.
        gap: true mean difference, as a fraction.
        in_one: whether the first task alone has discordant queries; else all alike.
    """

    sizes: tuple[int, ...]
    share: float
    gap: float
    in_one: bool

    def probabilities(self) -> tuple[Counts, Counts]:
        """Of each task: only the first model is right, only the second is."""
        of_task = np.ones(len(self.sizes))
        if self.in_one:
            of_task = np.zeros(len(self.sizes))
            of_task[0] = len(self.sizes)
        return of_task * (self.share + self.gap) / 2.0, of_task * (self.share - self.gap) / 2.0

    @property
    def effective(self) -> float:
        """Effective number of discordant queries.

        A discordant query of task t moves the mean by h_t = 1 / (T n_t); m_t of them are expected.
        The number is (sum_t m_t h_t^2)^3 / (sum_t m_t h_t^3)^2: all of them where the tasks are
        equal, little more than those of a small task that moves the mean most.
        """
        p, q = self.probabilities()
        n = np.array(self.sizes, dtype=np.float64)
        m, h = (p + q) * n, 1.0 / n
        return float((m * h**2).sum() ** 3 / (m * h**3).sum() ** 2)


def grid(shares: Sequence[float], tasks: Sequence[int], queries: Sequence[int]) -> Iterator[Cell]:
    """Every cell: gaps of 0 and of the margin, equal and unequal tasks, alike and in one."""
    for count in tasks:
        layouts = [(each,) * count for each in queries]
        layouts += [UNEQUAL[:count]] if count > 1 else []
        for sizes, share, gap, in_one in product(layouts, shares, (0.0, MARGIN), (False, True)):
            if gap <= share and not (in_one and (count == 1 or share * count > 0.5)):
                yield Cell(sizes, share, gap, in_one)


def counts(cell: Cell, draws: int, seed: int) -> tuple[Counts, Counts, Counts]:
    """Different b and c, (rows, tasks), and the probability of each row."""
    if len(cell.sizes) == 1:
        return _all_counts(cell)
    generator = np.random.default_rng([seed, *cell.sizes, round(cell.share * 1e6), cell.in_one])
    columns = []
    for n, p, q in zip(cell.sizes, *cell.probabilities(), strict=True):
        columns.append(generator.multinomial(n, [p, q, 1.0 - p - q], size=draws)[:, :2])
    rows, times = np.unique(
        np.stack(columns, axis=1).reshape(draws, -1), axis=0, return_counts=True
    )
    split = rows.reshape(len(rows), -1, 2).astype(np.float64)
    return split[..., 0], split[..., 1], times / draws


def _all_counts(cell: Cell) -> tuple[Counts, Counts, Counts]:
    """Every b and c of one task that are not beyond belief."""
    (n,), (p,), (q,) = cell.sizes, *cell.probabilities()
    m = np.arange(n + 1)
    m = m[binom.pmf(m, n, p + q) > 1e-9]
    b = np.concatenate([np.arange(each + 1) for each in m])
    both = np.repeat(m, m + 1)
    weight = binom.pmf(both, n, p + q) * binom.pmf(b, both, p / (p + q))
    kept = weight > 1e-10
    b, c = b[kept, None].astype(np.float64), (both - b)[kept, None].astype(np.float64)
    return b, c, weight[kept] / weight[kept].sum()


def below(b: Counts, c: Counts, n: Counts, d: float, z: float) -> NDArray[np.bool_]:
    """Which rows' lower end is above d.

    A multiplier that holds the mean difference at d or above it, and is too much for the interval,
    decides for yes; one that holds it below d, and is not, decides for no.
    """
    found = np.zeros(len(b), dtype=bool)
    open_rows = np.flatnonzero(((b - c) / n).mean(axis=1) > d)
    low, high = np.zeros(len(b)), np.full(len(b), np.inf)
    spread = ((b + c + 1.0) / n**2).sum(axis=1) / n.shape[0] ** 2
    at = z / np.sqrt(spread)
    for _ in range(60):
        if not len(open_rows):
            break
        tried = at[open_rows]
        mean, variance, skewness = mean_moments(*tilted(b[open_rows], c[open_rows], n, tried), n)
        over = tried * np.sqrt(variance) > z + ALLOWANCE * np.abs(skewness)
        above = mean >= d
        found[open_rows] = above & over
        low[open_rows] = np.where(above, tried, low[open_rows])
        high[open_rows] = np.where(above, high[open_rows], tried)
        open_rows = open_rows[above != over]
        ends = low[open_rows], high[open_rows]
        at[open_rows] = np.where(np.isinf(ends[1]), 2.0 * ends[0] + 1.0, (ends[0] + ends[1]) / 2.0)
    return found


def figures(cell: Cell, draws: int, seed: int) -> dict[str, Any]:
    """The cell with its coverage, and with how often it is called equivalent at the margin."""
    b, c, weight = counts(cell, draws, seed)
    n = np.array(cell.sizes, dtype=np.float64)
    missed = below(b, c, n, cell.gap, Z95) | below(c, b, n, -cell.gap, Z95)
    covered = round(100.0 * float(weight[~missed].sum()), 3)
    found = {**asdict(cell), "coverage": covered, "equivalent": None}
    if cell.gap > 0.0:
        passed = below(c, b, n, -MARGIN, Z90)
        inside = below(b[passed], c[passed], n, -MARGIN, Z90)
        found["equivalent"] = round(100.0 * float(weight[passed][inside].sum()), 3)
    return found


# ---------------------------------------------------------------- tables


def tables(data: dict[str, Any]) -> str:
    """Both tables and a sentence about what lies outside, in Markdown."""
    cells = data["cells"]
    by_share = [
        (f"{100 * share:g} %", [each for each in cells if each["share"] == share])
        for share in dict.fromkeys(each["share"] for each in cells)
    ]
    by_number = [
        (f"{low} to {high}", [each for each in cells if low <= effective(each) < high])
        for low, high in pairwise(NUMBERS)
    ]
    return "\n".join(
        [
            *table("discordant queries, share", by_share),
            "",
            *table("discordant queries, effective number", by_number),
            "",
            *outside(cells),
            "",
        ]
    )


def effective(each: Mapping[str, Any]) -> float:
    """The effective number of discordant queries of a cell."""
    return Cell(tuple(each["sizes"]), each["share"], each["gap"], each["in_one"]).effective


def table(head: str, rows: Sequence[tuple[str, list[dict[str, Any]]]]) -> Iterator[str]:
    """Lowest and highest coverage of each row's cells, and the highest rate of error."""
    names = [head, "cells", "coverage, gap 0", "coverage, gap 1 point"]
    names += [f"cells within {LEAST:g} to {MOST:g} %", "false `equivalent`, at most"]
    yield f"| {' | '.join(names)} |"
    yield f"| :-- |{' --: |' * (len(names) - 1)}"
    for name, cells in rows:
        if not cells:
            continue
        inside = sum(LEAST <= each["coverage"] <= MOST for each in cells)
        wrong = [each["equivalent"] for each in cells if each["equivalent"] is not None]
        shown = [name, str(len(cells)), *(_range(cells, gap) for gap in (0.0, MARGIN))]
        shown += [f"{100 * inside / len(cells):.0f} %", f"{max(wrong):.1f} %" if wrong else "-"]
        yield f"| {' | '.join(shown)} |"


def _range(cells: Sequence[dict[str, Any]], gap: float) -> str:
    found = [each["coverage"] for each in cells if each["gap"] == gap]
    return f"{min(found):.1f} to {max(found):.1f} %" if found else "-"


def outside(cells: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What there is outside of the bounds, and for how many discordant queries at most."""
    low = sum(each["coverage"] < LEAST for each in cells)
    high = [effective(each) for each in cells if each["coverage"] > MOST]
    wrong = max((each["equivalent"] or 0.0) for each in cells)
    yield (
        f"Of {len(cells)} cells, {low} have a coverage below {LEAST:g} % and {len(high)} above "
        f"{MOST:g} %; the latter have an effective number of discordant queries of at most "
        f"{max(high, default=0):.0f}. The rate of false `equivalent` is at most {wrong:.1f} %."
    )


# ---------------------------------------------------------------- command line


def asked_for(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--shares", type=float, nargs="+", default=SHARES, help="of discordant queries")
    add("--tasks", type=int, nargs="+", default=TASKS, help="how many, at most 7")
    add("--queries", type=int, nargs="+", default=QUERIES, help="of each task")
    add("--draws", type=int, default=20_000, help="for each cell of several tasks")
    add("--seed", type=int, default=0, help="of the draws")
    add("--data", type=Path, default=DATA, help="file of the figures")
    add("--page", type=Path, default=PAGE, help="page whose tables are replaced")
    return parser.parse_args(arguments)


def main(asked: argparse.Namespace) -> None:
    """Compute every cell, then write the data and the tables."""
    cells = list(grid(asked.shares, asked.tasks, asked.queries))
    console = Console(stderr=True)
    shown = track(cells, "intervals", console=console, disable=not console.is_terminal)
    found = [figures(cell, asked.draws, asked.seed) for cell in shown]
    data = {"draws": asked.draws, "seed": asked.seed, "allowance": ALLOWANCE, "cells": found}
    write_atomically(asked.data, laid_out(data))
    write_atomically(asked.page, with_tables(asked.page.read_text(encoding="utf-8"), data))
    exits.say(f"the tables are in {asked.page}")


def laid_out(data: dict[str, Any]) -> str:
    """JSON with a cell on a line."""
    cells = ",\n ".join(json.dumps(each) for each in data["cells"])
    rest = json.dumps({key: value for key, value in data.items() if key != "cells"})
    return f'{rest[:-1]}, "cells": [\n {cells}\n]}}\n'


def with_tables(page: str, data: dict[str, Any]) -> str:
    """The page with the tables of these data between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise NeuligError(f"the page has no {BEGIN.strip()} and {END}: put both where they belong")
    return f"{before}{BEGIN}{tables(data)}{mark}{after}"


if __name__ == "__main__":
    try:
        main(asked_for())
    except NeuligError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        exits.say("interrupted; nothing was written")
        sys.exit(exits.INTERRUPTED)
