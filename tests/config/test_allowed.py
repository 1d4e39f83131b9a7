"""What a message says is allowed: of every key, and in YAML that is right when it is written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from neulig_fl.config import allowed
from neulig_fl.config.policy_files import read as read_policy
from neulig_fl.config.scenario import as_written
from neulig_fl.core import variants
from neulig_fl.core.errors import ScenarioError
from neulig_fl.merging import methods
from neulig_fl.study.checking import load
from neulig_fl.study.scenario_schema import json_schema

WHOLE: dict[str, Any] = {
    "name": "every-key",
    "model": {"preprocess": {}},
    "tasks": {"own": {"source": "digits"}},
    "clients": [
        {"name": "north", "task": "digits", "policy": {"allow": [{"kind": "features"}]}},
        {"name": "east", "task": "shapes"},
    ],
    "stages": [{"name": "one", "share": [{"kind": "features"}], "run": ["vote"]}],
    "methods": [{"name": "ties"}],
}
BAD = (math.nan, math.inf, "@", -1, 1e30, None, [[]], {"@": 1}, True)
KEY = "north"
"""A key that is right where any name can stand."""


def _fields(schema: dict[str, Any], root: dict[str, Any]) -> Iterator[tuple[str | int, ...]]:
    """The steps to every key that a schema names, and to an entry of every list and mapping."""
    for part in allowed.at({**schema, "$defs": root["$defs"]}, ()):
        inside = [*part.get("properties", {}).items()]
        below = [part.get("additionalProperties"), *part.get("patternProperties", {}).values()]
        inside += [(KEY, each) for each in below if isinstance(each, dict)]
        inside += [(0, part["items"])] if "items" in part else []
        for step, each in inside:
            yield (step,)
            yield from ((step, *more) for more in _fields(each, root))


def _placed(steps: Sequence[str | int], value: object, tree: Any = WHOLE) -> Any:
    """The whole scenario with a value at steps; what is missing on the way is made."""
    if not steps:
        return value
    step, *more = steps
    if isinstance(step, int):
        entries = tree if isinstance(tree, list) else [None]
        return [_placed(more, value, entries[0]), *entries[1:]]
    here = tree if isinstance(tree, dict) else {}
    return {**here, step: _placed(more, value, here.get(step))}


SCHEMA = json_schema()
FIELDS = list(dict.fromkeys(_fields(SCHEMA, SCHEMA)))


def _told(path: Path, tree: Any, read: Any = load) -> list[str]:
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    try:
        read(path)
    except ScenarioError as error:
        return str(error).splitlines()
    return []


def _valid_in_itself(path: Path) -> None:
    as_written(path, schema=lambda: SCHEMA)


def _require_clear(line: str) -> None:
    assert not re.search(r"allowed:\s*(;|$)|; *$", line), line
    assert "nput should" not in line, line


@pytest.mark.parametrize("steps", FIELDS, ids=lambda steps: ".".join(map(str, steps)))
def test_what_is_allowed_is_said_of_every_key(steps: tuple[str | int, ...], tmp_path: Path) -> None:
    """A user would be told that a value is wrong, and not which one is right."""
    refused = 0
    for value in BAD:
        read = load if "protection" in steps else _valid_in_itself
        lines = _told(tmp_path / "x.yaml", _placed(steps, value), read)
        refused += bool(lines)
        for line in lines:
            _require_clear(line)
            if re.search(r": (wrong type|out of range|not a finite number|unknown value)", line):
                assert "; allowed: " in line, line
    assert refused >= 3, steps


def test_every_model_is_walked() -> None:
    """The test above would pass over a section that it does not find."""
    names = {step for steps in FIELDS for step in steps}
    assert {"max_epsilon", "noise_multiplier", "per_class", "tolerance", "tune"} <= names
    assert len(FIELDS) >= 150


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_what_is_allowed_is_said_of_a_policy_file(value: object, tmp_path: Path) -> None:
    """A node's own file has no scenario around it, and a schema of its own."""
    for steps in FIELDS:
        if steps[:3] == ("clients", 0, "policy") and len(steps) > 3:
            tree = _placed(steps, value)["clients"][0]["policy"]
            for line in _told(tmp_path / "p.yaml", tree, read_policy):
                _require_clear(line)


@pytest.mark.parametrize("method", variants.names("neulig_fl.merging.methods"))
def test_what_is_allowed_is_said_of_every_option_of_a_method(method: str, tmp_path: Path) -> None:
    """A message would be pydantic's own, and leave out the range."""
    for key in methods.options(methods.load(method)).model_fields:
        for value in BAD:
            tree = {**WHOLE, "methods": [{"name": method, "options": {key: value}}]}
            for line in _told(tmp_path / "x.yaml", tree):
                _require_clear(line)
                if f"options.{key}" in line:
                    assert "; allowed: " in line, line


