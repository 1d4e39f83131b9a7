"""`neulig-fl plan`: who would release what at each stage, and which results that permits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from neulig_fl.cli.options import AsJson, ScenarioFile, Settings
from neulig_fl.cli.streams import echo_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from neulig_fl.records.kinds import Request
    from neulig_fl.records.release_plan import Planned, Setting
    from neulig_fl.records.secagg.plan import PlannedSum
    from neulig_fl.study.cost_outlook import CostOutlook
    from neulig_fl.study.outlook import StageOutlook
    from neulig_fl.study.permitted import Permitted
    from neulig_fl.study.uses import Record

NOT_KNOWN = (
    "A plan does not know the policies of nodes, nor what earlier runs released: more may be "
    "refused."
)

NOISE = ("epsilon", "delta", "adjacency", "noise_multiplier", "clip")
"""What is said of a record's noise, as its client will sign it; null where it has none."""

BY_COOPVECS = (
    "Leverage is the largest of a client, with all sums before it. CoopVecs decide where it lies "
    "between the two figures; above max_leverage the client refuses the sum. As many different "
    "sums as there are clients determine every client's record."
)


def plan(
    scenario: ScenarioFile,
    settings: Settings = [],  # noqa: B006 (typer copies it)
    as_json: AsJson = False,
) -> None:
    r"""List what each client would release at each stage, and which results that permits.

    Nothing is trained and no weights are loaded. Images that are not built in are decoded once,
    because hashes of their pixels determine the splits. Rows and bytes equal those in the report of
    a run.

    [bold]Examples[/]
      neulig-fl plan scenarios/quickstart.yaml
      neulig-fl plan my.yaml --set clients.0.policy.never=\[parameters] --set on_refusal=continue
      neulig-fl plan my.yaml --json
    """
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.records.release_plan import open_setting
    from neulig_fl.study.checking import open_scenario

    read = open_scenario(scenario, settings).resolved
    setting = open_setting(read, read.all_seeds[0])
    found = Plan.of(setting)
    if as_json:
        echo_json(record(found))
    else:
        _print(found, PlainConsole())


@dataclass(frozen=True)
class Plan:
    """What is foreseen of a run.

    Args:
        setting: the scenario, opened.
        outlooks: its stages, as far as the run would come.
        cost: what they would cost in differential privacy.
        unused: what nothing uses, by stage (`uses.unused`).
    """

    setting: Setting
    outlooks: Sequence[StageOutlook]
    cost: CostOutlook
    unused: Mapping[str, Sequence[Record]]

    @classmethod
    def of(cls, setting: Setting) -> Plan:
        """Go through a scenario that is opened."""
        from neulig_fl.study import cost_outlook
        from neulig_fl.study.dry_run import rehearse
        from neulig_fl.study.uses import unused

        outlooks = list(rehearse(setting))
        return cls(setting, outlooks, cost_outlook.foreseen(setting, outlooks), unused(setting))

    @property
    def everyone(self) -> list[str]:
        """Names of all clients."""
        return [client.name for client in self.setting.scenario.clients]

    def uses(self, request: Request) -> bool:
        """Whether something uses what is asked for."""
        return (request.kind, request.queries) not in self.unused.get(request.stage, ())


