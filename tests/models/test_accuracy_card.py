"""The accuracy card: figures for these weights and these images only, and goals that can fail.

The tables of docs/tasks.md come from the built-in tasks and the card. After a change of either:
`python tests/models/test_accuracy_card.py`.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import tiny
from pydantic import ValidationError

from neulig_fl.cli.inventory import ListedTask, listed_tasks
from neulig_fl.config.scenario import MICRO_MODELS, Model, TaskOptions
from neulig_fl.core import variants
from neulig_fl.core.errors import InputError
from neulig_fl.data.sources import SPLITS, source_hash
from neulig_fl.models import accuracy_card
from neulig_fl.models.accuracy_card import Card, Measured, ModelCard, Training, mean
from neulig_fl.models.families import open_family

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tasks.md"
TABLES = re.compile(r"(<!-- table of (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _training(*accuracy: float) -> Training:
    return Training(
        epochs=1,
        lr=1e-3,
        batch_size=32,
        weight_decay=0.1,
        accuracy=list(accuracy),
        seconds=[None for _ in accuracy],
    )


def measured(
    zero: float = 40.0, expert: float = 97.0, scratch: float | None = 85.0, classes: int = 10
) -> Measured:
    """One task, measured with one seed."""
    return Measured(
        data="d1",
        classes=classes,
        seeds=[0],
        n_eval=[100],
        zero_shot=[zero],
        shared=_training(expert),
        diverse=None if scratch is None else _training(scratch),
    )


def _card(**tasks: Measured) -> Card:
    return Card(models={"micro-vit": ModelCard(weights="abc", tasks=tasks)})


# ---------------------------------------------------------------- the card


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Without it figures would be lost, or change, on their way to the user."""
    card = _card(shapes=measured(scratch=None), digits=measured())
    path = accuracy_card.write(card, tmp_path / "card.json")
    assert accuracy_card.read(path) == card
    assert list(json.loads(path.read_text())["models"]["micro-vit"]["tasks"]) == [
        "digits",
        "shapes",
    ]


def test_no_file_is_a_card_without_figures(tmp_path: Path) -> None:
    """Without it `neulig-fl tasks` would fail before anything was measured."""
    card = accuracy_card.read(tmp_path / "none.json")
    assert card.find("micro-vit", "abc", "digits", "d1") is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{", "the file"),
        ('{"models": {"m": {"weights": "a"}}}', "models.m.tasks"),
        ('{"schema_version": 2}', "schema_version"),
        ('{"modles": {}}', "modles"),
    ],
)
def test_a_broken_card_is_named_with_what_is_wrong(tmp_path: Path, text: str, where: str) -> None:
    """Without it a merge conflict in the file would be a traceback."""
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"card\.json: not an accuracy card \({where}: "):
        accuracy_card.read(path)


def test_a_card_with_a_seed_too_few_is_refused() -> None:
    """Without it a mean over the seeds would silently leave one out."""
    with pytest.raises(ValidationError, match="one value for each seed"):
        Measured.model_validate({**measured().model_dump(), "seeds": [0, 1]})


@pytest.mark.parametrize(
    "asked",
    [
        ("micro-rn", "abc", "digits", "d1"),
        ("micro-vit", "other", "digits", "d1"),
        ("micro-vit", "abc", "shapes", "d1"),
        ("micro-vit", "abc", "digits", "d2"),
    ],
)
def test_figures_of_other_weights_or_images_are_not_shown(asked: tuple[str, str, str, str]) -> None:
    """Without it new weights would be advertised with the old ones' accuracy."""
    card = _card(digits=measured())
    assert card.find("micro-vit", "abc", "digits", "d1") == measured()
    assert card.find(*asked) is None


def test_a_tasks_hash_changes_with_whatever_its_accuracy_depends_on(tmp_path: Path) -> None:
    """Without it figures of other images or prompts would be shown as a task's own."""
    root = tiny.images(tmp_path / "first", ("dark", "light"))

    def data(**options: object) -> str:
        said = {"source": "imagefolder", "root": str(root), **options}
        source = variants.load("neulig_fl.data.sources", "imagefolder").source(
            TaskOptions.model_validate(said)
        )
        return source_hash(source)

    first = data()
    assert data() == first
    assert data(templates=("a {}",)) != first
    (root / "light").rename(root / "lit")
    assert data() != first
    (root / "lit").rename(root / "light")
    assert data() == first
    (root / "light" / "0.bmp").unlink()
    assert data() != first


