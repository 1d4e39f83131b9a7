"""Policy files: the presets and a user's own, read and checked against themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from neulig_fl.config.policy_rules import AllowRule, Policy, is_policy_file
from neulig_fl.config.problems import Problem, problems_of, quoted, report
from neulig_fl.config.schema import exists, place
from neulig_fl.config.values import NOISELESS, TRIMMED, WITHOUT_QUERIES
from neulig_fl.config.yaml_source import read as read_yaml
from neulig_fl.core import variants
from neulig_fl.core.errors import ScenarioError, nearest

PRESETS = Path(__file__).parent / "presets"
"""The presets: policy files that come with the package, to be named or copied."""

PROTECTIONS = "neulig_fl.records.protections"

Fits = Callable[[str, str], bool]
"""Whether a protection can be had of a kind of record, by the names of both."""

MOST_PRESETS = 5
"""Presets that name presets, at most this many."""


def presets() -> list[str]:
    """The names of the presets.

    Example:
        >>> "outputs-only" in presets()
        True
    """
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read(path: Path, within: Sequence[Path] = (), fits: Fits | None = None) -> Policy:
    """Read a policy file and check it.

    Args:
        path: YAML file. A preset's relative path in it starts from its folder.
        within: the files whose presets led here, outermost first.
        fits: looks whether rules can be met; unless given, that is not looked at.

    Raises:
        ScenarioError: it cannot be read, or contradicts itself; a line for each thing that is
            wrong: file:line:column and what to do.
    """
    source = read_yaml(path)
    try:
        policy = Policy.model_validate(source.data)
    except ValidationError as error:
        report(source, problems_of(error, Policy.model_json_schema(), source))
        raise
    report(source, [*_silent(policy), *problems(policy, path.parent, (*within, path), fits)])
    return policy


def preset_path(preset: str, folder: Path) -> Path:
    """The file of a preset: the package's, or the user's own, which starts from `folder`."""
    return place(folder, preset) if is_policy_file(preset) else PRESETS / f"{preset}.yaml"


def problems(
    policy: Policy, folder: Path, within: Sequence[Path] = (), fits: Fits | None = None
) -> Iterator[Problem]:
    """What a policy says against itself, and what is wrong with its preset.

    Args:
        policy: valid key by key.
        folder: where a preset's relative path starts.
        within: the files that led here.
        fits: as for `read`.
    """
    for index, kind in enumerate(policy.never):
        if policy.only is not None and kind in policy.only:
            yield Problem(
                ("never", index), f"{kind} stands in only as well; keep it in one of them"
            )
    for index, rule in enumerate(policy.allow or ()):
        for key, text in _against(rule, policy):
            yield Problem(("allow", index, key), text)
        if fits is not None and _unmet(rule, fits):
            yield Problem(("allow", index, "protections"), _unmet_words(rule, fits))
    yield from _without_noise(policy)
    yield from _empty(policy)
    yield from _preset_problems(policy, folder, within, fits)


def _silent(policy: Policy) -> Iterator[Problem]:
    """A file that was cut off must not read as a policy that forbids nothing."""
    if not policy.model_fields_set:
        keys = ", ".join(Policy.model_fields)
        yield Problem((), f"the policy says nothing; give it one of {keys}")


def _empty(policy: Policy) -> Iterator[Problem]:
    """A key whose value was lost must not read as one that says nothing."""
    given = policy.model_fields_set
    if "allow" in given and policy.allow is None:
        yield Problem(
            ("allow",), "is empty (got null); write [] to let nothing out, or remove the key"
        )
    if "preset" in given and policy.preset is None:
        yield Problem(
            ("preset",), f"is empty (got null); {nearest('', presets())}; or remove the key"
        )


def _against(rule: AllowRule, policy: Policy) -> Iterator[tuple[str, str]]:
    kind, got = rule.kind, f"(got {quoted(rule.queries)})"
    if kind in policy.never:
        yield "kind", f"{kind} is allowed here and stands in never; remove one of the two"
    elif policy.only is not None and kind not in policy.only:
        yield "kind", f"{kind} is allowed here and left out of only; add it there or remove this"
    if kind == "inputs" and set(rule.queries or ()) - {"train"}:
        yield "queries", f"a client holds the inputs of train only {got}; write [train]"
    elif kind in WITHOUT_QUERIES:
        if rule.queries is not None:
            yield "queries", f"{kind} answers no queries {got}; leave queries out"
        if "fraction" in rule.model_fields_set and kind != TRIMMED:
            yield "fraction", f"{kind} leaves whole or not at all; leave fraction out"


def _unmet(rule: AllowRule, fits: Fits) -> bool:
    """Whether no record of the kind can have one of the protections: nothing leaves under it."""
    return rule.protections is not None and not any(
        fits(name, rule.kind) for name in rule.protections
    )


def _unmet_words(rule: AllowRule, fits: Fits) -> str:
    others = [name for name in variants.names(PROTECTIONS) if fits(name, rule.kind)]
    got = f"(got {quoted(rule.protections)})"
    return f"no record of {rule.kind} can have such a protection {got}; {nearest('', others)}"


def _without_noise(policy: Policy) -> Iterator[Problem]:
    guards = [rule.protections for rule in policy.allow or ()]
    if policy.budgets.max_epsilon is None or not guards or None in guards:
        return
    if not any(set(guard) - set(NOISELESS) for guard in guards if guard):
        yield Problem(
            ("budgets", "max_epsilon"),
            f"{', '.join(NOISELESS)} give no epsilon that is finite, and no rule of allow has "
            "another protection; add one that adds noise, such as gaussian, or leave this out",
        )


def _preset_problems(
    policy: Policy, folder: Path, within: Sequence[Path], fits: Fits | None
) -> Iterator[Problem]:
    preset = policy.preset
    if preset is None:
        return
    path, steps, got = preset_path(preset, folder), ("preset",), f"(got {quoted(preset)})"
    if not is_policy_file(preset) and preset not in presets():
        what = f"no such preset {got}; {nearest(preset, presets())}"
        yield Problem(steps, f"{what}; or give the path of a policy file")
    elif not exists(path, "file"):
        looked = f"looked for {path}; a relative path starts from this file's folder"
        yield Problem(steps, f"there is no such file {got}; {looked}")
    elif path in within or len(within) >= MOST_PRESETS:
        yield Problem(steps, f"presets lead back to themselves, or too far {got}; leave one out")
    else:
        yield from _with_preset(policy, path, within, fits)


def _with_preset(
    policy: Policy, path: Path, within: Sequence[Path], fits: Fits | None
) -> Iterator[Problem]:
    """What the preset's file has wrong, each of it, or what contradicts the preset."""
    try:
        inner = _all_of(path, within, fits)
    except ScenarioError as error:
        for line in str(error).splitlines():
            yield Problem(("preset",), f"it cannot be used: {line}")
        return
    instead = "and both must; change the rule, or copy the preset's file and change that"
    for index, rule in enumerate(policy.allow or ()):
        if not all(_possible(rule, each) for each in inner):
            what = f"the preset does not allow {rule.kind} like this, {instead}"
            yield Problem(("allow", index), what)
    for index, kind in enumerate(policy.only or ()):
        if not _lets_out(inner, kind):
            yield Problem(("only", index), f"the preset does not allow {kind}, {instead}")
    kinds = {rule.kind for each in inner for rule in each.allow or ()}
    left = {kind for kind in kinds if _lets_out(inner, kind)}
    if left and left <= set(policy.never):
        what = "nothing is left of what the preset allows; write allow: [] to let nothing out"
        yield Problem(("never",), what)


def _lets_out(policies: Sequence[Policy], kind: str) -> bool:
    """Whether policies that all hold allow a kind, on whichever queries."""
    return all(_possible(AllowRule(kind=kind), each) for each in policies)


def _all_of(path: Path, within: Sequence[Path], fits: Fits | None) -> list[Policy]:
    """The policy of a file, and those of the presets that it leads to."""
    found = [read(path, within, fits)]
    while (preset := found[-1].preset) is not None:
        within, path = (*within, path), preset_path(preset, path.parent)
        found.append(read(path, within, fits))
    return found


def _possible(rule: AllowRule, policy: Policy) -> bool:
    """Whether a rule allows anything that a policy allows as well."""
    if rule.kind in policy.never or (policy.only is not None and rule.kind not in policy.only):
        return False
    if policy.allow is None:
        return True
    return any(
        other.kind == rule.kind
        and _in_common(other.queries, rule.queries)
        and _in_common(other.protections, rule.protections)
        for other in policy.allow
    )


def _in_common(one: Sequence[str] | None, other: Sequence[str] | None) -> bool:
    return one is None or other is None or bool(set(one) & set(other))
