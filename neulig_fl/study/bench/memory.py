"""How much the server grows while it takes parameters, beside one copy of each expert plus one.

A child process opens a model, then takes the `parameters` of four made-up clients as a run does,
one client at a time; its largest resident set is read from the system. What Flower itself holds
of a message is not in it, nor are the clients.
"""

from __future__ import annotations

import hashlib
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neulig_fl.core.errors import RunError
from neulig_fl.records.transport import Answer, Ask
from neulig_fl.study.bench import Measurement

REPEATS = 3
GOAL = 1.05
EXPERTS = 4
SCENARIO: dict[str, Any] = {
    "name": "bench",
    "model": {"name": "ViT-S-32", "pretrained": "none"},
    "clients": [{"name": f"client-{i}", "task": "digits"} for i in range(EXPERTS)],
    "stages": [{"name": "merging", "share": [{"kind": "parameters"}]}],
}
"""ViT-S/32: 91 MB an expert, so that what else a process allocates does not show."""

_TAG = "0" * 32
"""Of every client's expert and data: nothing is counted here."""


class Blank:
    """Clients whose parameters are all the same small number; they sign for one another.

    Args:
        size: bytes of each one's payload.
    """

    def __init__(self, size: int) -> None:
        from neulig_fl.privacy.keys import Identity

        self._size = size
        self._identity = Identity.new()

    carrier = ""

    def ask(
        self,
        asks: Sequence[Ask],
        timeout: float,  # noqa: ARG002 (nobody is waited for)
    ) -> Iterator[Answer]:
        """See `Transport.ask`."""
        from neulig_fl.core import versions
        from neulig_fl.ledger import chain, handshake
        from neulig_fl.ledger.opening import OPENING, Opening

        for ask in asks:
            if ask.action == "hello":
                run = Opening.read(ask.body[OPENING]).run
                said = handshake.client_hello(self._identity, ask.client, versions.own(), run)
                yield Answer(ask.client, ask.action, "ok", None, said, b"")
                continue
            payload = b"\x01" * self._size
            digest = hashlib.sha256(payload).hexdigest()
            facts = {"rows": 1, "bytes": self._size, "sha256": digest, "epsilon": None}
            facts |= {"expert": _TAG, "data": _TAG, "account": None}
            asked = {"run": ask.body["run"], **ask.body["asked"]}
            fact = {**asked, **facts, "client": ask.client, "event": "release", "time": 0.0}
            entry = chain.extended([], fact, self._identity)
            body = {"rows": 1, "sha256": digest, "entry": entry}
            yield Answer(ask.client, ask.action, "ok", None, body, payload)


def measure(repeats: int = REPEATS) -> Measurement:
    """Measure in a new process each time.

    Args:
        repeats: processes; the median counts.

    Raises:
        RunError: a process failed.
    """
    found = [_in_a_child() for _ in range(repeats)]
    ratios = [grown / (each * (EXPERTS + 1)) for grown, each in found]
    figure = statistics.median(ratios)
    return Measurement(
        name="memory",
        what=f"growth of the server while it takes the parameters of {EXPERTS} experts",
        figure=figure,
        unit="of (experts + 1) copies",
        goal=f"under {GOAL}",
        met=figure < GOAL,
        values=ratios,
        details={
            "MiB of one expert": found[0][1] / 2**20,
            "MiB grown": statistics.median(grown for grown, _ in found) / 2**20,
        },
    )


def _in_a_child() -> tuple[int, int]:
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"the process that measures memory failed: {done.stderr.strip()[-400:]}")
    grown, each = json.loads(done.stdout)
    return int(grown), int(each)


def growth() -> tuple[int, int]:
    """Take every client's parameters in this process.

    Returns:
        How far the largest resident set went beyond what it was before, and the payload of one
        expert; both in bytes.
    """
    from neulig_fl.config.scenario import Scenario
    from neulig_fl.core.progress import Progress
    from neulig_fl.records.release_plan import open_setting, stage_plan
    from neulig_fl.server.collecting import Collector
    from neulig_fl.server.released_records import ReleasedRecords

    scenario = Scenario.model_validate(SCENARIO)
    setting = open_setting(scenario, scenario.seed)
    (stage,) = scenario.stages
    size = next(stage_plan(setting, stage)).bytes
    collector = Collector(Blank(size), ReleasedRecords(setting), Progress(lambda event: None))
    before = _forget_peak()
    collector.collect(stage)
    return _peak() - before, size


def _forget_peak() -> int:
    """Let the largest resident set begin again from here, where the system can; bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # no Linux: then the peak of what came before counts too
        return _peak()
    return _peak()


def _peak() -> int:
    """Largest resident set of this process, bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    print(json.dumps(growth()))  # noqa: T201
