"""The words in which a scenario's mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from neulig_fl.core.errors import ScenarioError
from neulig_fl.study.checking import load

SCENARIO = """\
name: outputs-then-parameters
clients:
  - {name: north, task: digits}
  - {name: east, task: shapes}
experts: {groups: [A, B], epochs: 2, lr: 3e-4}
stages:
  - name: outputs
    share:
      - {kind: offset-sum}
      - {kind: features, queries: [pool, evaluation]}
    run: [train-portland, ensemble]
  - name: parameters
    share: [{kind: parameters}]
    run: [merge]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """A user would mend one mistake a run."""
    text = SCENARIO.replace("epochs: 2", "epochs: 0").replace("features, q", "featurs, q", 1)
    path = write(tmp_path, text.replace("run: [merge]", "rum: [merge]") + "seed: one\n")

    with pytest.raises(ScenarioError) as caught:
        load(path)

    told = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert told == ["experts.epochs", "stages.0.share.1.kind", "stages.1.rum", "seed"]


def test_the_advice_for_a_text_in_the_place_of_a_list_is_yaml(tmp_path: Path) -> None:
    """A user would write what is advised, and get an error about YAML."""
    own = "tasks: {own: {source: imagefolder, root: ., exclude: '*_thumb.*'}}\n"
    with pytest.raises(ScenarioError) as caught:
        load(write(tmp_path, SCENARIO + own))
    (line,) = [line for line in str(caught.value).splitlines() if "exclude" in line]
    assert yaml.safe_load(line.partition("; write ")[2]) == ["*_thumb.*"]


def test_the_first_twenty_mistakes_are_told(tmp_path: Path) -> None:
    """A file of another kind would fill the screen."""
    path = write(tmp_path, SCENARIO + "".join(f"key{i}: 1\n" for i in range(25)))

    with pytest.raises(ScenarioError) as caught:
        load(path)

    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == f"{path}: and 5 more"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: outputs-then-parameters", "name: A b", r"1:7: name: .* such as north-1"),
        ("epochs: 2", "epochs: yes", r'experts.epochs: wrong type \(got "yes"\); allowed: a whole'),
        ("epochs: 2", "epochs: true", r"experts.epochs: wrong type \(got true\)"),
        ("epochs: 2", "epochs: 1e1", r"experts.epochs: wrong type \(got 10.0\)"),
        ("lr: 3e-4", "lr: .nan", r"experts.lr: not a finite number \(got NaN\)"),
        ("lr: 3e-4", "lr: 0", r"experts.lr: out of range \(got 0\); allowed: a number, above 0"),
        ("[A, B]", "[A, A]", r'experts.groups: names the same thing twice \(got \["A", "A"\]\)'),
        ("{kind: offset-sum}", "offset-sum", r"share.0: wrong type .* mapping with the keys kind"),
        (
            "[pool, evaluation]",
            "null",
            r"share.1.queries: wrong type \(got null\); allowed: a list",
        ),
        ("task: digits}", "task: digits, checkpoint: {C: x}}", r"checkpoint.C: .* allowed: A, B"),
        ("task: digits}", "task: digits, checkpoint: {A: x}}", r"checkpoint: has none for group B"),
        ("clients:", "tasks: {My: {source: digits}}\nclients:", r":2:9: tasks.My: not a key"),
        (
            "clients:",
            "tasks: {t: {source: digits, templates: ['a {x}']}}\nclients:",
            r"tasks.t.templates.0: .* text with one \{\} where the class name goes",
        ),
    ],
)
def test_values_are_refused_in_human_words(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """A message would speak pydantic's language or hide what is allowed."""
    path = write(tmp_path, SCENARIO.replace(old, new, 1))

    with pytest.raises(ScenarioError, match=message) as caught:
        load(path)

    assert "pydantic" not in str(caught.value)
    assert "Input should" not in str(caught.value)


def test_a_received_value_cannot_break_the_line(tmp_path: Path) -> None:
    """A control character in a scenario would forge a second error or garble the terminal."""
    text = SCENARIO.replace("run: [merge]", 'run: "a\\n\\e[31mb"')

    with pytest.raises(ScenarioError, match=r"stages\.1\.run: wrong type") as caught:
        load(write(tmp_path, text))

    assert str(caught.value).isprintable()