def test_a_new_figure_replaces_one_and_new_weights_replace_all() -> None:
    """Without it measuring one task again would lose the others, or mix two sets of weights."""
    card = _card(digits=measured(), shapes=measured())
    again = card.with_measured("micro-vit", "abc", "digits", measured(expert=50.0))
    assert again.models["micro-vit"].tasks == {
        "digits": measured(expert=50.0),
        "shapes": measured(),
    }
    new = again.with_measured("micro-vit", "def", "digits", measured())
    assert new.models["micro-vit"] == ModelCard(weights="def", tasks={"digits": measured()})
    other = new.with_measured("micro-rn", "x", "digits", measured())
    assert list(other.models) == ["micro-vit", "micro-rn"]


@pytest.mark.parametrize("name", MICRO_MODELS)
def test_weights_are_known_by_the_hash_that_the_family_has(name: str) -> None:
    """Without it no figure would ever be found."""
    family = open_family(Model(name=name), 0)
    assert accuracy_card.bundled_weights(name) == family.weights_hash
    assert accuracy_card.bundled_weights("no-such-model") is None


def test_the_packages_card_is_of_its_own_weights_and_tasks() -> None:
    """Without it a release would ship figures that `neulig-fl tasks` then does not show."""
    card = accuracy_card.read()
    for name, entry in card.models.items():
        assert entry.weights == accuracy_card.bundled_weights(name)
        for each in listed_tasks(0):
            assert each.task is None or each.name not in entry.tasks or each.measured[name]


# ---------------------------------------------------------------- means and goals


def test_means_are_over_tasks_each_over_its_seeds() -> None:
    """Without it a task measured with more seeds would count more."""
    twice = Measured.model_validate(
        {
            **measured().model_dump(),
            "seeds": [0, 1],
            "n_eval": [100, 100],
            "zero_shot": [10.0, 30.0],
            "shared": _training(80.0, 100.0).model_dump(),
            "diverse": None,
        }
    )
    found = accuracy_card.means([twice, measured(zero=40.0, expert=98.0)])
    assert found is not None
    assert (found.tasks, found.zero_shot, found.expert, found.scratch) == (2, 30.0, 94.0, None)
    assert accuracy_card.means([]) is None


GOOD = {"a": measured(), "b": measured(expert=95.0)}


@pytest.mark.parametrize(
    ("changed", "broken", "found"),
    [
        (measured(), [], ""),
        (measured(expert=89.99), [0], "b 89.99"),
        (measured(expert=90.0), [], ""),
        (measured(expert=88.0), [0, 1], "92.50"),
        (measured(zero=90.0, scratch=79.0), [], ""),
        (measured(zero=99.0, expert=99.0), [], ""),
        (measured(zero=10.0), [3], "b 0.00"),
        (measured(zero=12.0, classes=5), [3], "b -8.00"),
        (measured(scratch=70.0), [4], "77.50"),
    ],
)
def test_goals_fail_one_by_one(changed: Measured, broken: list[int], found: str) -> None:
    """Without it weak experts would pass for a suite to do science with."""
    goals = accuracy_card.goals({"a": measured(), "b": changed})
    assert [at for at, goal in enumerate(goals) if not goal.holds] == broken
    assert not broken or found in goals[broken[-1]].found


def test_a_checkpoint_that_leaves_no_room_fails() -> None:
    """Without it experts could be the checkpoint itself, and merging would be nothing."""
    goals = accuracy_card.goals({"a": measured(zero=82.5)})
    assert [goal.holds for goal in goals] == [True, True, False, True, True]
    assert goals[2].found == "14.50 below"


def test_what_was_not_trained_is_unknown() -> None:
    """Without it experts from scratch that nobody trained would pass."""
    goals = accuracy_card.goals({"a": measured(), "b": measured(scratch=None)})
    assert goals[4].holds is None
    assert goals[4].found == "not measured"
    assert accuracy_card.goals({}) == []


