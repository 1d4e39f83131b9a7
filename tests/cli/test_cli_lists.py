"""`neulig-fl schema`, `tasks` and `models`: what can stand in a scenario."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import tiny
import yaml
from command_line import Line

from neulig_fl.cli import inventory, lists
from neulig_fl.config.scenario import TaskOptions
from neulig_fl.config.tasks import OPEN_SOURCES
from neulig_fl.core import variants
from neulig_fl.core.errors import DataError
from neulig_fl.data.sources import digits, source_hash
from neulig_fl.models import accuracy_card
from neulig_fl.models.accuracy_card import Card, Measured, ModelCard, Training


def test_schemas(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it no editor could check a scenario, and no program a report."""
    schema = json.loads(line("schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tiny.said(data), schema)
    report = tiny.run(tmp_path, data)
    jsonschema.validate(report.data, json.loads(line("schema", "--report").out))


def test_tasks(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a user could not learn what can stand in a scenario."""
    wide = line("tasks").out
    monkeypatch.setenv("COLUMNS", "45")
    narrow = line("tasks").out
    for text in (" ".join(wide.split()), " ".join(narrow.split())):
        assert "digits" in text
        assert "1,797" in text
        assert "circle, square" in text
        assert "handwritten digits, 8x8 scans (scikit-learn)" in text
        assert "source: imagefolder" in text
    assert "Train" in wide
    assert "513 train A" in " ".join(narrow.split())
    assert "Train" not in narrow
    assert max(map(len, wide.splitlines())) <= 100
    shown = narrow[: narrow.index("Other images")]
    assert max(map(len, shown.splitlines())) <= 45


def _measured(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Put a card in place of the package's: some tasks, measured with micro-vit."""
    entries = {
        each.name: Measured(
            data=source_hash(each.task.source),
            classes=10,
            seeds=[0, 1],
            n_eval=[100, 100],
            zero_shot=[40.0, 41.0],
            shared=_training([97.0, 98.0]),
            diverse=_training([100.0, 100.0]),
        )
        for each in inventory.listed_tasks(0)
        if each.task and each.name in names
    }
    weights = accuracy_card.bundled_weights("micro-vit") or ""
    card = Card(models={"micro-vit": ModelCard(weights=weights, tasks=entries)})
    path = accuracy_card.write(card, folder / "card.json")
    monkeypatch.setattr(accuracy_card.read, "__defaults__", (path,))


def _training(accuracy: list[float]) -> Training:
    settings = {"epochs": 1, "lr": 1e-3, "batch_size": 32, "weight_decay": 0.1}
    return Training.model_validate({**settings, "accuracy": accuracy, "seconds": [None, None]})


def test_tasks_show_what_was_measured(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without it a user would choose tasks on which there is nothing to merge."""
    _measured(monkeypatch, tmp_path)
    for width in ("100", "60"):
        monkeypatch.setenv("COLUMNS", width)
        assert "Accuracies: not measured with the bundled weights." in line("tasks").out
    _measured(monkeypatch, tmp_path, "digits")
    narrow = " ".join(line("tasks").out.split())
    assert "Zero-shot / expert accuracy: micro-vit 40.5 / 97.5, micro-rn not measured." in narrow
    assert narrow.count("40.5") == 1
    monkeypatch.setenv("COLUMNS", "100")
    wide = line("tasks").out
    (row,) = [words for words in wide.splitlines() if words.startswith("digits ")]
    assert row.split()[-4:] == ["40.5", "/", "97.5", "-"]
    assert "(seeds 0, 1)" in wide
    assert "What is not here (-) was not measured" in " ".join(wide.split())


def test_models_show_means_over_what_was_measured(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without it a mean over two tasks would pass for one over all."""
    _measured(monkeypatch, tmp_path, "digits", "shapes")
    wide = line("models").out
    assert "means over tasks (2 for micro-vit)" in wide
    (row,) = [words for words in wide.splitlines() if words.startswith("micro-vit ")]
    assert row.split()[-2:] == ["40.5", "97.5"]
    assert max(map(len, wide.splitlines())) <= 100
    monkeypatch.setenv("COLUMNS", "60")
    assert "zero-shot 40.5, expert 97.5." in " ".join(line("models").out.split())
    first, second = json.loads(line("models", "--json").out)
    assert first["accuracy"] == {
        "tasks": 2,
        "zero_shot": 40.5,
        "expert": 97.5,
        "from_scratch": 100.0,
    }
    assert second["accuracy"] is None


def test_tasks_as_json(line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it a program would have to read a table."""
    _measured(monkeypatch, tmp_path, "digits")
    records = {record["task"]: record for record in json.loads(line("tasks", "--json").out)}
    digits = records["digits"]
    assert digits["images"] == sum(digits["splits"].values()) == 1797
    assert digits["classes"] == list("0123456789")
    assert digits["accuracy"]["micro-vit"]["expert"] == 97.5
    assert digits["accuracy"]["micro-rn"] is None
    assert digits["missing"] is None
    other = {
        record["task"]: record for record in json.loads(line("tasks", "--seed", "5", "--json").out)
    }
    assert other["digits"]["splits"] != digits["splits"]


@pytest.mark.parametrize("width", ["100", "50"])
def test_a_task_without_its_files_is_listed_with_how_to_get_them(
    line: Line, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    """Without it one task's missing files would hide all the others."""

    def source(options: TaskOptions) -> None:
        raise DataError(f"task {options.source}: no files; install dataset-digits")

    monkeypatch.setattr(digits, "source", source)
    monkeypatch.setenv("COLUMNS", width)
    ended = line("tasks")
    words = " ".join(ended.out.split())
    assert ended.code == 0
    assert "digits: its images are not here. task digits: no files; install dataset-digits" in words
    assert "circle, square" in words
    record = next(r for r in json.loads(line("tasks", "--json").out) if r["task"] == "digits")
    assert "dataset-digits" in record["missing"]


def test_the_way_to_other_images_is_a_valid_scenario() -> None:
    """Without it a user would copy keys that no source has."""
    said = yaml.safe_load(lists.own_task_help().split("\n", 1)[1])
    there = set(variants.names("neulig_fl.data.sources"))
    sources = [TaskOptions.model_validate(options).source for options in said["tasks"].values()]
    assert sources == [name for name in inventory.OWN_TASKS if name in there]
    assert set(inventory.OWN_TASKS) == OPEN_SOURCES
    assert said["clients"][0]["task"] in said["tasks"]


def test_models(line: Line) -> None:
    """Without it a user could not choose a model."""
    ended = line("models")
    digest = hashlib.sha256((accuracy_card.MICRO / "micro-vit.safetensors").read_bytes())
    assert "micro-vit" in ended.out
    assert "1,233,408" in ended.out
    assert "32x32" in ended.out
    assert f"{digest.hexdigest()[:12]}..." in ended.out
    assert "pretrained: openai" in ended.out
    every = line("models", "--all").out.splitlines()
    assert "micro-rn  bundled" in every
    assert any(each.startswith("ViT-B-32  openai, ") for each in every)
    records = {
        r["model"]: r["pretrained"] for r in json.loads(line("models", "--all", "--json").out)
    }
    assert len(records) == len(every)
    assert records["micro-rn"] == ["bundled"]
    assert "openai" in records["ViT-B-32"]


def test_a_model_without_weights_says_how_to_make_them(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without it a checkout without weights would end in an error."""
    monkeypatch.setattr(accuracy_card, "MICRO", tmp_path)
    ended = line("models")
    assert ended.code == 0
    assert "Make missing weights with `neulig-fl pretrain MODEL`." in ended.out
    assert [r["sha256"] for r in json.loads(line("models", "--json").out)] == [None, None]


@pytest.mark.slow
def test_a_closed_pipe_is_no_error() -> None:
    """Without it `neulig-fl models --all | head` would end in an error."""
    command = f"{sys.executable} -m neulig_fl models --all | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
