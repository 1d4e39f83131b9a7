"""Policies: what the presets allow, how files are read, and what is a contradiction."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from neulig_fl.config import policy_files
from neulig_fl.config.policy_files import PRESETS, presets, read
from neulig_fl.config.scenario import QUERY_SETS, Budgets, Policy
from neulig_fl.config.yaml_source import parse
from neulig_fl.core.errors import ScenarioError
from neulig_fl.records import kinds, policy_layers
from neulig_fl.records.budgets import Candidate
from neulig_fl.records.kinds import Request
from neulig_fl.records.policy_layers import Layer
from neulig_fl.study.checking import load

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = ("pool", "evaluation")
OUTPUT_KINDS = kinds.those(lambda kind: kind.output)
EVERYTHING = [
    Request("s", "A", kind, queries, protection=guard)
    for kind in kinds.names()
    for queries in (
        QUERY_SETS if kind in OUTPUT_KINDS else ("train",) if kind == "inputs" else (None,)
    )
    for guard in ("none", "sealed", "secure-aggregation", "gaussian")
]
"""All that can be asked for, in every protection that there is to be."""

MODEL = ("parameters", "task-vector", "trimmed-task-vector")
STATISTICS = ("gram", "fisher")

ALLOWS = {
    "outputs-only": lambda r: r.kind in OUTPUT_KINDS and r.queries in PUBLIC,
    "labels-only": lambda r: r.kind == "labels" and r.queries in PUBLIC,
    "sums-only": lambda r: r.protection == "secure-aggregation"
    and (r.kind in ("parameters", *STATISTICS) or (r.kind in ("features", "logits") and r.queries in PUBLIC)),
    "parameters": lambda r: r.kind not in ("inputs", *STATISTICS),
    "open": lambda r: True,
}  # fmt: skip
"""What each preset lets out, said a second time."""


def _file(folder: Path, text: str, name: str = "own.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _wrong(folder: Path, text: str) -> str:
    """What is wrong with a policy file: one line, without the file's name."""
    path = _file(folder, text)
    with pytest.raises(ScenarioError) as caught:
        read(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}:")
    return line.removeprefix(f"{path}:")


@pytest.mark.parametrize("kept", MODEL)
def test_whoever_keeps_the_model_keeps_what_it_follows_from(kept: str) -> None:
    """Without it `never: [parameters]` would let out the model less a public checkpoint."""
    layers = policy_layers.of_client("ada", Policy.model_validate({"never": [kept]}))
    for kind in (*MODEL, *STATISTICS):
        assert (
            policy_layers.denial(layers, Request("s", "A", kind))
            == f"policy of client 'ada': never {kept}"
        )
    assert policy_layers.denial(layers, Request("s", "A", "features", "pool")) is None


@pytest.mark.parametrize("kept", STATISTICS)
def test_whoever_keeps_a_statistic_may_give_the_model(kept: str) -> None:
    """Without it a rule about training images' statistics would keep the parameters in as well."""
    layers = policy_layers.of_client("ada", Policy.model_validate({"never": [kept]}))

    assert policy_layers.denial(layers, Request("s", "A", kept)) is not None
    for kind in {*MODEL, *STATISTICS} - {kept}:
        assert policy_layers.denial(layers, Request("s", "A", kind)) is None


# ---------------------------------------------------------------- presets


def test_every_preset_is_tested() -> None:
    """Without it a new preset could allow anything."""
    assert presets() == sorted(ALLOWS)
    assert {p.suffix for p in PRESETS.iterdir()} == {".yaml"}


@pytest.mark.parametrize("name", ALLOWS)
def test_a_preset_allows_what_it_lists_and_nothing_else(name: str) -> None:
    """Without it a partner who relies on a preset would give away what its name denies."""
    layers = policy_layers.of_client("ada", Policy(preset=name))
    for request in EVERYTHING:
        allowed = policy_layers.denial(layers, request) is None
        assert allowed == ALLOWS[name](request), request
    reason = policy_layers.denial(layers, Request("s", "A", "gradients"))
    assert reason == f"policy of client 'ada', preset {name}: does not allow gradients"


