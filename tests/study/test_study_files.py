"""A study's file: what is read, what is refused and where, and the cases that come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config import studies
from neulig_fl.config.overrides import as_text, with_text
from neulig_fl.config.yaml_source import parse
from neulig_fl.core.errors import ScenarioError
from neulig_fl.study.checking import open_scenario
from neulig_fl.study.study_files import open_study

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "scenarios" / "studies").glob("*.yaml"))

BASE = """\
name: small
seed: 7
clients:
  - {name: north, task: digits}
  - {name: east, task: glyphs}
experts: {groups: [A], epochs: 2}
portland: {alignment: none}
queries: {pool: 30, evaluation: 40}
stages:
  - name: outputs
    share: [{kind: features, queries: [pool, evaluation]}]
    run: [train-portland, ensemble]
"""

GOOD = """\
name: two
question: Which one?
base: base.yaml
seeds: [7, 8]
common: {experts.epochs: 1}
cases:
  as-it-is: {}
  closed:
    clients.*.policy: {preset: outputs-only}
    queries:
      pool: 20
vary:
  experts.lr: [1.0e-3, 1.0e-4]
"""

MANY = "\n".join(
    f"  {key}: {list(range(1, 101))}"
    for key in ("queries.pool", "queries.evaluation", "portland.epochs", "portland.batch_size")
)
"""A grid of 10^8 points."""


def write(folder: Path, text: str = GOOD) -> Path:
    (folder / "base.yaml").write_text(BASE)
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_cases_are_the_scenario_with_their_overrides(tmp_path: Path) -> None:
    """Without it a case would be another scenario than its text says."""
    study = open_study(write(tmp_path))
    assert [case.name for case in study.cases] == [
        "as-it-is-lr-0-001",
        "as-it-is-lr-0-0001",
        "closed-lr-0-001",
        "closed-lr-0-0001",
    ]
    last = study.cases[-1].opened.scenario
    assert (last.experts.lr, last.experts.epochs, last.queries.pool) == (1e-4, 1, 20)
    assert last.queries.evaluation is None, "a mapping takes the whole place, as with --set"
    assert {client.policy.preset for client in last.clients} == {"outputs-only"}
    assert study.cases[0].varied == {"experts.lr": 1e-3}
    assert study.versus == "as-it-is-lr-0-001"
    assert [(run.case.name, run.seed) for run in study.runs][:5] == [
        *((case.name, 7) for case in study.cases),
        ("as-it-is-lr-0-001", 8),
    ], "all cases of a seed stand together: its experts are trained once"


def test_a_case_runs_with_its_overrides_on_a_command_line(tmp_path: Path) -> None:
    """Without it the overrides that a report prints would give another scenario to `run`."""
    study = open_study(write(tmp_path))
    for run in study.runs:
        again = open_scenario(tmp_path / "base.yaml", run.opened.overrides).scenario
        assert again == run.opened.scenario
        assert again.all_seeds == (run.seed,)
        assert again.hash == run.case.opened.scenario.hash


def test_seeds_are_the_scenarios_unless_the_study_has_some(tmp_path: Path) -> None:
    """Without it a study would run other seeds than its author meant."""
    path = write(tmp_path, GOOD.replace("seeds: [7, 8]\n", ""))
    assert open_study(path).seeds == (7,)
    assert open_study(path, ["seeds=[4, 5]"]).seeds == (4, 5)


def test_the_hash_is_of_what_is_run(tmp_path: Path) -> None:
    """Without it a changed study would pass for the one that was run."""
    first = open_study(write(tmp_path)).hash
    assert open_study(write(tmp_path, GOOD + "# a comment\n")).hash == first
    assert open_study(write(tmp_path, GOOD.replace("1.0e-4", "1.0e-5"))).hash != first
    assert open_study(write(tmp_path, GOOD.replace("[7, 8]", "[7, 9]"))).hash != first


WRONG = {
    "unknown-key": ("question:", "questoin:", "2:1", "unknown key; allowed: name, question"),
    "nearest": ("question:", "questoin:", "2:1", "did you mean question?"),
    "no-base": ("base: base.yaml\n", "", "1:1", "base: is missing. Path of the scenario"),
    "no-file": ("base.yaml", "bass.yaml", "3:7", "there is no file"),
    "base-is-folder": ("base.yaml", ".", "3:7", "there is no file"),
    "seed-twice": ("[7, 8]", "[7, 7]", "4:8", "names the same thing twice"),
    "no-seeds": ("[7, 8]", "[]", "4:8", "too few entries"),
    "seeds-text": ("[7, 8]", "[seven]", "4:9", "wrong type (got \"seven\")"),
    "case-name": ("  closed:", "  Closed!:", "8:3", "lower-case letters, digits"),
    "case-path": ("  closed:", "  ../closed:", "8:3", "lower-case letters, digits"),
    "case-script": ("  closed:", "  <script>:", "8:3", "lower-case letters, digits"),
    "case-long": ("  closed:", f"  {'a' * 61}:", "8:3", "at most 60"),
    "case-twice": ("  closed:", "  as-it-is:", "8:3", "the key 'as-it-is' is there twice"),
    "case-null": ("as-it-is: {}", "as-it-is:", "7:12", "cases.as-it-is: wrong type (got null)"),
    "override-key": ("clients.*.policy", "clients.*.polcy", "9:5", "did you mean policy?"),
    "override-section": ("experts.epochs", "expert.epochs", "5:10", "did you mean experts?"),
    "override-entry": ("clients.*", "clients.2", "9:5", "clients has no entry '2'; allowed: 0 to 1"),
    "override-below": ("clients.*.policy", "name.of.it", "9:5", "there is nothing below it"),
    "override-value": ("pool: 20", "pool: many", "11:13", "queries.pool: wrong type"),
    "override-inner-key": ("pool: 20", "poool: 20", "11:7", "did you mean pool?"),
    "override-preset": ("outputs-only}", "outputs-onli}", "9:32", "did you mean outputs-only?"),
    "override-seed": ("    queries:\n      pool: 20", "    seed: 3", "10:5", "has its seeds itself"),
    "key-form": ("experts.lr", "experts..lr", "13:3", "a key as `--set` takes it"),
    "vary-value": ("1.0e-4]", "none]", "13:24", "experts.lr: wrong type"),
    "vary-twice": ("1.0e-4]", "1.0e-3]", "13:15", "names the same thing twice"),
    "vary-empty": ("[1.0e-3, 1.0e-4]", "[]", "13:15", "too few entries"),
    "vary-many": ("  experts.lr: [1.0e-3, 1.0e-4]", MANY, "13:3", "at most 200"),
    "vary-seed": ("experts.lr: [1.0e-3, 1.0e-4]", "seed: [1, 2]", "13:3", "has its seeds itself"),
    "vary-over-case": ("experts.lr: [1.0e-3, 1.0e-4]", "queries.pool: [1, 2]", None, ""),
    "vary-hides-case": ("experts.lr: [1.0e-3, 1.0e-4]", "queries: [{}]", "10:5", "vary sets queries"),
    "vary-hides-common": ("experts.lr: [1.0e-3, 1.0e-4]", "experts: [{}]", "5:10", "vary sets"),
    "too-many": ("[1.0e-3, 1.0e-4]", str([n / 1000 for n in range(1, 102)]), "13:3", "at most 200"),
    "same-twice": (
        "    queries:\n      pool: 20\nvary:\n  experts.lr: [1.0e-3, 1.0e-4]",
        "  other:\n    clients.*.policy: {preset: outputs-only}",
        "10:3",
        "case other is the same scenario as case closed",
    ),
    "versus": ("seeds:", "versus: closd\nseeds:", "4:9", "no case is called so (got \"closd\")"),
    "nothing-varies": (GOOD[GOOD.index("cases:") :], "", "1:1", "has neither cases nor vary"),
    "not-yaml": ("[7, 8]", "[7, 8", "5:7", "not valid YAML: the bracket opened at line 4"),
    "case-does-not-fit": (
        "clients.*.policy: {preset: outputs-only}",
        "stages: [{name: a, run: [merge]}]",
        "9:",
        "case closed-lr-0-001: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_study_gets_an_error_at_its_place(wrong: str, tmp_path: Path) -> None:
    """Without it a study would run something else, or its error be searched for in vain."""
    old, new, place, fragment = WRONG[wrong]
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    if place is None:
        assert open_study(path)
        return
    with pytest.raises(ScenarioError) as caught:
        open_study(path)
    first = str(caught.value).split("\n")[0]
    assert first.startswith(f"{path}:{place}"), first
    assert fragment in first


def test_an_error_that_a_case_brings_about_elsewhere_names_the_case(tmp_path: Path) -> None:
    """Without it a line of the scenario would be blamed, which is right without the case."""
    text = GOOD.replace("clients.*.policy: {preset: outputs-only}", "experts.groups: [B]")
    path = write(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        open_study(path)
    for line in str(caught.value).split("\n"):
        assert line.startswith(f"{path}:8:3: case closed-lr-0-")
        assert f"{tmp_path / 'base.yaml'}:10:5: stages.0.group: " in line


def test_a_wrong_base_is_told_once_in_its_own_file(tmp_path: Path) -> None:
    """Without it one mistake would be told for each case."""
    path = write(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE.replace("digits", "digts"))
    with pytest.raises(ScenarioError) as caught:
        open_study(path)
    assert str(caught.value).startswith(f"{tmp_path / 'base.yaml'}:4:25: ")
    assert "\n" not in str(caught.value)


def test_scenarios_and_studies_are_told_apart(tmp_path: Path) -> None:
    """Without it a mixed-up command would list every key as unknown."""
    path = write(tmp_path)
    with pytest.raises(ScenarioError, match=r"study.yaml:3:1: the file is a study, not a scenario"):
        open_scenario(path)
    with pytest.raises(ScenarioError, match=r"base.yaml:3:1: the file is a scenario, not a study"):
        open_study(tmp_path / "base.yaml")
    assert studies.is_study(path)
    assert not studies.is_study(tmp_path / "base.yaml")
    assert not studies.is_study(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_study_is_valid_and_says_what_it_asks(file: Path) -> None:
    """Without it a user's first study would be an error, or a riddle."""
    study = open_study(file)
    assert study.name == file.stem
    assert len(study.seeds) >= 3
    assert study.written.said.question
    jsonschema.validate(yaml.safe_load(file.read_text()), studies.json_schema())


def test_the_studies_are_there() -> None:
    """Without it a renamed folder would leave nothing to be tested."""
    names = {file.stem for file in SHIPPED}
    assert names == {"privacy-stages", "transfer", "alignment", "pool-size"}


def test_the_cases_of_privacy_stages_differ_in_what_leaves_alone() -> None:
    """Without it a difference in accuracy could be the experts', and not the records'."""
    (file,) = (file for file in SHIPPED if file.stem == "privacy-stages")
    scenarios = [case.opened.scenario for case in open_study(file).cases]
    for part in ("model", "experts", "queries", "portland", "tasks"):
        assert len({repr(getattr(each, part)) for each in scenarios}) == 1, part
    shared = [{s.kind for stage in each.stages for s in stage.share} for each in scenarios]
    assert shared[0] == {"labels"}
    assert all({"features"} <= kinds for kinds in shared[1:])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(-1e6, 1e6, allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc-", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_an_override_as_text_is_the_same_override(value: Any) -> None:
    """Without it what a report prints after --set would set another value."""
    text = as_text("a.b", value)
    assert "\n" not in text
    assert with_text(parse("a: {b: 1}", "x.yaml"), text).data == {"a": {"b": value}}