def test_a_range_is_said_of_a_methods_option(tmp_path: Path) -> None:
    """`density: 3` would be answered with a sentence of pydantic's."""
    tree = {**WHOLE, "methods": ["ties", {"name": "ties", "options": {"density": 3}}]}
    told = "option density of ties: out of range (got 3); allowed: a number, above 0, at most 1; "
    lines = _told(tmp_path / "x.yaml", tree)
    assert any(f"methods.1.options.density: {told}see" in line for line in lines), lines


PROTECTIONS = (
    "none, sealed, secure-aggregation, or a mapping of one name to its options, such as "
    "{gaussian: {epsilon: 8.0, clip: 1.0, delta: 1.0e-05}}"
)
OPTIONS = "a mapping with the keys clip, delta, epsilon, noise_multiplier, such as {epsilon: 8.0,"


@pytest.mark.parametrize(
    ("steps", "value", "words"),
    [
        ("protection", {"gaussian": {"epsilon": math.inf, "clip": 1}}, "allowed: a number, at least 0.001, at most"),
        ("protection", {"gaussian": [8, 1]}, f"(got [8, 1]); allowed: {OPTIONS}"),
        ("protection", {"gaussian": {"noise": math.nan}}, "noise: unknown key; allowed: clip, delta,"),
        ("protection", {"sealed": 3}, "(got 3); allowed: null or {}"),
        ("protection", {"kind": "gaussian", "epsilon": 8}, f"allowed: {PROTECTIONS}"),
        ("protection", {"gaussian": {"epsilon": 8}, "sealed": None}, f"allowed: {PROTECTIONS}"),
        ("protection", ["sealed", {"gaussian": {"epsilon": 8}}], f"allowed: {PROTECTIONS}"),
        ("protection", "gausian", f"allowed: {PROTECTIONS}; did you mean gaussian?"),
        ("protection", {"secure-aggregation": {"threshold": 3, "clip": 64}},
         "write protection: secure-aggregation, and put threshold and clip under the scenario's own key secure_aggregation"),
    ],
)  # fmt: skip
def test_a_protection_is_shown_with_its_options(
    steps: str, value: object, words: str, tmp_path: Path
) -> None:
    """Only names would be listed, and nobody could guess how options are written."""
    lines = _told(tmp_path / "x.yaml", _placed(("stages", 0, "share", 0, steps), value))
    assert any(words in line for line in lines), lines


@pytest.mark.parametrize(
    ("steps", "value", "advice"),
    [
        (("stages", 0, "share"), "features", "[{kind: features}]"),
        (("stages", 0, "share"), "featurs", "[{kind: features}]"),
        (("stages", 0, "share"), {"kind": "features"}, "[{kind: features}]"),
        (("stages", 0, "share"), {"kind": "logits", "queries": "pool"}, "[{kind: logits, queries: [pool]}]"),
        (("stages", 0, "share", 0), "features", "{kind: features}"),
        (("clients", 0, "policy", "allow"), "features", "[{kind: features}]"),
        (("clients", 0, "policy", "allow"), {"kind": "features"}, "[{kind: features}]"),
        (("clients", 0, "policy", "never"), "featurs", "[features]"),
        (("stages", 0, "run"), "vot", "[vote]"),
        (("methods",), "ties", "[ties]"),
        (("methods",), {"name": "ties"}, "[{name: ties}]"),
        (("seeds",), 7, "[7]"),
        (("tasks", "own", "templates"), "a {}", "['a {}']"),
    ],
)  # fmt: skip
def test_the_yaml_that_is_advised_is_right(
    steps: tuple[str | int, ...], value: object, advice: str, tmp_path: Path
) -> None:
    """A user would write what is advised, and get the next error at the same place."""
    place = ".".join(map(str, steps))
    lines = _told(tmp_path / "x.yaml", _placed(steps, value))
    (line,) = [line for line in lines if f" {place}: " in line]
    assert line.partition("; write ")[2] == advice, line
    after = _told(tmp_path / "x.yaml", _placed(steps, yaml.safe_load(advice)))
    assert not any("wrong type" in line or "unknown" in line for line in after), after


@pytest.mark.parametrize("value", ["@", 3, {"sort": "features"}, None, {"kind": "@"}, {}])
def test_nothing_is_advised_where_nothing_is_near(value: object, tmp_path: Path) -> None:
    """What is advised would be as wrong as what was written."""
    lines = _told(tmp_path / "x.yaml", _placed(("stages", 0, "share"), value))
    assert lines
    assert not any("write" in line for line in lines), lines


@pytest.mark.parametrize("key", ["allow", "preset"])
def test_null_is_not_allowed_where_it_is_refused(key: str, tmp_path: Path) -> None:
    """One message would say that null can stand there, and the next that it cannot."""
    steps = ("clients", 0, "policy", key)
    (line,) = [x for x in _told(tmp_path / "x.yaml", _placed(steps, 3)) if f".{key}: " in x]
    assert "null" not in line.partition("; allowed: ")[2]
    lines = _told(tmp_path / "x.yaml", _placed(steps, None))
    assert any(f"policy.{key}: is empty (got null); " in line for line in lines)