@pytest.mark.parametrize("name", ALLOWS)
def test_a_preset_says_on_top_what_it_gives_away(name: str) -> None:
    """Without it a user would have to know what a kind of record tells."""
    text = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
    top, _, _ = text.partition("\nallow:")
    assert top.startswith(f"# {name}: ")
    assert "\n# Gives away: " in top
    assert "\n# Does not give away: " in top
    assert text.isascii()


def test_a_preset_can_be_copied_and_changed(tmp_path: Path) -> None:
    """Without it what is in the package could not be used as a file of one's own."""
    text = (PRESETS / "outputs-only.yaml").read_text(encoding="utf-8")
    copied = read(_file(tmp_path, text.replace("max_rows: 20000", "max_rows: 100")))
    assert copied.allow == read(PRESETS / "outputs-only.yaml").allow
    assert copied.budgets.max_rows == 100


@pytest.mark.parametrize("name", ["outputs-only", "labels-only", "sums-only"])
def test_a_preset_of_answers_bounds_them(name: str) -> None:
    """Without it a preset would promise that answers leave, and not how many."""
    found = read(PRESETS / f"{name}.yaml").budgets
    assert found.max_rows == 20_000
    assert name != "outputs-only" or (found.max_bytes, found.min_group_size) == (100_000_000, 3)
    assert read(PRESETS / "parameters.yaml").budgets.min_group_size == 3


# ---------------------------------------------------------------- what a policy says


@pytest.mark.parametrize(
    ("said", "request_", "reason"),
    [
        ({}, Request("s", "A", "parameters"), None),
        ({"allow": []}, Request("s", "A", "labels", "pool"), "does not allow labels"),
        ({"allow": [{"kind": "labels"}]}, Request("s", "A", "labels", "train"), None),
        (
            {"allow": [{"kind": "labels", "queries": ["pool"]}]},
            Request("s", "A", "labels", "train"),
            "does not allow labels on queries train",
        ),
        (
            {"allow": [{"kind": "labels", "queries": ["pool"]}]},
            Request("s", "A", "labels", None),
            "does not allow labels on queries None",
        ),
        (
            {"allow": [{"kind": "labels", "protections": ["sealed", "gaussian"]}]},
            Request("s", "A", "labels", "pool"),
            "allows labels with protection sealed, gaussian, not none",
        ),
        (
            {"allow": [{"kind": "labels", "fraction": 0.5}]},
            Request("s", "A", "labels", "pool"),
            "allows a fraction of 0.5 of labels, not 1.0",
        ),
        (
            {"allow": [
                {"kind": "labels", "fraction": 0.5},
                {"kind": "labels", "protections": ["sealed"]},
            ]},
            Request("s", "A", "labels", "pool", protection="sealed"),
            None,
        ),
        (
            {"allow": [
                {"kind": "labels", "fraction": 0.5},
                {"kind": "labels", "protections": ["sealed"]},
            ]},
            Request("s", "A", "labels", "pool"),
            "allows a fraction of 0.5 of labels, not 1.0",
        ),
        (
            {"allow": [{"kind": "labels"}]},
            Request("s", "A", "labels", "pool", fraction=0.0),
            "allows a fraction of 1.0 of labels, not 0.0",
        ),
        (
            {"allow": [{"kind": "labels", "fraction": 0.5}, {"kind": "labels", "fraction": 0.7}]},
            Request("s", "A", "labels", "pool", fraction=0.7),
            None,
        ),
        ({"only": []}, Request("s", "A", "labels", "pool"), "only nothing"),
        ({"never": ["labels"]}, Request("s", "A", "labels", "pool"), "never labels"),
        ({"only": ["features"]}, Request("s", "A", "labels", "pool"), "only features"),
        (
            {"budgets": {"not_after": "2026-01-01"}},
            Request("s", "A", "labels", "pool"),
            "limit not_after 2026-01-01: its time is over",
        ),
    ],
)  # fmt: skip
def test_a_policys_rules(said: dict[str, Any], request_: Request, reason: str | None) -> None:
    """Without it a rule would let out something else than what it says."""
    layers = (Layer("ours", Policy.model_validate(said)),)
    found = policy_layers.denial(layers, request_, datetime(2026, 1, 2, tzinfo=UTC))
    assert found == (None if reason is None else f"ours: {reason}")


