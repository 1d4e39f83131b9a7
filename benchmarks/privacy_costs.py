"""What protections cost: bytes, messages and seconds, beside the same record without protection.

    python benchmarks/privacy_costs.py

Real parties answer a real collector in this process, every message a party of its own, on the
micro model; then a random vector goes through each protection alone. The tables are printed, and
take the place of the last ones in docs/privacy-costs.md. Seconds are of one thread's own time (CPU
time), the least of several rounds; progress goes to the standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from neulig_fl.cli import exits
from neulig_fl.client import address_book
from neulig_fl.client.handler import ClientHandler
from neulig_fl.config.scenario import Model, Scenario, Stage
from neulig_fl.core import variants
from neulig_fl.core.errors import InputError, NeuligError
from neulig_fl.core.files import write_atomically
from neulig_fl.core.progress import Progress
from neulig_fl.models.families import open_family
from neulig_fl.privacy.clipping import sensitivity
from neulig_fl.privacy.discrete_gaussian import noised
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import open_sealed, seal
from neulig_fl.records.budgets import SUMS
from neulig_fl.records.kinds import Request
from neulig_fl.records.release_plan import Setting, open_setting
from neulig_fl.records.secagg.requests import Part
from neulig_fl.records.transport import Answer, Ask
from neulig_fl.server.collecting import Collector
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.server.secagg.rounds import SumRounds
from neulig_fl.study.bench import secure_aggregation

PAGE = Path(__file__).resolve().parents[1] / "docs" / "privacy-costs.md"
MARK = "measured"
PLAIN = {"none": "plain"}  # the protection's name in the tables
TASKS = ("digits", "mnist5k", "glyphs", "signs", "textures")
NOISE: Mapping[str, Any] = {"clip": 1.0, "noise_multiplier": 1.0, "delta": 1e-5}
OPTIONS: Mapping[str, Mapping[str, Any]] = {"gaussian": NOISE}
"""Of protections that have some."""

RECORDS = (("features", "evaluation"), ("parameters", None))
COLUMNS = (
    "rounds", "messages", "payload, bytes", "all bytes", "times plain", "client s", "server s",
    "times plain",
)  # fmt: skip
Vector = NDArray[np.float32]


# ---------------------------------------------------------------- a record through real parties


@dataclass(frozen=True)
class Cost:
    """What sharing one record costs, for each client.

    Args:
        rounds: exchanges that a client takes part in.
        messages: requests and replies.
        payload: bytes of the record as it leaves.
        bytes: of everything that goes to and fro.
        client: seconds of a client.
        server: seconds of the server, for each client.
    """

    rounds: float
    messages: float
    payload: float
    bytes: float
    client: float
    server: float


@dataclass
class Meter:
    """What went to and fro, of all clients together.

    Args:
        messages: requests and replies.
        payload: bytes of the replies' payloads.
        other: bytes of everything else: requests, receipts, keys, shares.
        seconds: of the clients.
    """

    messages: int = 0
    payload: int = 0
    other: int = 0
    seconds: float = 0.0

    def cost(self, seconds: float, clients: int) -> Cost:
        """Of each client, when everything together took so many seconds."""
        counted = (self.messages / 2, self.messages, self.payload, self.payload + self.other)
        spent = (self.seconds, seconds - self.seconds)
        return Cost(*(value / clients for value in (*counted, *spent)))


@dataclass
class Metered:
    """The clients of a scenario as `Transport`; each message reaches a new party, as on a node.

    Args:
        setting: the scenario, opened once for all of them.
        root: below it the clients' stores.
        meter: counts.
    """

    setting: Setting
    root: Path
    meter: Meter = field(default_factory=Meter)
    carrier: str = ""

    def ask(self, asks: Sequence[Ask], timeout: float) -> Iterator[Answer]:  # noqa: ARG002
        """As `Transport.ask`; a refusal or a failure ends the measurement."""
        scenario, book = self.setting.scenario, self.root / address_book.FILE
        for ask in asks:
            start = time.thread_time()
            store, known = self.root / ask.client, book if book.exists() else None
            party = ClientHandler(scenario, scenario.seed, ask.client, store, address_book=known)
            party.__dict__["setting"] = self.setting
            body, payload = party.answer(ask.action, ask.body, ask.payload)
            self.meter.seconds += time.thread_time() - start
            self.meter.messages += 2
            self.meter.payload += len(payload)
            self.meter.other += _size(ask.body) + len(ask.payload) + _size(body)
            yield Answer(ask.client, ask.action, "ok", None, body, payload)


def _size(body: Mapping[str, Any]) -> int:
    """Bytes of a message's details, as they are written for the way."""
    return len(json.dumps(body, separators=(",", ":")).encode())


