"""What the guards of a secure sum cost: signatures, histories, rounding, beside the whole sum.

    python benchmarks/guard_costs.py

The parameters of a model are summed again and again among the same clients, whose histories grow:
real parties answer a real collector in this process, every message a party of its own. Milliseconds
are CPU time for each client, the server's part included, the least of several rounds. The table is
printed, and takes the place of the last one in docs/privacy-costs.md; progress goes to the standard
error.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import privacy_costs
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from neulig_fl.cli import exits
from neulig_fl.client import address_book, entrance
from neulig_fl.client.secagg import gate
from neulig_fl.config.scenario import Model, Scenario
from neulig_fl.core.errors import NeuligError
from neulig_fl.core.files import write_atomically
from neulig_fl.core.progress import Progress
from neulig_fl.models.families import open_family
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.secagg.fixed_point import WORD, FixedPoint
from neulig_fl.privacy.secagg.masks import Noise
from neulig_fl.records import signed_requests
from neulig_fl.records.kinds import byte_count
from neulig_fl.records.release_plan import Setting, open_setting
from neulig_fl.records.secagg import peers
from neulig_fl.records.secagg.accounts import Sums
from neulig_fl.server.collecting import Collector
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.server.secagg.rounds import SumRounds

MARK = "guards"
SIGNATURES, HISTORIES, ROUNDING = "signed requests", "histories and leverage", "stochastic rounding"
GUARDS: Mapping[str, Sequence[tuple[Any, str]]] = {
    SIGNATURES: [(entrance, "admitted"), (signed_requests, "signed")],
    HISTORIES: [
        (gate, "statement"), (gate, "meet"), (gate, "_sums"),
        (peers, "packed"), (peers, "unpacked"), (peers.Statement, "read"),
        (Sums, "claims"), (Sums, "refusal"),
    ],
}  # fmt: skip
"""What is timed while sums are made; rounding is timed by itself."""

_BLOCK = 2**15


@contextmanager
def timed(spent: Counter[str]) -> Iterator[None]:
    """Add up the CPU time of every guard; of one within another, the outer one alone.

    Args:
        spent: seconds by guard.
    """
    busy: list[str] = []

    def within(guard: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def run(*arguments: Any, **named: Any) -> Any:
            if busy:
                return work(*arguments, **named)
            busy.append(guard)
            start = time.thread_time()
            try:
                return work(*arguments, **named)
            finally:
                spent[guard] += time.thread_time() - start
                busy.clear()

        return run

    with ExitStack() as stack:
        for guard, places in GUARDS.items():
            for owner, name in places:
                found = owner.__dict__[name]
                static = isinstance(found, staticmethod)
                timer = within(guard, found.__func__ if static else found)
                stack.enter_context(
                    patch.object(owner, name, staticmethod(timer) if static else timer)
                )
        yield


def sums(setting: Setting, earlier: int) -> tuple[Counter[str], Counter[str]]:
    """Make sums one after the other.

    Args:
        setting: with one stage that shares parameters within sums.
        earlier: how many sums come before the last one.

    Returns:
        Milliseconds for each client, by guard and `sum` for all: of the first sum and of the last.
    """
    (stage,) = setting.scenario.stages
    with TemporaryDirectory() as folder:
        parties = privacy_costs.Metered(setting, Path(folder))
        address_book.introduce(setting.scenario, parties.root, parties.root / address_book.FILE)
        asked = ("parameters", None, privacy_costs.parts(setting, None))
        made, identity, quiet = [], Identity.new(), Progress(lambda event: None)
        for _ in range(earlier + 1):  # each in a run of its own, with the same stores
            collector = Collector(parties, ReleasedRecords(setting), quiet, identity=identity)
            collector.meet()
            made.append(_one(partial(SumRounds(collector, stage, [], []).summed, *asked)))
    clients = len(setting.scenario.clients)
    first, last = (
        Counter({name: 1e3 * seconds / clients for name, seconds in made[at].items()})
        for at in (0, -1)
    )
    return first, last


def _one(work: Callable[[], object]) -> Counter[str]:
    spent: Counter[str] = Counter()
    start = time.thread_time()
    with timed(spent):
        work()
    spent["sum"] = time.thread_time() - start
    return spent


def rounding(entries: int) -> float:
    """Milliseconds that stochastic rounding of a vector takes more than rounding to the nearest."""
    values = np.random.default_rng(0).uniform(-0.2, 0.2, entries).astype(np.float32)
    out, grid, noise = np.empty(entries, WORD), FixedPoint(1.0, 5), Noise()
    start = time.thread_time()
    grid.encode(values, noise.bits, out, 1.0, "")
    middle = time.thread_time()
    _nearest(values, grid.scale, out)
    return 1e3 * ((middle - start) - (time.thread_time() - middle))


def _nearest(values: NDArray[np.float32], scale: float, out: NDArray[np.uint32]) -> None:
    """As `FixedPoint.encode`, with the range checked, and no noise."""
    room = np.empty(_BLOCK)
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        if not (float(block.min()) >= -1.0 and float(block.max()) <= 1.0):
            raise ValueError("out of range")
        steps = room[: len(block)]
        np.multiply(block, scale, out=steps, dtype=np.float64)
        np.rint(steps, out=steps)
        out[start : start + _BLOCK].view("<i4")[...] = steps


def table(asked: argparse.Namespace) -> str:
    """Measure, and write what was found as Markdown."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        family = open_family(Model(name=asked.model, pretrained=asked.pretrained), 0)
        checkpoint = Path(folder) / "expert.safetensors"
        save_file(family.encoder().state_dict(), checkpoint)
        said = privacy_costs.scenario(asked, checkpoint)
        setting = open_setting(Scenario.model_validate(said), 0)
        setting = privacy_costs.with_stage(setting, "parameters", None, "secure-aggregation")
        entries = byte_count("parameters", 0, setting.sizes) // 4
        measured = []
        for turn in range(asked.repeats + 1):  # the first one warms up
            exits.say(f"{asked.earlier + 1} sums: round {turn} of {asked.repeats}")
            measured.append((*sums(setting, asked.earlier), rounding(entries)))
    lines = [f"{asked.model}, {entries:,} parameters, {privacy_costs.machine(asked)}", ""]
    lines += [
        f"| sums before | whole sum, ms | {', ms | '.join((*GUARDS, ROUNDING))}, ms | guards, % |"
    ]
    lines += [f"| --: | --: | {' | '.join('--:' for _ in (*GUARDS, ROUNDING))} | --: |"]
    for at, before in enumerate((0, asked.earlier)):
        lines += [
            _row(before, [each[at] for each in measured[1:]], min(m[2] for m in measured[1:]))
        ]
    return "\n".join([*lines, ""])