def test_every_layer_has_to_allow_it(tmp_path: Path) -> None:
    """Without it a preset would widen what stands beside it, or the other way round."""
    path = _file(tmp_path, "preset: ./inner.yaml\nnever: [logits]\n")
    _file(tmp_path, "preset: outputs-only\nonly: [labels, logits]\n", "inner.yaml")
    layers = policy_layers.of_node(path)
    assert [layer.name for layer in layers] == [
        "this node's own policy",
        "this node's own policy, preset file",
        "this node's own policy, preset outputs-only",
    ]
    reasons = [
        policy_layers.denial(layers, Request("s", "A", kind, queries))
        for kind, queries in (
            ("labels", "pool"),
            ("logits", "pool"),
            ("features", "pool"),
            ("labels", "train"),
        )
    ]
    assert reasons == [
        None,
        "this node's own policy: never logits",
        "this node's own policy, preset file: only labels, logits",
        "this node's own policy, preset outputs-only: does not allow labels on queries train",
    ]


def _nested(root: Path) -> Path:
    """Policies in three folders, each the preset of the one above; each folder has a decoy."""
    below = root / "below" / "deeper"
    below.mkdir(parents=True)
    outer = _file(root, "preset: below/two.yaml\n", "one.yaml")
    _file(root / "below", "preset: deeper/../deeper/three.yaml\n", "two.yaml")
    _file(below, "preset: ./four.yaml\nnever: [logits]\n", "three.yaml")
    _file(below, "never: [labels]\n", "four.yaml")
    (root / "deeper").mkdir()
    for folder in (root, root / "below", root / "deeper"):
        for name in ("three.yaml", "four.yaml"):
            _file(folder, "never: [inputs]\n", name)
    return outer


def test_a_presets_own_preset_starts_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a policy of several files would read another folder's, and forbid less."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _file(elsewhere, "never: [inputs]\n", "four.yaml")
    monkeypatch.chdir(elsewhere)
    outer = _nested(tmp_path / "policies")
    read(outer)
    of_client = policy_layers.of_client("ada", Policy(preset=str(outer)))
    for layers, name, files in (
        (policy_layers.of_node(outer), policy_layers.NODE, 3),
        (of_client, "policy of client 'ada'", 4),
    ):
        assert [layer.name for layer in layers] == [name, *[f"{name}, preset file"] * files]
        reasons = [
            policy_layers.denial(layers, Request("s", "A", kind, "train"))
            for kind in ("labels", "logits", "inputs")
        ]
        file = f"{name}, preset file"
        assert reasons == [f"{file}: never labels", f"{file}: never logits", None]


def test_what_is_wrong_in_a_presets_preset_is_found_in_its_folder(tmp_path: Path) -> None:
    """Without it a file would pass its check and then let nothing out, or another file be read."""
    outer = _nested(tmp_path)
    inner = tmp_path / "below" / "deeper" / "four.yaml"
    _file(inner.parent, "never: [labls]\n", inner.name)
    with pytest.raises(ScenarioError, match="preset: it cannot be used: ") as caught:
        read(outer)
    assert f"{inner}:1:9: never.0: unknown value" in str(caught.value)
    assert policy_layers.of_node(outer)[-1].rules is None
    inner.unlink()
    with pytest.raises(ScenarioError, match="there is no such file") as caught:
        read(outer)
    assert f"looked for {inner}" in str(caught.value)


def test_a_preset_that_cannot_be_read_lets_nothing_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it a client would release everything once its policy file is gone."""
    gone = str(tmp_path / "private" / "gone.yaml")
    layers = policy_layers.of_client("ada", Policy(preset=gone))
    reason = policy_layers.denial(layers, Request("s", "A", "labels", "pool"))
    assert reason == "policy of client 'ada', preset file cannot be read"
    assert gone in caplog.text


def test_a_nodes_policy_is_an_absolute_path_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it a node's rules would hang on the folder that its process was started in."""
    _file(tmp_path, "never: [logits]\n")
    monkeypatch.chdir(tmp_path)
    assert policy_layers.of_node(None) == ()
    for path, words in ((Path("own.yaml"), "own.yaml: a node's policy needs an absolute path"),
                        (tmp_path / "gone.yaml", "gone.yaml")):  # fmt: skip
        caplog.clear()
        assert policy_layers.of_node(path) == (Layer("this node's own policy", None),)
        assert "this node's own policy cannot be read, so nothing is released" in caplog.text
        assert words in caplog.text