def shared(setting: Setting, kind: str, queries: str | None) -> Cost:
    """Share one record of every client once, and count.

    Args:
        setting: of a `scenario` with one stage.
        kind: of record.
        queries: the query set; None for kinds without queries.
    """
    (stage,) = setting.scenario.stages
    with TemporaryDirectory() as folder:
        parties = Metered(setting, Path(folder))
        collector = Collector(parties, ReleasedRecords(setting), Progress(lambda event: None))
        address_book.introduce(setting.scenario, parties.root, parties.root / address_book.FILE)
        collector.meet()
        parties.meter = Meter()
        start = time.thread_time()
        if stage.share[0].protection.name in SUMS:
            SumRounds(collector, stage, [], []).summed(kind, queries, parts(setting, queries))
        else:
            collector.collect(stage)
        seconds = time.thread_time() - start
    return parties.meter.cost(seconds, len(setting.scenario.clients))


def parts(setting: Setting, queries: str | None) -> list[Part]:
    """A mean over all clients: of the parameters, or of the answers to each task's queries."""
    clients = setting.scenario.clients
    weights = {client.name: 1.0 / len(clients) for client in clients}
    return [Part(task, weights) for task in (setting.tasks if queries else (None,))]


def scenario(asked: argparse.Namespace, checkpoint: Path) -> dict[str, Any]:
    """A scenario without its stage; every client brings the same checkpoint."""
    tasks = [asked.tasks[i % len(asked.tasks)] for i in range(asked.clients)]
    return {
        "name": "privacy-costs",
        "model": {"name": asked.model, "pretrained": asked.pretrained},
        "clients": [
            {"name": f"client-{i}", "task": task, "checkpoint": {"A": str(checkpoint)}}
            for i, task in enumerate(tasks, start=1)
        ],
        "experts": {"groups": ["A"]},
        "queries": {"pool": asked.queries, "evaluation": asked.queries},
        "stages": [{"name": "none"}],
    }


def with_stage(setting: Setting, kind: str, queries: str | None, protection: str) -> Setting:
    """The same setting with one stage, which shares one record under one protection."""
    guard = {protection: OPTIONS.get(protection)}
    asked = {"kind": kind, "queries": [queries] if queries else [], "protection": guard}
    stage = Stage.model_validate({"name": "only", "share": [asked]})
    said = setting.scenario.model_copy(update={"stages": (stage,)})
    return replace(setting, scenario=said)


def protections() -> list[str]:
    """Every protection, `none` first."""
    names = variants.names("neulig_fl.records.protections")
    return sorted(names, key=lambda name: (name != "none", name))


# ---------------------------------------------------------------- a vector through a protection

Speed = tuple[float, float]
"""Seconds of one vector: the client's, to protect it; the server's, to have it or its part of a
sum."""


def plain(vector: Vector) -> Speed:
    """The vector becomes bytes; the server copies them into its own memory."""
    payload = vector.tobytes()
    client = _seconds(vector.tobytes)
    return client, _seconds(lambda: np.frombuffer(payload, np.float32).copy())


def sealed(vector: Vector) -> Speed:
    """The same, encrypted to the server, and opened there."""
    server, payload = Identity.new(), vector.tobytes()
    received = seal(payload, server.agreement, b"costs")
    client = _seconds(lambda: seal(payload, server.agreement, b"costs"))
    opened = _seconds(lambda: open_sealed(received, server.agreement_key, b"costs"))
    copied, taken = plain(vector)
    return copied + client, taken + opened


def gaussian(vector: Vector) -> Speed:
    """Clipped and noised; for the server it is as a plain one."""
    clip = float(NOISE["clip"])
    sigma = float(NOISE["noise_multiplier"]) * sensitivity(clip, 1)
    client = _seconds(lambda: noised(vector, clip=clip, sigma=sigma))
    copied, taken = plain(vector)
    return copied + client, taken


def summed(vector: Vector) -> Speed:
    """A client's part of a whole secure sum of five; the rest of it is the server's."""
    sum_of_all = secure_aggregation.SecureSum(vector)
    sum_of_all.run()
    client = sum_of_all.masking / secure_aggregation.CLIENTS
    return client, sum_of_all.seconds / secure_aggregation.CLIENTS - client


ALONE: Mapping[str, Callable[[Vector], Speed]] = {
    "none": plain, "gaussian": gaussian, "sealed": sealed, "secure-aggregation": summed
}  # fmt: skip


def _seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


# ---------------------------------------------------------------- tables


