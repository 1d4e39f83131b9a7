"""What the local engine adds: a small run under it, relative to the same calls made directly.

Directly means: the server's logic with a `Transport` that calls each client's
`ClientHandler.answer` in this process, with the same thread counts, and nothing of Flower between
them. Both go through the same small scenario, with the experts in the cache, in turn.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.client.handler import ClientHandler
from neulig_fl.config.scenario import Scenario, dump
from neulig_fl.core import progress
from neulig_fl.core.errors import NeuligError
from neulig_fl.records.transport import Answer, Ask
from neulig_fl.runtime import engines
from neulig_fl.runtime.engines import Job
from neulig_fl.runtime.engines.local import threads
from neulig_fl.study import server_loop
from neulig_fl.study.bench import Measurement

REPEATS = 5
GOAL = 1.05
SCENARIO: dict[str, Any] = {
    "name": "bench",
    "model": {"name": "micro-vit", "pretrained": "none"},
    "clients": [
        {"name": "north", "task": "digits"},
        {"name": "east", "task": "shapes"},
        {"name": "south", "task": "digits"},
        {"name": "west", "task": "shapes"},
    ],
    "experts": {"epochs": 1},
    "queries": {"pool": 100, "evaluation": 50},
    "stages": [
        {
            "name": "ensembling",
            "share": [{"kind": "offset-sum"}, {"kind": "features"}],
            "run": ["train-portland", "ensemble"],
        },
        {"name": "merging", "share": [{"kind": "parameters"}], "run": ["merge"]},
    ],
}


class Direct:
    """Clients that are called, not sent messages to; each call makes its party anew, as apps do.

    Args:
        scenario: resolved.
        out: the run's folder.
    """

    def __init__(self, scenario: Scenario, out: Path) -> None:
        self._scenario = scenario
        self._out = out

    carrier = ""

    def ask(
        self,
        asks: Sequence[Ask],
        timeout: float,  # noqa: ARG002 (nobody is waited for)
    ) -> Iterator[Answer]:
        """See `Transport.ask`."""
        for ask in asks:
            yield self._answer(ask)

    def _answer(self, ask: Ask) -> Answer:
        store = self._out / "clients" / ask.client
        handler = ClientHandler(self._scenario, self._scenario.seed, ask.client, store)
        try:
            with threads(self._scenario.resources.client_cpus):
                body, payload = handler.answer(ask.action, ask.body, ask.payload)
        except NeuligError as error:
            return Answer(ask.client, ask.action, "failed", str(error), {}, b"")
        return Answer(ask.client, ask.action, "ok", None, body, payload)


def measure(repeats: int = REPEATS) -> Measurement:
    """Run the scenario both ways, in turn.

    Args:
        repeats: pairs of runs; the median ratio counts. One more pair, which trains the experts,
            goes before them.
    """
    scenario = Scenario.model_validate(SCENARIO)
    with _scratch() as folder:
        pairs = [_pair(scenario, folder / str(turn), turn % 2 == 0) for turn in range(repeats + 1)]
    ratios = [local.wall / direct.wall for local, direct in pairs[1:]]
    figure = statistics.median(ratios)
    return Measurement(
        name="engine",
        what="time of a small run under the local engine",
        figure=figure,
        unit="of the same calls made directly",
        goal=f"under {GOAL}",
        met=figure < GOAL,
        values=ratios,
        details={
            "the same for CPU time": statistics.median(a.cpu / b.cpu for a, b in pairs[1:]),
            "seconds under the engine": statistics.median(local.wall for local, _ in pairs[1:]),
            "seconds directly": statistics.median(direct.wall for _, direct in pairs[1:]),
        },
    )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for runs and for a cache of its own, so that the user's stays as it is."""
    before = os.environ.get("NEULIG_CACHE")
    with tempfile.TemporaryDirectory(prefix="neulig-bench-") as name:
        os.environ["NEULIG_CACHE"] = str(Path(name) / "cache")
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ["NEULIG_CACHE"]
            else:
                os.environ["NEULIG_CACHE"] = before


@dataclass(frozen=True)
class Seconds:
    """What one run took by the clock, and of CPU time, which other processes disturb less."""

    wall: float
    cpu: float


def _pair(scenario: Scenario, folder: Path, local_first: bool) -> tuple[Seconds, Seconds]:
    """One run under the engine and one made directly, in either order."""
    seconds: dict[str, Seconds] = {}
    for way in ("local", "direct") if local_first else ("direct", "local"):
        out = folder / way
        out.mkdir(parents=True)
        dump(scenario, out / "scenario.json")
        wall, cpu = time.perf_counter(), time.process_time()
        if way == "local":
            engines.run("local", Job(out / "scenario.json", out, len(scenario.clients)))
        else:
            _directly(scenario, out)
        seconds[way] = Seconds(time.perf_counter() - wall, time.process_time() - cpu)
    return seconds["local"], seconds["direct"]


def _directly(scenario: Scenario, out: Path) -> None:
    with threads(scenario.resources.server_threads):
        show = progress.to_file(out / progress.FILE)
        server_loop.serve(scenario, scenario.seed, Direct(scenario, out), out, show)