def test_a_policys_time_is_the_clocks() -> None:
    """Without it an expired policy would go on releasing, as no caller gives the time."""
    asked = Request("s", "A", "labels", "pool")
    over, open_ = (
        (Layer("ours", Policy.model_validate({"budgets": {"not_after": day}})),)
        for day in ("2020-01-01", "2999-01-01")
    )
    assert policy_layers.denial(over, asked) == "ours: limit not_after 2020-01-01: its time is over"
    assert policy_layers.denial(open_, asked) is None


def test_the_first_limit_that_is_exceeded_is_named() -> None:
    """Without it one layer's wide limit would stand for all, or a lost one for none."""
    left = {"event": "release", "expert": "e", "kind": "labels", "rows": 4, "bytes": 4}
    record = Candidate("e", "labels", "none", 5, 5)
    wide, narrow = (Layer(str(n), Policy(budgets=Budgets(max_rows=n))) for n in (9, 8))
    assert policy_layers.over_limit((wide,), [left], record) is None
    reason = policy_layers.over_limit((wide, narrow), [left], record)
    assert reason is not None
    assert reason.startswith("8: limit max_rows 8: 4 rows of this expert have been released")
    assert policy_layers.over_limit((wide, Layer("n", None)), [], record) == "n cannot be read"


# ---------------------------------------------------------------- files


def test_a_file_that_was_checked_is_the_policy(tmp_path: Path) -> None:
    """Without it a key of a policy file would be read and not kept."""
    text = (
        "allow:\n- {kind: features, queries: [pool], fraction: 0.5, protections: [sealed]}\n"
        "never: [inputs]\nonly: [features, labels]\n"
        "budgets: {max_rows: 5, max_bytes: 6, max_leverage: 0.25, min_group_size: 4, "
        "not_after: 2030-01-31}\n"
    )
    found = read(_file(tmp_path, text))
    assert found == Policy.model_validate(
        yaml.safe_load(text.replace("2030-01-31", "'2030-01-31'"))
    )
    assert Policy.model_validate_json(found.model_dump_json()) == found
    assert (found.budgets.not_after, found.budgets.max_leverage) == ("2030-01-31", 0.25)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "1:1: the file is empty"),
        ("# nothing\n", "1:1: the file is empty"),
        ("{}\n", "1:1: the policy says nothing; give it one of preset, allow, never, only, budgets, scenarios"),
        ("- never\n", "1:1: the file is no mapping"),
        ("alow: []\n", "1:1: alow: unknown key; .* did you mean allow?"),
        ("allow:\n", "1:7: allow: is empty (got null); write [] to let nothing out"),
        ("preset:\n", "1:8: preset: is empty (got null); allowed: labels-only, .* or remove the key"),
        ("preset: output-only\n", '1:9: preset: no such preset (got "output-only"); .* did you mean outputs-only?'),
        ("preset: gone.yaml\n", '1:9: preset: there is no such file (got "gone.yaml"); looked for'),
        ("preset: own.yaml\n", '1:9: preset: presets lead back to themselves'),
        ("allow: [{kind: labls}]\n", '1:16: allow.0.kind: unknown value (got "labls"); .* did you mean labels?'),
        ("allow: [{kind: labels, row: 3}]\n", "1:24: allow.0.row: unknown key; allowed: kind, queries, fraction, protections"),
        ("allow: [{kind: labels, protections: [seeled]}]\n", "allow.0.protections.0: unknown value .* did you mean sealed?"),
        ("allow: [{kind: labels, protections: []}]\n", "allow.0.protections: too few entries"),
        ("allow: [{kind: labels}, {kind: labels, fraction: 1.0}]\n", "allow: names the same thing twice"),
        ("allow: [{kind: parameters, queries: [pool]}]\n", "allow.0.queries: parameters answers no queries"),
        ("allow: [{kind: parameters, fraction: 0.5}]\n", "allow.0.fraction: parameters leaves whole or not at all"),
        ("allow: [{kind: inputs, queries: [pool]}]\n", "allow.0.queries: a client holds the inputs of train only"),
        ("never: [labels]\nonly: [labels]\n", "1:9: never.0: labels stands in only as well"),
        ("never: [labels]\nallow: [{kind: labels}]\n", "2:16: allow.0.kind: labels is allowed here and stands in never"),
        ("only: [logits]\nallow: [{kind: labels}]\n", "2:16: allow.0.kind: labels is allowed here and left out of only"),
        ("preset: outputs-only\nallow: [{kind: parameters}]\n", "2:9: allow.0: the preset does not allow parameters like this"),
        ("preset: outputs-only\nallow: [{kind: labels, queries: [train]}]\n", "2:9: allow.0: the preset does not allow labels"),
        ("preset: sums-only\nallow: [{kind: logits, protections: [sealed]}]\n", "2:9: allow.0: the preset does not allow logits"),
        ("preset: labels-only\nonly: [features]\n", "2:8: only.0: the preset does not allow features, and both must"),
        ("preset: labels-only\nonly: [labels, features]\n", "2:16: only.1: the preset does not allow features"),
        ("preset: labels-only\nnever: [labels]\n", "2:8: never: nothing is left of what the preset allows; write allow: []"),
        ("budgets: {max_rows: 0}\n", "budgets.max_rows: out of range"),
        ("budgets: {max_rows: 1.5}\n", "budgets.max_rows: wrong type .* a whole number, at least 1"),
        ("budgets: {max_leverage: 1.1}\n", "budgets.max_leverage: out of range"),
        ("budgets: {max_leverage: null}\n", "budgets.max_leverage: wrong type"),
        ("budgets: {max_epsilon: .inf}\n", "budgets.max_epsilon: not a finite number"),
        ("budgets: {not_after: 31.3.2027}\n", "budgets.not_after: not in the form that is needed .* a date (2027-03-31)"),
        ("budgets: {not_after: 2027-02-30}\n", "budgets.not_after: no such date or time .* a date (2027-03-31)"),
        ("budgets: {not_after: 2027-03-31T18:00:00}\n", "budgets.not_after: not in the form .* with its zone"),
        ("budgets: {not_after: 9999-12-31}\n", "budgets.not_after: no such date"),
        ("allow: [{kind: labels, protections: [none]}]\nbudgets: {max_epsilon: 1}\n", "2:24: budgets.max_epsilon: none, sealed, secure-aggregation give no epsilon that is finite"),
    ],
)  # fmt: skip
def test_a_wrong_policy_file_gets_one_located_error(text: str, wrong: str, tmp_path: Path) -> None:
    """Without it a typing mistake in a policy would be a hole in it."""
    pattern = ".*".join(re.escape(part) for part in wrong.split(" .* "))
    assert re.search(pattern, _wrong(tmp_path, text)), _wrong(tmp_path, text)


