"""What a scenario may say and hardly means: `check` prints it, `plan` beside what it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from neulig_fl.config.policy_rules import Budgets
from neulig_fl.config.scenario import Scenario
from neulig_fl.records import policy_layers
from neulig_fl.records.budgets import named
from neulig_fl.records.release_plan import Setting
from neulig_fl.report.rows import label
from neulig_fl.study import cost_outlook
from neulig_fl.study.dry_run import rehearse
from neulig_fl.study.outlook import StageOutlook
from neulig_fl.study.uses import Record, unused


def remarks(setting: Setting) -> Iterator[str]:
    """All of it, a line each.

    Args:
        setting: the scenario, opened.
    """
    outlooks = list(rehearse(setting))
    for outlook in outlooks:
        name = outlook.stage.name
        uncertain = may_end(setting.scenario, outlook)
        if uncertain is not None:
            yield f"but its run would end in stage {name} {uncertain}"
        if outlook.stops is not None:
            yield f"but its run would end in stage {name}: {outlook.stops}"
    cost = cost_outlook.foreseen(setting, outlooks).warning()
    yield from [] if cost is None else [cost]
    yield from unused_shares(setting.scenario, unused(setting))
    yield from never_met(setting.scenario)


def may_end(scenario: Scenario, outlook: StageOutlook) -> str | None:
    """Under which CoopVecs the run would end in a stage, with what to do; None under none."""
    asked = [s for s in outlook.sums if s.refusal is None and s.leverage[0] < s.leverage[1]]
    limits = _limits_on_weights(scenario)
    if scenario.on_refusal != "stop" or not asked or not limits:
        return None
    rows: dict[str, list[str]] = {}
    for each in asked:
        what = f"{each.kind} of {each.queries}" if each.queries else each.kind
        rows.setdefault(what, []).append(label(each.method, each.granularity))
    sums = " and ".join(f"{what} for {', '.join(of)}" for what, of in rows.items())
    return (
        f"if CoopVecs weigh the sums of {sums} so that a client refuses one ({limits}), which is "
        "not known before; with on_refusal: continue it goes on without that row"
    )


def _limits_on_weights(scenario: Scenario) -> str:
    """By which limits a client may refuse a sum for its weights; empty where there is none."""
    budgets = [layer.budgets for layer in _layers(scenario)]
    most = min((each.max_leverage for each in budgets), default=1.0)
    least = max((each.min_group_size or 0 for each in budgets), default=0)
    found = [named("max_leverage", most)] if most < 1.0 else []
    return ", ".join([*found, *([f"min_group_size {least}"] if least else [])])


def unused_shares(scenario: Scenario, found: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """What stages share and nothing uses, a line for each entry of share.

    Args:
        scenario: whose stages.
        found: kinds and query sets by stage, as `uses.unused` gives them.
    """
    for stage in scenario.stages:
        idle = found.get(stage.name, ())
        for share in stage.share:
            sets = [queries for kind, queries in idle if kind == share.kind]
            if not sets:
                continue
            of = " and ".join(queries for queries in sets if queries)
            used = [queries for queries in share.queries if queries not in sets]
            mend = f"write queries: [{', '.join(used)}]" if used else "leave it out"
            what = f"{share.kind} of {of}" if of else share.kind
            yield f"stage {stage.name} shares {what}, and nothing uses that; {mend}"


def never_met(scenario: Scenario) -> Iterator[str]:
    """Limits of policies that no secure sum of all clients meets, so that each is refused.

    A limit that a preset brings along is of no interest where nothing is summed.
    """
    count = len(scenario.clients)
    summed = any(share.in_sums for stage in scenario.stages for share in stage.share)
    for layer in _layers(scenario):
        least, most = layer.budgets.min_group_size or 0, layer.budgets.max_leverage
        if least > count and (summed or layer.own):
            yield (
                f"{layer.name}: min_group_size {least}, and the scenario has {count} clients: it "
                f"takes part in no secure sum; {count} or less can be met"
            )
        if most * count < 1.0 and (summed or layer.own):
            yield (
                f"{layer.name}: max_leverage {most:g}, and in a sum of {count} clients one has "
                f"{1.0 / count:.3f} or more: it takes part in none; larger values can be met"
            )


@dataclass(frozen=True)
class _Layer:
    """The budgets of one place, what that is called, and whether it is the client's own policy."""

    name: str
    budgets: Budgets
    own: bool


def _layers(scenario: Scenario) -> Iterator[_Layer]:
    for client in scenario.clients:
        layers = policy_layers.of_client(client.name, client.policy)
        for number, layer in enumerate(layers):
            if layer.rules is not None:
                yield _Layer(layer.name, layer.rules.budgets, number == 0)
