"""Scenarios: what is read, what is refused and how, and what the models hand on."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from neulig_fl.config.protection import Protection
from neulig_fl.config.scenario import Scenario, dump, json_schema, load_resolved
from neulig_fl.core import variants
from neulig_fl.core.errors import ScenarioError
from neulig_fl.merging.inference import Merging
from neulig_fl.study.checking import load

BROKEN = sorted((Path(__file__).parents[1] / "broken").glob("*.yaml"))
SEVERAL_EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

SCENARIO = """\
name: outputs-then-parameters
model: {name: micro-vit, pretrained: bundled}
clients:
  - {name: north, task: digits}
  - name: east
    task: shapes
    policy: {never: [parameters]}
experts: {groups: [A, B], epochs: 2, lr: 3e-4}
portland: {objective: supervised, queries: pool, epochs: 3}
merging: {method: batched, tolerance: 0.01, checked: 8, buffer_mib: 64}
stages:
  - name: outputs
    share:
      - {kind: offset-sum}
      - {kind: features, queries: [pool, evaluation], fraction: 1.0}
    run: [train-portland, ensemble]
  - name: parameters
    share: [{kind: parameters}]
    run: [merge]
    granularity: [sample, task]
  - name: transfer
    group: B
    share: [{kind: features, queries: [evaluation]}, {kind: parameters}]
    run: [ensemble, merge]
resources: {client_cpus: 1, server_threads: 2}
"""

Steps = tuple[str | int, ...]


def write(folder: Path, text: str = SCENARIO) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def every_key(data: Any, steps: Steps = ()) -> list[Steps]:
    """List the steps to each key of a tree."""
    if isinstance(data, dict):
        below = [each for key in data for each in every_key(data[key], (*steps, key))]
        return [(*steps, key) for key in data] + below
    if isinstance(data, list):
        return [each for i, item in enumerate(data) for each in every_key(item, (*steps, i))]
    return []


def parent(data: Any, steps: Steps) -> Any:
    for step in steps[:-1]:
        data = data[step]
    return data


TREE: dict[str, Any] = yaml.safe_load(SCENARIO.replace("3e-4", "3.0e-4"))
KEYS = every_key(TREE)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers() | st.text(max_size=4), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


# Broken scenarios


def expectation(path: Path) -> tuple[str, str]:
    """Read what the comment on top of a broken scenario announces: place and fragment."""
    place, fragment, *_ = path.read_text(encoding="utf-8").splitlines()
    return place.removeprefix("# expect "), fragment.removeprefix("# ")


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_scenario_gets_one_located_error(path: Path) -> None:
    """A mistake would be accepted, misplaced, or drowned in errors that only follow from it."""
    place, fragment = expectation(path)

    with pytest.raises(ScenarioError) as caught:
        load(path)

    message = str(caught.value)
    assert message.startswith(f"{path}:{place}: ")
    assert fragment in message
    assert "\n" not in message


def test_broken_scenarios_all_get_different_errors() -> None:
    """Two mistakes would be told in the same words."""
    messages = set()
    for path in BROKEN:
        with pytest.raises(ScenarioError, match=re.escape(path.name)) as caught:
            load(path)
        messages.add(str(caught.value).split(": ", 1)[1])

    assert len(messages) == len(BROKEN) >= 16


@SEVERAL_EXAMPLES
@given(st.sampled_from(KEYS), st.integers(0, 20), st.sampled_from("abcxyz_-"))
def test_any_mistyped_key_is_named_where_it_stands(
    tmp_path: Path, steps: Steps, at: int, letter: str
) -> None:
    """A typo in some part of the file would be ignored, or reported without its line."""
    tree = copy.deepcopy(TREE)
    mapping, key = parent(tree, steps), str(steps[-1])
    typo = key[: at % (len(key) + 1)] + letter + key[at % (len(key) + 1) :]
    mapping[typo] = mapping.pop(key)
    path = write(tmp_path, yaml.safe_dump(tree, sort_keys=False))

    with pytest.raises(ScenarioError) as caught:
        load(path)

    told = next(line for line in str(caught.value).splitlines() if "unknown key" in line)
    line = int(told.removeprefix(f"{path}:").split(":")[0])
    assert f"{typo}:" in path.read_text(encoding="utf-8").splitlines()[line - 1]
    assert f"did you mean {key}?" in told


@SEVERAL_EXAMPLES
@given(st.sampled_from(KEYS), JUNK)
def test_any_wrong_value_is_accepted_or_located(tmp_path: Path, steps: Steps, junk: object) -> None:
    """Some value would end in a traceback instead of an error with its line."""
    tree = copy.deepcopy(TREE)
    parent(tree, steps)[steps[-1]] = junk
    path = write(tmp_path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))

    try:
        load(path)
    except ScenarioError as error:
        for line in str(error).splitlines():
            assert re.match(rf"{re.escape(str(path))}:(\d+:\d+: | and \d+ more)", line)


# What a good scenario says


def test_a_short_scenario_gets_every_default(tmp_path: Path) -> None:
    """Name, clients and stages would not be enough."""
    scenario = load(
        write(
            tmp_path,
            "name: short\nclients: [{name: a, task: digits}, {name: b, task: shapes}]\n"
            "stages: [{name: s, share: [{kind: features}, {kind: offset-sum}],"
            " run: [train-portland, ensemble]}]\n",
        )
    )

    assert scenario.model.name == "micro-vit"
    assert scenario.experts.groups == ("A",)
    assert scenario.portland.alignment == "paper"
    assert scenario.merging.method == "batched"
    assert scenario.merging.tolerance == 0.0, "merging is exact unless the user says otherwise"
    assert scenario.stages[0].share[0].queries == ("pool", "evaluation")
    assert scenario.stages[0].share[1].queries == ()
    assert scenario.stages[0].share[0].protection == Protection("none")
    assert scenario.all_seeds == (0,)


def test_several_seeds_are_kept_in_order(tmp_path: Path) -> None:
    """A study over seeds would run in another order or lose one."""
    assert load(write(tmp_path, SCENARIO + "seeds: [9, 7, 8]\n")).all_seeds == (9, 7, 8)
    assert load(write(tmp_path, SCENARIO + "seed: 4\n")).all_seeds == (4,)


def test_null_weights_are_no_weights(tmp_path: Path) -> None:
    """`pretrained: null` would be an error or mean bundled."""
    path = write(tmp_path, SCENARIO.replace("pretrained: bundled", "pretrained: null"))

    assert load(path).model.pretrained == "none"


def test_one_checkpoint_path_stands_for_every_group(tmp_path: Path) -> None:
    """A user's own expert would be trained again for one of the groups."""
    (tmp_path / "mine.pt").write_bytes(b"")
    text = SCENARIO.replace("task: digits}", "task: digits, checkpoint: mine.pt}")

    assert load(write(tmp_path, text)).clients[0].checkpoint == {"A": "mine.pt", "B": "mine.pt"}