def test_all_that_is_wrong_with_a_policy_file_is_told(tmp_path: Path) -> None:
    """A user would mend one mistake a run, though the docs promise all of them."""
    inner = _file(
        tmp_path, "never: [labls]\nallow: [{kind: labels, row: 3}]\nbudget: {}\n", "in.yaml"
    )
    told = [f"{inner}:1:9: never.0: ", f"{inner}:2:24: allow.0.row: ", f"{inner}:3:1: budget: "]
    for read_it, before in (
        (lambda: read(inner), ""),
        (lambda: load(_scenario(tmp_path, "{preset: in.yaml}")), "policy.preset: it cannot be used: "),
        (lambda: read(_file(tmp_path, "preset: in.yaml\n", "out.yaml")), "preset: it cannot be used: "),
    ):  # fmt: skip
        with pytest.raises(ScenarioError) as caught:
            read_it()
        lines = str(caught.value).splitlines()
        assert len(lines) == 3
        assert all(f"{before}{what}" in line for what, line in zip(told, lines, strict=True)), lines


def test_a_preset_of_a_preset_counts(tmp_path: Path) -> None:
    """A rule that the innermost preset forbids would be taken for one that lets something out."""
    _file(tmp_path, "preset: labels-only\nbudgets: {max_rows: 5}\n", "middle.yaml")
    for text in ("allow: [{kind: parameters}]", "only: [parameters]", "never: [labels]"):
        outer = _file(tmp_path, f"preset: middle.yaml\n{text}\n", "outer.yaml")
        with pytest.raises(ScenarioError, match=r"the preset (does not allow parameters|allows;)"):
            read(outer)
    read(_file(tmp_path, "preset: middle.yaml\nonly: [labels]\nnever: [features]\n", "outer.yaml"))


