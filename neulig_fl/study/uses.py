"""Which records a scenario shares that nothing uses.

Nothing lists who uses what: the stages are gone through as in a plan, all clients agreeing, and
what the steps, methods and controls of no stage ask for is of no use.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from neulig_fl.config.policy_rules import Budgets, Policy
from neulig_fl.config.scenario import Scenario
from neulig_fl.config.values import MODEL_KINDS
from neulig_fl.records.grants import Grants, Key
from neulig_fl.records.release_plan import Setting
from neulig_fl.study.dry_run import key_of, rehearse

Record = tuple[str, str | None]
"""Kind and query set."""

AGREEING = Policy(budgets=Budgets(max_delta=0.999, max_leverage=1.0, max_sums=10**9))
"""Allows all that a stage can share."""


@dataclass
class WatchedGrants(Grants):
    """Who released which record, and what nobody has asked for since.

    Args:
        idle: records that were released and not asked for.
    """

    idle: set[Key] = field(default_factory=set)

    def note(self, client: str, key: Key, fraction: float = 1.0) -> None:
        """Remember that a client released a record, of which nothing is known to use it yet."""
        super().note(client, key, fraction)
        self.idle.add(key)

    def giving(self, group: str, kind: str, queries: str | None = None) -> tuple[str, ...]:
        """Clients whose own records are known; whoever asks for them uses them."""
        same = MODEL_KINDS if kind in MODEL_KINDS else (kind,)
        self.idle -= {(group, each, queries) for each in same}
        return super().giving(group, kind, queries)


def unused(setting: Setting) -> dict[str, list[Record]]:
    """What each stage shares and nothing uses, in that stage or a later one.

    Args:
        setting: the scenario, opened.

    Returns:
        Kinds and query sets by the stage's name, in the order in which they are shared; stages of
        which all is used are left out. Nothing where it cannot be known, because the run would end
        whatever its clients allow.
    """
    agreed = replace(setting, scenario=_agreed(setting.scenario))
    known = WatchedGrants(agreed.scenario, agreed.tasks)
    idle: dict[str, set[Key]] = {}
    summed: dict[str, set[Record]] = {}
    for outlook in rehearse(agreed, known):
        if outlook.stops is not None:
            return {}
        idle[outlook.stage.name] = {key_of(item.request) for item in outlook.released}
        summed[outlook.stage.name] = outlook.asked
        for keys in idle.values():
            keys &= known.idle
    found: dict[str, list[Record]] = {}
    for stage in setting.scenario.stages:
        for share in stage.share:
            for queries in share.queries or (None,):
                record = (share.kind, queries)
                asked = record in summed[stage.name]
                alone = (stage.group, *record) in idle[stage.name]
                if alone or (share.in_sums and not asked):
                    found.setdefault(stage.name, []).append(record)
    return found


def _agreed(scenario: Scenario) -> Scenario:
    """The scenario of clients that refuse nothing."""
    clients = tuple(each.model_copy(update={"policy": AGREEING}) for each in scenario.clients)
    return scenario.model_copy(update={"clients": clients, "on_refusal": "continue"})