def record(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values."""
    from neulig_fl.config import conditions
    from neulig_fl.study import remarks

    read, outlooks = plan.setting.scenario, plan.outlooks
    return {
        "scenario": read.name,
        "seed": plan.setting.seed,
        "stages": [_stage_record(plan, outlook) for outlook in outlooks],
        "not_reached": [stage.name for stage in read.stages[len(outlooks) :]],
        "clients": totals(plan.setting, outlooks),
        "privacy": plan.cost.record(),
        "never_met": list(remarks.never_met(read)),
        "conditions": conditions.of(read),
        "not_known": NOT_KNOWN,
    }


def _stage_record(plan: Plan, outlook: StageOutlook) -> dict[str, Any]:
    from neulig_fl.study import remarks

    return {
        "name": outlook.stage.name,
        "group": outlook.stage.group,
        "known": {what: list(clients) for what, clients in outlook.known.items()},
        "releases": [_release_record(plan, item) for item in outlook.released],
        "refusals": [
            {"client": item.client, "kind": item.request.kind, "reason": item.refusal}
            for item in outlook.refused
        ],
        "sums": [asdict(planned) for planned in outlook.sums],
        "results": [asdict(result) for result in outlook.results],
        "stops": outlook.stops,
        "may_stop": remarks.may_end(plan.setting.scenario, outlook),
    }


def _release_record(plan: Plan, item: Planned) -> dict[str, Any]:
    request = item.request
    return {
        "client": item.client,
        "kind": request.kind,
        "queries": request.queries,
        "protection": request.protection,
        "rows": item.rows,
        "bytes": item.bytes,
        **{key: item.entry.get(key) for key in NOISE},
        "used": plan.uses(request),
    }


def totals(setting: Setting, outlooks: Sequence[StageOutlook]) -> list[dict[str, Any]]:
    """Each client's records and bytes over all stages, in the scenario's order.

    What it masks for secure sums stands apart: the server cannot read it. It is counted as if no
    client refused a sum by its CoopVecs.
    """
    released = [item for outlook in outlooks for item in outlook.released]
    summed = [each for outlook in outlooks for each in outlook.sums if each.refusal is None]
    found = []
    for client in setting.scenario.clients:
        own = [item for item in released if item.client == client.name]
        masked = [each for each in summed if client.name in each.clients]
        found.append(
            {
                "client": client.name,
                "records": len(own),
                "bytes": sum(item.bytes for item in own),
                "masked_records": len(masked),
                "masked_bytes": sum(each.bytes for each in masked),
            }
        )
    return found


def _print(plan: Plan, console: Console) -> None:
    from neulig_fl.config import conditions
    from neulig_fl.report.terminal import heading
    from neulig_fl.study import remarks

    read, outlooks = plan.setting.scenario, plan.outlooks
    _say(console, f"{read.name}: what a run would release and permit (seed {plan.setting.seed}).")
    for outlook in outlooks:
        heading(console, f"Stage {outlook.stage.name} (group {outlook.stage.group})")
        _print_stage(plan, outlook, console)
    for stage in read.stages[len(outlooks) :]:
        _say(console, f"Stage {stage.name} would not be reached.")
    heading(console, "What each client would give away")
    _print_totals(totals(plan.setting, outlooks), console)
    _say(console, *remarks.never_met(read), NOT_KNOWN, *conditions.of(read))


def _print_stage(plan: Plan, outlook: StageOutlook, console: Console) -> None:
    from neulig_fl.report.rows import who
    from neulig_fl.study import remarks

    everyone, name = plan.everyone, outlook.stage.name
    known = [f"{what} ({who(clients, everyone)})" for what, clients in outlook.known.items()]
    if known:
        _say(console, f"Known from earlier stages: {', '.join(known)}.")
    if outlook.released:
        console.print(_releases(plan, outlook.released))
    elif not outlook.sums:
        _say(console, "Nothing new would be released.")
    for item in outlook.refused:
        what = _what(item)
        _say(console, f"- {item.client} would refuse {what}: {item.refusal}")
    if outlook.sums:
        console.print(_sums(outlook.sums, everyone))
        if any(each.leverage[0] < each.leverage[1] for each in outlook.sums):
            _say(console, BY_COOPVECS)
    _say(console, *colluding(outlook.sums), *not_summed(outlook.sums), plan.cost.sentence(name))
    uncertain = remarks.may_end(plan.setting.scenario, outlook)
    if uncertain is not None:
        _say(console, f"The run would end here {uncertain}.")
    if outlook.stops is not None:
        _say(console, f"The run would end here: {outlook.stops}.")
    _say(console, *permissions(outlook.results))


def permissions(results: Sequence[Permitted]) -> list[str]:
    """Which results a stage permits, in sentences."""
    from neulig_fl.report.rows import label

    names = {
        id(result): label(result.method, result.granularity, result.variant) for result in results
    }
    groups = {
        "Permits merge and ensemble accuracy of": [r for r in results if r.merge and r.ensemble],
        "Permits ensemble accuracy of": [r for r in results if r.ensemble and not r.merge],
        "Permits merge accuracy of": [r for r in results if r.merge and not r.ensemble],
        "Does not permit": [r for r in results if not r.ensemble and not r.merge],
    }
    sentences = [
        f"{words}: {', '.join(names[id(result)] for result in found)}."
        for words, found in groups.items()
        if found
    ]
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result.reason:
            reasons.setdefault(result.reason, []).append(names[id(result)])
    return sentences + [f"- {', '.join(of)}: {reason}" for reason, of in reasons.items()]


def colluding(planned: Sequence[PlannedSum]) -> list[str]:
    """How many clients may work together with the server in which sums, in sentences."""
    from neulig_fl.config import conditions
    from neulig_fl.report.rows import label

    rows: dict[int, list[str]] = {}
    for each in planned:
        if each.colluders is not None:
            what = f"{_of(each.kind, each.queries)} for {label(each.method, each.granularity)}"
            rows.setdefault(each.colluders, []).append(what)
    if len(rows) == 1:
        return [f"In these sums, {conditions.with_server(*rows)}."]
    return [
        f"In sums of {', '.join(of)}, {conditions.with_server(number)}."
        for number, of in rows.items()
    ]


def not_summed(planned: Sequence[PlannedSum]) -> list[str]:
    """Who would refuse which sums, and which sums there would not be, in sentences."""
    from neulig_fl.report.rows import label

    sentences: dict[str, list[str]] = {}
    for each in planned:
        what, row = _of(each.kind, each.queries), label(each.method, each.granularity)
        for client, reason in each.refusals.items():
            said = f"- {client} would refuse sums of {what} for {{}}: {reason}"
            sentences.setdefault(said, []).append(row)
        if each.refusal is not None:
            said = f"- no sums of {what} for {{}}: {each.refusal}"
            sentences.setdefault(said, []).append(row)
    return [said.replace("{}", ", ".join(rows), 1) for said, rows in sentences.items()]


def leverage_words(leverage: tuple[float, float]) -> str:
    """The largest leverage of a client in words.

    Example:
        >>> leverage_words((0.2, 0.2)), leverage_words((1 / 3, 1.0))
        ('0.200', '0.333 to 1')
    """
    least, most = leverage
    return f"{least:.3f}" if least == most else f"{least:.3f} to {most:g}"


def _what(item: Planned) -> str:
    from neulig_fl.config.values import TRIMMED

    request = item.request
    share = f", {100 * request.fraction:g} %" if request.kind == TRIMMED else ""
    return f"{_of(request.kind, request.queries)}{share}"


def _of(kind: str, queries: str | None) -> str:
    return f"{kind} of {queries}" if queries else kind


def _sums(planned: Sequence[PlannedSum], everyone: Sequence[str]) -> Table:
    """The secure sums that there would be, a line for each row and kind of record."""
    from rich.text import Text

    from neulig_fl.report.rows import label, who
    from neulig_fl.report.tables import empty_table

    columns = ["Sums for", "Of", "Clients", "Sums", "Bytes each", "Leverage"]
    table = empty_table(columns, words=3)
    for each in planned:
        cells = (
            label(each.method, each.granularity),
            _of(each.kind, each.queries),
            who(each.clients, everyone),
            "-" if each.refusal else str(each.sums),
            "-" if each.refusal else f"{each.bytes:,}",
            "-" if each.refusal else leverage_words(each.leverage),
        )
        table.add_row(*map(Text, cells))
    return table


def _releases(plan: Plan, released: Sequence[Planned]) -> Table:
    """One line for clients whose records are alike."""
    from rich.text import Text

    from neulig_fl.report.rows import who
    from neulig_fl.report.tables import empty_table

    alike: dict[tuple[str, ...], list[str]] = {}
    for item in released:
        alike.setdefault(_cells(plan, item), []).append(item.client)
    noised = any(item.entry.get("epsilon") is not None for item in released)
    heads = ["Clients", "Record", "Rows", "Bytes each", *(["Epsilon", "Delta"] if noised else [])]
    table = empty_table(heads, words=2)
    for cells, clients in alike.items():
        table.add_row(*map(Text, [who(clients, plan.everyone), *cells][: len(heads)]))
    return table


def _cells(plan: Plan, item: Planned) -> tuple[str, ...]:
    """A record in words, its rows where those count, its bytes, and what its noise promises."""
    from neulig_fl.report import figures

    guard = item.request.protection
    what = f"{_what(item)}, {'unprotected' if guard == 'none' else guard}"
    return (
        what if plan.uses(item.request) else f"{what} (nothing uses it)",
        figures.count(item.record.counted_rows),
        figures.count(item.bytes),
        figures.epsilon(item.entry.get("epsilon")),
        figures.epsilon(item.entry.get("delta")),
    )


def _print_totals(found: Sequence[Mapping[str, Any]], console: Console) -> None:
    from rich.text import Text

    from neulig_fl.report.tables import empty_table

    keys = ["records", "bytes"]
    if any(entry["masked_records"] for entry in found):
        keys += ["masked_records", "masked_bytes"]
    table = empty_table(["Client", *(key.replace("_", " ").capitalize() for key in keys)])
    for entry in found:
        table.add_row(*map(Text, [entry["client"], *(f"{entry[key]:,}" for key in keys)]))
    console.print(table)


def _say(console: Console, *sentences: str | None) -> None:
    """Print what there is to say, a line each."""
    from rich.text import Text

    for words in sentences:
        if words is not None:
            console.print(Text(words, overflow="fold"), highlight=False)