def test_presets_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    """Without it two files that name each other would hang a client."""
    _file(tmp_path, "preset: two.yaml\n", "one.yaml")
    _file(tmp_path, "preset: one.yaml\n", "two.yaml")
    with pytest.raises(ScenarioError, match="presets lead back to themselves"):
        read(tmp_path / "one.yaml")
    for number in range(9):
        _file(tmp_path, f"preset: {number + 1}.yaml\n", f"{number}.yaml")
    _file(tmp_path, "never: [inputs]\n", "9.yaml")
    with pytest.raises(ScenarioError, match="or too far"):
        read(tmp_path / "0.yaml")
    assert len(policy_layers.of_node(tmp_path / "6.yaml")) == 4


# ---------------------------------------------------------------- within a scenario


SCENARIO = """\
name: here
clients:
  - {name: ada, task: digits}
  - name: bob
    task: digits
    policy: %s
portland: {alignment: none}
stages:
  - name: one
    share: [{kind: features}, {kind: parameters}]
    run: [train-portland, merge]
"""


def _scenario(folder: Path, rules: str) -> Path:
    return _file(folder, SCENARIO % rules, "scenario.yaml")


def test_a_stage_may_ask_for_what_a_preset_never_allows(tmp_path: Path) -> None:
    """Without it a planned refusal, which is a result, could not be studied."""
    scenario = load(_scenario(tmp_path, "{preset: outputs-only}"))
    assert scenario.clients[1].policy.preset == "outputs-only"


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [
        ("{never: [labels], allow: [{kind: labels}]}", "6:46: clients.1.policy.allow.0.kind: labels is"),
        ("{preset: open-door}", '6:22: clients.1.policy.preset: no such preset (got "open-door")'),
        ("{preset: own.yaml}", "6:22: clients.1.policy.preset: it cannot be used: "),
        ("{allow: [{kind: labels, protections: [gaussian, secure-aggregation]}]}",
         '6:50: clients.1.policy.allow.0.protections: no record of labels can have such a protection (got ["gaussian", "secure-aggregation"]); allowed: none, sealed'),
        ("{allow: null}", "6:21: clients.1.policy.allow: is empty"),
        ("{budget: {}}", "6:14: clients.1.policy.budget: unknown key; .* did you mean budgets?"),
    ],
)  # fmt: skip
def test_a_contradiction_in_a_scenario_is_located(rules: str, wrong: str, tmp_path: Path) -> None:
    """Without it a policy that contradicts itself would be found out by its refusals."""
    _file(tmp_path, "never: [labls]\n")
    with pytest.raises(ScenarioError) as caught:
        load(_scenario(tmp_path, rules))
    pattern = ".*".join(re.escape(part) for part in wrong.split(" .* "))
    assert re.search(f"scenario.yaml:{pattern}", str(caught.value)), str(caught.value)
    load(_scenario(tmp_path, "{allow: [{kind: labels, protections: [none, gaussian]}]}"))
    if "own" in rules:
        assert f"{tmp_path / 'own.yaml'}:1:9: never.0: unknown value" in str(caught.value)


def test_a_path_in_a_scenario_is_resolved_as_others_are(tmp_path: Path) -> None:
    """Without it a client in another folder would not find its policy, and refuse everything."""
    _file(tmp_path, "allow: [{kind: labels}]\n")
    found = load(_scenario(tmp_path, "{preset: ./own.yaml}")).resolved(tmp_path)
    rules = found.clients[1].policy
    assert rules.preset == str(tmp_path / "own.yaml")
    layers = policy_layers.of_client("bob", rules)
    assert policy_layers.denial(layers, Request("one", "A", "labels", "pool")) is None
    reason = policy_layers.denial(layers, Request("one", "A", "features", "pool"))
    assert reason == "policy of client 'bob', preset file: does not allow features"


# ---------------------------------------------------------------- what docs/policies.md shows


def test_policies_in_the_docs_are_good_policies(tmp_path: Path) -> None:
    """Without it a reader who copies a policy from the page would get an error, or no policy."""
    page = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```text\n(# .*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(shown) >= 2
    for text in shown:
        assert parse(text, "page").data
        read(_file(tmp_path, text))
    for name in presets():
        assert f"`{name}`" in page
    assert str(policy_files.MOST_PRESETS) in page
