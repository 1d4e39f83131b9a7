"""What a run would cost in differential privacy, before it: the report's own account, foreseen.

Of every record that would leave there is the entry that its client's ledger would have. Accounts
and their sum are those of the ledger; only what earlier runs released is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neulig_fl.ledger import expert_account, privacy_cost
from neulig_fl.ledger.chain import RELEASE, Entry
from neulig_fl.records.release_plan import Setting, expert_name
from neulig_fl.report import figures
from neulig_fl.report.rows import who
from neulig_fl.study.outlook import StageOutlook

INFINITE = "inf"
"""Epsilon where something left without noise, as JSON says it."""


@dataclass(frozen=True)
class CostOutlook:
    """What a run would cost its clients.

    Args:
        entries: what would leave, in order, as the clients' ledgers would have it.
        stages: names of the stages that the run would reach, in order.
        everyone: names of all clients.
    """

    entries: Sequence[Entry]
    stages: Sequence[str]
    everyone: Sequence[str]

    @cached_property
    def account(self) -> dict[str, Any]:
        """A report's `privacy`, of clients whose stores are new."""
        books: dict[str, list[Entry]] = {}
        receipts = []
        for entry in self.entries:
            book = books.setdefault(entry["client"], [])
            signed = {**entry, "account": expert_account.account(book, entry)}
            receipts.append({"entry": signed})
            book.append(entry)
        return privacy_cost.account(receipts, self.stages)

    @cached_property
    def unbounded(self) -> str | None:
        """The stage from which on epsilon is infinite; None where it is finite to the end."""
        spent: list[Mapping[str, Any]] = self.account["stages"]
        return next((each["stage"] for each in spent if each["so_far"] == INFINITE), None)

    @property
    def bare(self) -> dict[str, list[str]]:
        """What leaves without noise in that stage: kinds, and whose."""
        found: dict[str, dict[str, None]] = {}
        for entry in self.entries:
            if entry["stage"] == self.unbounded and entry.get("noise_multiplier") is None:
                found.setdefault(entry["kind"], {})[entry["client"]] = None
        return {kind: [n for n in self.everyone if n in of] for kind, of in found.items()}

    def sentence(self, stage: str) -> str | None:
        """Epsilon at a stage's end; None where nothing is noised in the whole run.

        Args:
            stage: one that the run would reach.
        """
        spent = {each["stage"]: each["so_far"] for each in self.account["stages"]}
        if spent.get(stage) is None:
            return None
        if self.unbounded == stage:
            return f"Epsilon is infinite from this stage on: {self._bare()}."
        if spent[stage] == INFINITE:
            return f"Epsilon is infinite since stage {self.unbounded}."
        return (
            f"Epsilon so far is {figures.epsilon(spent[stage])} at delta "
            f"{self.account['delta']:g}, of the client that spends most."
        )

    def warning(self) -> str | None:
        """That noise is in vain, because something leaves without it; None where it is not."""
        if self.unbounded is None:
            return None
        kinds = dict.fromkeys(e["kind"] for e in self.entries if e.get("noise_multiplier"))
        return (
            f"{', '.join(kinds)}: noised, and yet epsilon is infinite from stage {self.unbounded} "
            f"on: {self._bare()}; give noise to that too, or leave it out"
        )

    def record(self) -> dict[str, Any]:
        """It as plain JSON values."""
        clients = [
            {key: each[key] for key in ("client", "epsilon", "unprotected")}
            for each in self.account["clients"]
        ]
        infinite = None if self.unbounded is None else {"stage": self.unbounded, "kinds": self.bare}
        return {**self.account, "clients": clients, "infinite": infinite}

    def _bare(self) -> str:
        told = (f"{kind} ({who(of, self.everyone)})" for kind, of in self.bare.items())
        return f"without noise leaves {', '.join(told)}"


def foreseen(setting: Setting, outlooks: Iterable[StageOutlook]) -> CostOutlook:
    """What a run would cost its clients, as if no client refused a sum by its CoopVecs.

    Args:
        setting: the scenario, opened.
        outlooks: its stages, as far as the run would come.
    """
    reached = list(outlooks)
    return CostOutlook(
        [entry for outlook in reached for entry in _entries(setting, outlook)],
        [outlook.stage.name for outlook in reached],
        [client.name for client in setting.scenario.clients],
    )


def _entries(setting: Setting, outlook: StageOutlook) -> Iterator[Entry]:
    """What ledgers would have of a stage: its records, then its sums."""
    yield from (item.entry for item in outlook.released)
    stage, clients = outlook.stage, {each.name: each for each in setting.scenario.clients}
    for planned in outlook.sums:
        for name in planned.clients if planned.refusal is None else ():
            yield {
                "event": RELEASE,
                "stage": stage.name,
                "client": name,
                "expert": expert_name(clients[name], stage.group),
                "kind": planned.kind,
            }