def test_a_scenario_cannot_be_changed(tmp_path: Path) -> None:
    """What was checked and hashed would not be what is run."""
    scenario = load(write(tmp_path))

    with pytest.raises(ValidationError, match="frozen"):
        scenario.name = "other"


# Overrides


def test_overrides_replace_values_and_reach_into_lists(tmp_path: Path) -> None:
    """`--set` would not change what is run."""
    path = write(tmp_path)

    scenario = load(
        path, ["seed=7", "clients.0.task=textures", "timeouts.answer=5", "experts.groups=[A, B]"]
    )

    assert scenario.seed == 7
    assert scenario.clients[0].task == "textures"
    assert scenario.timeouts.answer == 5.0
    assert load(path).seed == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "merging.tolerance=1",
            r"merging.tolerance: out of range \(got 1\); .* at least 0.*below 1",
        ),
        ("portland.lr=1e308", r"portland.lr: out of range \(got 1e\+308\); .* at most 1000000"),
        ("portland.alpha=1e308", r"portland.alpha: out of range .* at most 1000000"),
        (f"portland.batch_size={10**99}", r"portland.batch_size: out of range .* at most 900719"),
        ("resources.client_cpus=2147483648", r"client_cpus: out of range .* at most 1024"),
        ("resources.server_threads=2147483648", r"server_threads: out of range .* at most 1024"),
        ("merging.checked=0", r"merging.checked: out of range \(got 0\); .* at least 1"),
        ("experts.epochs=0", r"--set experts.epochs=0: experts.epochs: out of range \(got 0\)"),
        ("expert.epochs=2", r"--set expert.epochs=2: expert: unknown key; .* mean experts\?"),
        ("clients.0.task=digitz", r"--set clients.0.task=digitz: clients.0.task: no such task"),
        ("clients.5.task=digits", r"clients has no entry '5'; allowed: 0 to 1"),
        ("clients.-1.task=digits", r"clients has no entry '-1'; allowed: 0 to 1"),
        ("name.first=x", r'name is "outputs-then-parameters"; there is nothing below it'),
        ("seed", r"--set seed: write it as key=value"),
        (".seed=1", r"--set .seed=1: write it as key=value"),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(
    tmp_path: Path, override: str, message: str
) -> None:
    """The error would point at a line of the file that is not wrong."""
    with pytest.raises(ScenarioError, match=message):
        load(write(tmp_path), [override])


# What is handed on