def tables(asked: argparse.Namespace) -> str:
    """Measure, and write what was found as Markdown."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        family = open_family(Model(name=asked.model, pretrained=asked.pretrained), 0)
        checkpoint = Path(folder) / "expert.safetensors"
        save_file(family.encoder().state_dict(), checkpoint)
        setting = open_setting(Scenario.model_validate(scenario(asked, checkpoint)), 0)
        lines = [f"{asked.model}, {machine(asked)}"]
        for kind, queries in RECORDS:
            lines += ["", f"### {_title(setting, kind, queries)}", ""]
            lines += _of_record(asked, setting, kind, queries)
    return "\n".join([*lines, "", "### A vector alone", "", *_alone(asked), ""])


def machine(asked: argparse.Namespace) -> str:
    """What was measured on."""
    return (
        f"{asked.clients} clients, one thread of {os.cpu_count()} CPUs, torch {version('torch')}, "
        f"cryptography {version('cryptography')}, the least of {asked.repeats} rounds."
    )


def _title(setting: Setting, kind: str, queries: str | None) -> str:
    if queries is None:
        return "The parameters of a model"
    rows = setting.rows(Request("only", "A", kind, queries), setting.scenario.clients[0].name)
    return f"The {kind} of {rows:,} {queries} queries"


def _of_record(
    asked: argparse.Namespace, setting: Setting, kind: str, queries: str | None
) -> Iterator[str]:
    costs: dict[str, list[Cost]] = {name: [] for name in protections()}
    for turn in range(asked.repeats):
        for name, seen in costs.items():
            exits.say(f"{kind}, {name}: round {turn + 1} of {asked.repeats}")
            seen.append(shared(with_stage(setting, kind, queries, name), kind, queries))
    yield f"| sharing | {' | '.join(COLUMNS)} |"
    yield f"| :-- | {' | '.join('--:' for _ in COLUMNS)} |"
    least = {name: _least(seen) for name, seen in costs.items()}
    for name, cost in least.items():
        base, shown = least["none"], PLAIN.get(name, name)
        seconds = (cost.client + cost.server) / (base.client + base.server)
        sizes = f"{cost.payload:,.0f} | {cost.bytes:,.0f} | {cost.bytes / base.bytes:.3f}"
        times = f"{cost.client:.3f} | {cost.server:.3f} | {seconds:.2f}"
        yield f"| {shown} | {cost.rounds:g} | {cost.messages:g} | {sizes} | {times} |"


def _least(costs: Sequence[Cost]) -> Cost:
    """Counts are the same in all rounds, but for a byte or two; other work adds to seconds."""
    return Cost(**{name: min(getattr(cost, name) for cost in costs) for name in vars(costs[0])})


def _alone(asked: argparse.Namespace) -> Iterator[str]:
    vector = np.random.default_rng(0).uniform(-0.2, 0.2, asked.entries).astype(np.float32)
    speeds: dict[str, list[Speed]] = {name: [] for name in ALONE}
    for turn in range(asked.repeats + 1):  # the first one warms up
        for name, measured in speeds.items():
            exits.say(f"a vector, {name}: round {turn} of {asked.repeats}")
            measured.append(ALONE[name](vector))
    size = vector.nbytes / 1e6
    yield f"{size:,.1f} MB: {asked.entries:,} float32 entries. MB/s of the record's own size.\n"
    yield "| sharing | client MB/s | server MB/s | both MB/s | times plain |"
    yield "| :-- | --: | --: | --: | --: |"
    spent = {name: np.min(measured[1:], axis=0) for name, measured in speeds.items()}
    for name, each in spent.items():
        sides = np.maximum(each, 1e-9)  # a clock that did not move
        both, base = sum(sides), sum(spent["none"])
        rates = " | ".join(f"{size / took:,.0f}" for took in (*sides, both))
        yield f"| {PLAIN.get(name, name)} | {rates} | {both / max(base, 1e-9):.1f} |"


def replaced(page: str, measured: str, mark: str = MARK) -> str:
    """A page with other figures between its marks.

    Raises:
        InputError: it has not exactly one pair of marks.
    """
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise InputError(
            f"the page needs one line {begin.strip()!r} and one {end!r}; put them where the "
            "tables belong"
        )
    before, _, rest = page.partition(begin)
    return before + begin + measured + end + rest.partition(end)[2]


# ---------------------------------------------------------------- command line


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
    add("--tasks", nargs="+", default=list(TASKS), help="whose queries are answered")
    add("--queries", type=int, default=300, help="queries of each task")
    add("--entries", type=int, default=2**22, help="of the random vector")
    add("--repeats", type=int, default=5, help="rounds; the least counts")
    add("--page", type=Path, default=PAGE, help="where the tables are written")
    return parser.parse_args(arguments)


def main(asked: argparse.Namespace) -> None:
    """Measure, print the tables, and write them into the page.

    Raises:
        NeuligError: a setting that cannot be, or a record that was refused.
    """
    page = asked.page.read_text(encoding="utf-8")
    replaced(page, "")
    found = tables(asked)
    write_atomically(asked.page, replaced(page, found))
    sys.stdout.write(found)


if __name__ == "__main__":
    try:
        main(asked_for())
    except NeuligError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
