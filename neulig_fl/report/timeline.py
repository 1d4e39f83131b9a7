"""A run stage by stage: the joint model's accuracy, what each client had released by then.

Sentences compare by one rule, `RULE`: a difference counts where its 95 % interval excludes 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neulig_fl.report import figures, rows
from neulig_fl.report.headline import MODELS, headline, quantity

RULE = (
    "'More' and 'less' are said of a difference whose 95 % interval (paired by query) excludes 0; "
    "of any other, 'no difference is shown'."
)


@dataclass(frozen=True)
class StageLine:
    """What a stage has, and what each client had released at its end.

    Attributes:
        name: of the stage.
        group: whose experts.
        given: kinds of record released in the stage, in words, each with the clients.
        row: the one that speaks for the stage (`headline`); None where none does.
        bytes: the least and the most that a client had released by then, over all stages.
        epsilon: the largest of a client by then, as printed; "-" where nothing was noised.
        refusals: how many there were in the stage.
    """

    name: str
    group: str
    given: tuple[str, ...]
    row: rows.TableRow | None
    bytes: tuple[int, int]
    epsilon: str
    refusals: int

    @property
    def label(self) -> str:
        """The row's method; "-" where there is none."""
        return self.row.label if self.row else figures.NULL

    @property
    def average(self) -> Mapping[str, Any]:
        """The row's averages, or nulls."""
        return self.row.average if self.row else rows.NO_AVERAGE

    @property
    def without(self) -> str:
        """Clients that the row is without, in words; "-" where there is none."""
        return self.row.fewer if self.row else figures.NULL

    @property
    def released(self) -> str:
        """Bytes of a client by then, in words.

        Example:
            >>> StageLine("a", "A", (), None, (1500, 2500), "-", 0).released
            '1.50-2.50 kB'
        """
        least, most = (figures.size(value) for value in self.bytes)
        if least == most:
            return most
        same_unit = least.split()[1] == most.split()[1]
        return f"{least.split()[0] if same_unit else least}-{most}"


def stage_lines(report: Mapping[str, Any]) -> list[StageLine]:
    """A line for each stage, in order."""
    everyone = rows.clients(report)
    so_far = dict.fromkeys(everyone, 0)
    spent = {each["stage"]: figures.epsilon(each["so_far"]) for each in report["privacy"]["stages"]}
    found = []
    for stage in report["stages"]:
        for release in stage["releases"]:
            so_far[release["client"]] += release["bytes"]
        sizes = so_far.values() or [0]
        speaker = headline(stage["results"])
        found.append(
            StageLine(
                stage["name"],
                stage["group"],
                tuple(_given(stage, everyone)),
                rows.row(speaker, everyone) if speaker else None,
                (min(sizes), max(sizes)),
                spent.get(stage["name"], figures.NULL),
                len(stage["refusals"]),
            )
        )
    return found


def _given(stage: Mapping[str, Any], everyone: Sequence[str]) -> Iterator[str]:
    """Kinds with their query sets together; who released them where that is not everyone."""
    owners: dict[tuple[str, str, str | None], dict[str, None]] = {}
    for given in stage["releases"]:
        record = given["kind"], given["protection"], given["queries"]
        owners.setdefault(record, {})[given["client"]] = None
    found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (kind, protection, asked), clients in owners.items():
        found.setdefault((kind, protection, tuple(clients)), []).extend([asked] if asked else [])
    for (kind, protection, givers), queries in found.items():
        of = f" of {' and '.join(queries)}" if queries else ""
        how = "" if protection == "none" else f" ({protection})"
        by = "" if set(givers) == set(everyone) else f" by {rows.who(givers, everyone)}"
        yield figures.plain(f"{kind}{of}{how}{by}")


def answers(report: Mapping[str, Any]) -> list[str]:
    """The run in sentences: the first stage's accuracy, then what each later stage changed."""
    lines = {line.name: line for line in stage_lines(report)}
    spoken = [line for line in lines.values() if line.row]
    if not spoken:
        return ["No stage has an accuracy: see the reasons below."]
    first = spoken[0]
    gave = f"after {first.released} from each client"
    said = [f"{first.name}: {headline_words(first)} {gave}{_less(first)}."]
    for before, line in itertools.pairwise(spoken):
        changed = _changed(report, line, before)
        said.append(f"{line.name}: {headline_words(line)}{_less(line)}; {changed}.")
    return [figures.plain(sentence) for sentence in (*said, *below(report), *unlike(report))]