def test_the_hash_knows_what_is_said_and_not_how(tmp_path: Path) -> None:
    """Reports of the same study would not match, or those of different studies would."""
    tasks = {"mine": {"source": "digits"}, "yours": {"source": "shapes"}}
    one = {**TREE, "tasks": tasks}
    other = dict(reversed({**TREE, "tasks": dict(reversed(tasks.items()))}.items()))
    scenario, reordered = (
        load(write(tmp_path, f"# {note}\n" + yaml.safe_dump(tree, sort_keys=False)))
        for note, tree in (("this", one), ("that", other))
    )

    assert re.fullmatch("[0-9a-f]{64}", scenario.hash)
    assert reordered.hash == scenario.hash
    path = tmp_path / "scenario.yaml"
    assert load(path, ["seed=5"]).hash == scenario.hash
    assert load(path, ["experts.epochs=4"]).hash != scenario.hash


def test_seeds_take_the_place_of_the_files_seed(tmp_path: Path) -> None:
    """Several seeds of somebody's scenario would need a copy of it."""
    many = write(tmp_path, f"seeds: [1, 2]\n{SCENARIO}")
    assert load(many, ["seed=5"]).all_seeds == (5,)
    path = write(tmp_path, f"seed: 3\n{SCENARIO}")
    assert load(path, ["seeds=[7, 8]"]).all_seeds == (7, 8)
    with pytest.raises(ScenarioError, match="--set seeds=\\[7\\]: seeds: given beside seed"):
        load(path, ["seed=5", "seeds=[7]"])


def test_paths_start_from_the_scenarios_folder(tmp_path: Path) -> None:
    """A run from another folder would look for the user's files there."""
    for folder in ("images", "weights"):
        (tmp_path / folder).mkdir()
    for name in ("weights/a.safetensors", "weights/start.pt"):
        (tmp_path / name).write_bytes(b"")
    text = SCENARIO.replace("pretrained: bundled", "pretrained: weights/start.pt")
    text = text.replace("task: digits}", "task: mine, checkpoint: weights/a.safetensors}")
    path = write(tmp_path, text + "tasks: {mine: {source: imagefolder, root: images}}\n")

    scenario = load(path).resolved(path.parent)

    assert scenario.model.pretrained == str(tmp_path / "weights/start.pt")
    assert scenario.tasks["mine"].root == str(tmp_path / "images")
    checkpoint = scenario.clients[0].checkpoint or {}
    assert checkpoint["A"] == str(tmp_path / "weights/a.safetensors")


def test_the_apps_read_what_was_written_for_them(tmp_path: Path) -> None:
    """Server and clients would run another scenario than the one that was checked."""
    scenario = load(write(tmp_path)).resolved(tmp_path)
    dump(scenario, tmp_path / "scenario.json")

    again = load_resolved(tmp_path / "scenario.json")

    assert again == scenario
    assert again.hash == scenario.hash
    (tmp_path / "scenario.json").write_text('{"name": "x"}', encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"scenario\.json: not a scenario"):
        load_resolved(tmp_path / "scenario.json")


# JSON Schema


def test_the_schema_accepts_a_good_scenario_and_refuses_a_typo() -> None:
    """An editor would mark good scenarios as wrong, or wrong ones as good."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    assert validator.is_valid(TREE)
    whole = Scenario.model_validate(TREE).model_dump_json(exclude_none=True)
    assert validator.is_valid(json.loads(whole))
    assert validator.is_valid({**TREE, "model": {"pretrained": None}})
    merging = {"merging": {"tolerance": 1}}
    for broken in ({"nam": "x"}, {"seed": "1"}, {"methods": ["tiess"]}, {"stages": []}, merging):
        assert not validator.is_valid({**TREE, **broken})


def test_every_field_is_documented_in_the_schema() -> None:
    """An editor would have nothing to say about a field."""
    schema = json_schema()

    for section in (schema, *schema["$defs"].values()):
        for name, field in section["properties"].items():
            assert field.get("description"), name


def test_the_schema_lists_the_variants_that_are_there() -> None:
    """A new stage step, protection or source would be marked as wrong by editors."""
    definitions = json_schema()["$defs"]

    run = definitions["Stage"]["properties"]["run"]["items"]
    assert run["enum"] == variants.names("neulig_fl.study.steps")
    method = definitions["MergingOptions"]["properties"]["method"]
    assert tuple(method["enum"]) == get_args(get_type_hints(Merging)["method"])
    protection, _ = definitions["Share"]["properties"]["protection"]["anyOf"]
    assert protection["enum"] == variants.names("neulig_fl.records.protections")
    source = definitions["TaskOptions"]["properties"]["source"]
    assert source["enum"] == variants.names("neulig_fl.data.sources")


def test_checking_a_scenario_loads_no_model_code(tmp_path: Path) -> None:
    """`neulig-fl check` would take seconds to import what it does not use."""
    code = (
        "import sys; from neulig_fl.study.checking import load; load(sys.argv[1]); "
        "print(sorted({'torch', 'open_clip', 'flwr', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(write(tmp_path))],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert done.stdout.strip() == "[]"
