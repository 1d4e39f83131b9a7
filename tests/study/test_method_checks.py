"""What `check` says of a scenario's merge methods before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from neulig_fl.core.errors import ScenarioError
from neulig_fl.study.checking import load

OUTPUTS = {"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland", "ensemble"]}
PARAMETERS = {"name": "merging", "share": [{"kind": "parameters"}], "run": ["merge"]}
SUMS = {
    "name": "sums",
    "share": [
        {"kind": "parameters", "protection": "secure-aggregation"},
        {"kind": "gram", "protection": "secure-aggregation"},
        {"kind": "fisher", "protection": "secure-aggregation"},
    ],
    "run": ["merge"],
    "granularity": ["global"],
}


def wrong(folder: Path, data: Path, methods: list[Any], *stages: Any, **changes: Any) -> list[str]:
    """What is said of a scenario: the field and the words, a line each; nothing where it is good."""
    said = {"stages": list(stages) or [OUTPUTS, PARAMETERS], "methods": methods, **changes}
    path = tiny.write(folder, data, **said)
    try:
        load(path)
    except ScenarioError as error:
        return [line.split(": ", 1)[1] for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("tiess", 'methods.0.name: unknown value (got "tiess"); allowed: adamerging, consensus'),
        ({"name": "ties", "options": {"densty": 0.1}}, "methods.0.options.densty: ties has no option"),
        ({"name": "ties", "options": {"density": 2}}, "methods.0.options.density: option density of"),
        ({"name": "ties", "options": {"density": [1]}}, "methods.0.options.density"),
        ({"name": "ties", "tune": {"density": [0.1, 7.0]}}, "methods.0.tune.density.1: option density"),
        ({"name": "ties", "tune": {"density": []}}, "methods.0.tune.density: there is nothing to try"),
        ({"name": "ties", "colour": 1}, "methods.0.colour: unknown key; allowed: name, options, tune"),
        ("slerp", "methods.0: slerp merges 2 experts (got 3 clients); leave it out"),
        ("regmean", "methods.0: regmean needs sums of gram and parameters, and no stage that merges"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(
    method: Any, words: str, data: Path, tmp_path: Path
) -> None:
    """A run of an hour would end with a method that cannot be."""
    found = wrong(tmp_path, data, [method])

    assert any(words in line for line in found), found


def test_what_is_missing_is_named_with_what_to_add(data: Path, tmp_path: Path) -> None:
    """A user would know that it is wrong and not what to write."""
    (line,) = wrong(tmp_path, data, ["regmean"])

    assert "add {kind: gram} to the share of a stage that runs merge, or leave regmean out" in line


def test_an_option_stands_once(data: Path, tmp_path: Path) -> None:
    """An option that is set and tuned would have two values."""
    both = {"name": "ties", "options": {"lambda": 1.0}, "tune": {"lambda": [0.5, 1.0]}}
    (line,) = wrong(tmp_path, data, [both])

    assert line.startswith("methods.0.tune.lambda: stands in options as well")


def test_a_method_stands_once_with_the_same_options(data: Path, tmp_path: Path) -> None:
    """Two rows of one name could not be told apart, and one would replace the other."""
    (line,) = wrong(tmp_path, data, ["ties", {"name": "ties"}])

    assert line.startswith('methods.1: stands there twice (got "ties", as in methods.0)')
    assert wrong(tmp_path, data, ["ties", {"name": "ties", "options": {"density": 0.1}}]) == []


def test_too_many_combinations_are_refused(data: Path, tmp_path: Path) -> None:
    """A typo in a list would keep a machine busy for days."""
    values = [i / 100 for i in range(1, 60)]
    (line,) = wrong(
        tmp_path, data, [{"name": "ties", "tune": {"density": values, "lambda": values}}]
    )

    assert line.startswith("methods.0.tune: 3481 combinations would be tried; at most 1000 are")


def test_task_vectors_need_a_common_checkpoint(data: Path, tmp_path: Path) -> None:
    """A method would subtract a checkpoint that no expert started from."""
    methods = ["task-arithmetic", "git-rebasin", "zipit"]
    (line,) = wrong(tmp_path, data, methods, experts={"origin": "diverse", "epochs": 1})

    assert line.startswith(
        "methods.0: task-arithmetic needs theta_0, and experts of diverse origin"
    )


def test_sums_alone_permit_what_sums_are_enough_for(data: Path, tmp_path: Path) -> None:
    """A method on sums would be refused at check, or one on single records let through."""
    enough = ["task-arithmetic", "regmean", "fisher", "iso-c", "lines"]
    (line,) = wrong(tmp_path, data, [*enough, "ties"], OUTPUTS, SUMS)

    assert line.startswith(
        "methods.5: ties needs parameters of each client, and no stage that merges"
    )
    assert "with another protection than secure-aggregation" in line


def test_an_ensemble_is_enough_for_a_method_that_has_one(data: Path, tmp_path: Path) -> None:
    """Outputs-only studies could not compare with the methods that have an ensemble."""
    found = wrong(tmp_path, data, ["task-arithmetic", "adamerging", "ties"], OUTPUTS)

    assert [line.split(":")[0] for line in found] == ["methods.2"]


def test_examples_are_for_statistics(data: Path, tmp_path: Path) -> None:
    """An option would be parsed and ignored."""
    share = [{"kind": "parameters", "examples": 5}]
    (line,) = wrong(tmp_path, data, [], OUTPUTS, {**PARAMETERS, "share": share})

    assert line == (
        "stages.1.share.0.examples: only gram and fisher are measured on examples (got 5); "
        "leave it out"
    )