def _row(before: int, seen: Sequence[Counter[str]], rounds: float) -> str:
    least = {name: min(each[name] for each in seen) for name in (*GUARDS, "sum")}
    guards = [*(least[name] for name in GUARDS), rounds]
    share = 100.0 * sum(guards) / least["sum"]
    cells = [f"{before}", *(f"{each:.1f}" for each in (least["sum"], *guards)), f"{share:.0f}"]
    return f"| {' | '.join(cells)} |"


def asked_for(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="micro-vit", help="any model that a scenario can name")
    add("--pretrained", default="bundled", help="its weights, as in a scenario")
    add("--clients", type=int, default=5, help="how many")
    add("--earlier", type=int, default=20, help="sums before the last one that is measured")
    add("--repeats", type=int, default=5, help="rounds; the least counts")
    add("--page", type=Path, default=privacy_costs.PAGE, help="where the table is written")
    parser.set_defaults(tasks=list(privacy_costs.TASKS), queries=20)
    return parser.parse_args(arguments)


def main(asked: argparse.Namespace) -> None:
    """Measure, print the table, and write it into the page.

    Raises:
        NeuligError: a setting that cannot be, or a sum that was refused.
    """
    page = asked.page.read_text(encoding="utf-8")
    privacy_costs.replaced(page, "", MARK)
    found = table(asked)
    write_atomically(asked.page, privacy_costs.replaced(page, found, MARK))
    sys.stdout.write(found)


if __name__ == "__main__":
    try:
        main(asked_for())
    except NeuligError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