# ---------------------------------------------------------------- measuring


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/micro_accuracy.py."""
    path = ROOT / "benchmarks" / "micro_accuracy.py"
    spec = importlib.util.spec_from_file_location("micro_accuracy", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "micro_accuracy", module)
    spec.loader.exec_module(module)
    return module


TINY = ("--models", "micro-rn", "--tasks", "digits", "--epochs-shared", "1", "--batch-size", "128")


@pytest.mark.slow
def test_measuring_writes_the_card_and_goes_on_from_the_cache(
    script: ModuleType, own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it an interrupted measurement would start anew, or the card would be wrong."""
    out = tmp_path / "card.json"
    arguments = [*TINY, "--epochs-diverse", "1", "--out", str(out)]
    script.main(script.asked_for(arguments))
    first, card = capsys.readouterr(), accuracy_card.read(out)
    entry = card.models["micro-rn"]
    assert entry.weights == accuracy_card.bundled_weights("micro-rn")
    found = entry.tasks["digits"]
    assert found.zero_shot[0] > 10
    assert found.shared.accuracy[0] != found.zero_shot[0]
    assert (found.shared.epochs, found.shared.batch_size, found.shared.lr) == (1, 128, 1e-3)
    assert f"| digits | 10 | 10.0 | {found.zero_shot[0]:.2f} |" in first.out
    assert "- FAILS: from-scratch mean >= 80" in first.out
    assert "micro-rn digits seed 0 shared" in first.err
    assert len(list((own_cache / "experts").iterdir())) == 2
    script.main(script.asked_for(arguments))
    assert accuracy_card.read(out) == card
    assert "of training" not in capsys.readouterr().err
    script.main(script.asked_for([*TINY, "--skip-diverse", "--seed", "0", "0", "--out", str(out)]))
    again = accuracy_card.read(out).models["micro-rn"].tasks["digits"]
    assert again == found.model_copy(update={"diverse": None})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "digit"], "--tasks digit: no such task; allowed: .*did you mean digits"),
        (["--tasks", "digits", "--epochs-shared", "0"], "epochs 0: .*greater than or equal to 1"),
        (["--tasks", "digits", "--seed", "-1"], "seed -1: .*greater than or equal to 0"),
    ],
)
def test_bad_input_of_the_script(
    script: ModuleType, arguments: list[str], message: str, tmp_path: Path
) -> None:
    """Without it a typo would be found after an hour, or be a traceback."""
    with pytest.raises(InputError, match=message):
        script.main(script.asked_for([*arguments, "--out", str(tmp_path / "card.json")]))


# ---------------------------------------------------------------- docs/tasks.md


def test_the_tables_of_the_page_are_current() -> None:
    """If this fails, docs/tasks.md is behind the tasks or the card; running this file mends it."""
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text


def test_the_page_says_of_every_task_what_it_is() -> None:
    """If this fails, a task has no licence on the page, or the page has one that is gone."""
    text = PAGE.read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Licences.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    named = re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE)
    assert sorted(named) == [each.name for each in listed_tasks(0)]


def with_tables(text: str) -> str:
    """The page with its tables as the tasks and the card have them now."""
    tasks = list(listed_tasks(0))
    tables = {"splits": _split_rows, "accuracies": _accuracy_rows}

    def made(found: re.Match[str]) -> str:
        kept = {
            line.split("|")[1].strip(" `"): line
            for line in found[0].splitlines()
            if line.startswith("| `")
        }
        rows = [
            kept.get(each.name, row) if each.task is None else row
            for each, row in zip(tasks, tables[found[2]](tasks), strict=True)
        ]
        return found[1] + "\n".join([*HEADS[found[2]], *rows, ""]) + found[3]

    return TABLES.sub(made, text)


HEADS = {
    "splits": (
        f"| task | images | classes | images | {' | '.join(SPLITS)} |",
        f"| :-- | :-- | --: | --: | {' | '.join('--:' for _ in SPLITS)} |",
    ),
    "accuracies": (
        "| task | chance | "
        + " | ".join(f"{m} zero-shot | expert | from scratch" for m in MICRO_MODELS)
        + " |",
        "| :-- | --: | " + " | ".join("--: | --: | --:" for _ in MICRO_MODELS) + " |",
    ),
}


def _split_rows(tasks: list[ListedTask]) -> Iterator[str]:
    """A task whose files are not on this machine keeps the row that the page has."""
    for each in tasks:
        summary = each.task.source.summary if each.task else "-"
        counts = [f"{count:,}" for count in each.counts.values()] or ["-"] * (2 + len(SPLITS))
        yield f"| `{each.name}` | {summary} | {' | '.join(counts)} |"


def _accuracy_rows(tasks: list[ListedTask]) -> Iterator[str]:
    for each in tasks:
        chance = f"{100 / each.counts['classes']:.1f}" if each.task else "-"
        cells = [cell for found in each.measured.values() for cell in _cells(found)]
        yield f"| `{each.name}` | {chance} | {' | '.join(cells)} |"


def _cells(found: Measured | None) -> list[str]:
    if found is None:
        return ["-", "-", "-"]
    trainings = (found.shared, found.diverse)
    figures = [found.zero_shot, *(each.accuracy if each else [] for each in trainings)]
    return [f"{mean(values):.1f}" if values else "-" for values in figures]


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
