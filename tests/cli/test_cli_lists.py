"""`neulig-fl schema`, `tasks` and `models`: what can stand in a scenario."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import tiny
from command_line import Line


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
    narrow = " ".join(line("tasks").out.split())
    for text in (" ".join(wide.split()), narrow):
        assert "digits" in text
        assert "1,797" in text
        assert "circle, square" in text
        assert "source: imagefolder" in text
    assert "Train A" in wide
    assert "train A" in narrow


def test_models(line: Line) -> None:
    """Without it a user could not choose a model."""
    ended = line("models")
    assert "micro-vit" in ended.out
    assert "1,233,408" in ended.out
    assert "32x32" in ended.out
    assert "pretrained: openai" in ended.out
    every = line("models", "--all").out.splitlines()
    assert "micro-rn  bundled" in every
    assert any(each.startswith("ViT-B-32  openai, ") for each in every)


@pytest.mark.slow
def test_a_closed_pipe_is_no_error() -> None:
    """Without it `neulig-fl models --all | head` would end in an error."""
    command = f"{sys.executable} -m neulig_fl models --all | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