def headline_words(line: StageLine) -> str:
    """The joint model's accuracy, of a stage that has one."""
    key = "merge_accuracy" if line.average["merge_accuracy"] is not None else "ensemble_accuracy"
    return f"{line.label}, {MODELS[key]} {figures.number(line.average[key])} %"


def _less(line: StageLine) -> str:
    return f", without {line.without}" if line.row and line.row.without else ""


def _changed(report: Mapping[str, Any], line: StageLine, before: StageLine) -> str:
    """What changed since the stage before: accuracy with its interval, and bytes."""
    more = line.bytes[1] - before.bytes[1]
    cost = f"{figures.size(more)} more from a client" if more > 0 else "nothing more was released"
    if line.group != before.group:
        cost = f"group {line.group}'s experts; {cost}"
    found = joint_difference(report, line.name, before.name)
    if found is None:
        return f"not comparable with {before.name} query by query; {cost}"
    return f"{difference(found)} {before.name}; {cost}"


def difference(found: Mapping[str, Any]) -> str:
    """A paired difference in words, by `RULE`.

    Example:
        >>> difference({"difference": 1.5, "ci95": [0.5, 2.5]})
        '1.50 points more [0.50, 2.50] than'
        >>> difference({"difference": -0.1, "ci95": [-0.5, 0.3]})
        'no difference is shown (-0.10 points [-0.50, 0.30]) from'
    """
    value, (low, high) = found["difference"], found["ci95"]
    ends = figures.interval((low, high))
    if low > 0 or high < 0:
        word = "more" if value > 0 else "less"
        return f"{figures.number(abs(value))} points {word} {ends} than"
    return f"no difference is shown ({figures.signed(value)} points {ends}) from"


def joint_difference(
    report: Mapping[str, Any], stage: str, versus: str
) -> Mapping[str, Any] | None:
    """The comparison of two stages' joint models; None where their queries are not the same."""
    kept = {s["name"]: quantity(row) for s in report["stages"] if (row := headline(s["results"]))}
    for found in report["stage_comparisons"]:
        names = found["stage"], found["versus"]
        sides = found["quantity"], found["versus_quantity"]
        if names == (stage, versus) and sides == (kept[stage], kept[versus]):
            joint: Mapping[str, Any] = found
            return joint
    return None


def unlike(report: Mapping[str, Any]) -> list[str]:
    """Gaps between a side made of noised records and one that is not: two things change at once."""
    found = []
    noised: dict[tuple[str, bool], set[bool]] = {}
    for stage in report["stages"]:
        for release in stage["releases"]:
            if release["queries"] in (None, "evaluation"):
                key = stage["group"], release["queries"] is None
                noised.setdefault(key, set()).add(isinstance(release["epsilon"], int | float))
        row = headline(stage["results"])
        outputs, models = (noised.get((stage["group"], of_models)) for of_models in (False, True))
        if row and row["average"]["gap_of_means"] is not None and outputs == {True} != models:
            found.append(
                f"In {stage['name']}, the gap is the noise's too: the ensemble is made of noised "
                "outputs, the merged model of parameters without noise."
            )
    return found


def below(report: Mapping[str, Any]) -> list[str]:
    """What a stage's joint model is worse than although it need not be: what nobody must share for.

    One sentence a stage whose accuracy lies below that of `pretrained` or of `simple-average`.
    """
    found = []
    for stage in report["stages"]:
        row = headline(stage["results"])
        key = quantity(row) if row else None
        if row is None or key is None:
            continue
        own = row["average"][key]
        under = [
            f"{other['method']} ({figures.number(other['average'][key])} %)"
            for other in stage["results"]
            if other is not row
            and other["method"] in ("pretrained", "simple-average")
            and other["average"]
            and other["average"][key] is not None
            and other["average"][key] > own
        ]
        if under:
            said = f"{rows.called(row)}, {MODELS[key]} {figures.number(own)} %"
            found.append(f"In {stage['name']}, {said} lies below {' and '.join(under)}.")
    return found
