"""A variant is one new file and nothing else: each is written into a copy and used end to end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCENARIO: dict[str, Any] = {
    "name": "one-new-file",
    "seed": 7,
    "model": {"name": "micro-vit", "pretrained": "bundled"},
    "clients": [{"name": "ada", "task": "digits"}, {"name": "bob", "task": "shapes"}],
    "experts": {"epochs": 1, "batch_size": 64, "lr": 1e-3},
    "queries": {"pool": 20, "evaluation": 20},
    "portland": {"epochs": 1, "alignment": "none"},
    "stages": [
        {
            "name": "all",
            "share": [{"kind": "features"}, {"kind": "parameters"}],
            "run": ["train-portland", "merge"],
        }
    ],
}


@dataclass(frozen=True)
class New:
    """One new file, and what shows that it works.

    Args:
        file: where it is written, below the package.
        text: what is in it.
        scenario: what it changes in the scenario.
        told: words that a command has to say, by command line.
        row: the method of a row that the report has to have.
    """

    file: str
    text: str
    scenario: dict[str, Any]
    told: dict[tuple[str, ...], str] = field(default_factory=dict)
    row: str = "neulig"


STEP = '''
"""Counting: how many clients' answers are known."""

from __future__ import annotations

import time

from neulig_fl.study.baseline_rows import Row, close
from neulig_fl.study.permitted import Permitted


def needs_portland(known):
    return False


def needs(known):
    if not known.has("features", "evaluation"):
        yield "{kind: features, queries: [evaluation]}", ""


def rehearse(rehearsal):
    yield Permitted("counting", None, False, False, "counting is possible")


def run(run):
    experts = run.inputs.experts(False)
    close(run, Row("counting", None, experts, reason=f"{len(experts)} clients"), time.perf_counter())
'''
METHOD = '''
"""A mean, scaled."""

from neulig_fl.merging.methods import Needs

SOURCE = "none"
NEEDS = Needs(each=("parameters",))
SYMMETRIC = True


def merge(given, *, scale: float = 1.0):
    """Scale the mean."""
    for name in given.entries:
        yield name, scale * given.mean(name)
'''
SOURCE = '''
"""Two greys: as easy as a task can be."""

from __future__ import annotations

import numpy as np

from neulig_fl.data.built_in import drawn


def _draw(rng, label):
    return np.full((32, 32, 3), 60 + 120 * label + rng.integers(20), np.uint8)


def source(options):
    names, templates = ("dark", "light"), options.templates or ("a {} photo.",)
    return drawn("greys", "two greys", names, templates, _draw, count=400, version="1")
'''

VARIANTS = {
    "a step": New(
        "study/steps/counting.py",
        STEP,
        {"stages": [{**SCENARIO["stages"][0], "run": ["train-portland", "counting"]}]},
        {("schema",): '"counting"', ("plan", "new.yaml"): "counting is possible"},
        "counting",
    ),
    "a merge method": New(
        "merging/methods/scaled_mean.py",
        METHOD,
        {"methods": [{"name": "scaled-mean", "options": {"scale": 0.5}}]},
        {
            ("methods",): "scaled-mean",
            ("schema",): '"scaled-mean"',
            ("plan", "new.yaml"): "scaled-mean",
        },
        "scaled-mean",
    ),
    "a task source": New(
        "data/sources/greys.py",
        SOURCE,
        {"clients": [{"name": "ada", "task": "digits"}, {"name": "bob", "task": "greys"}]},
        {("tasks",): "greys", ("plan", "new.yaml"): "bob"},
    ),
}


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and the apps."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("neulig_fl", "clients", "server", "scenarios"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("what", VARIANTS)
def test_one_new_file_and_nothing_else(what: str, copied: Path, tmp_path: Path) -> None:
    """Without it a new variant would have to be entered in lists that nobody knows of."""
    new = VARIANTS[what]
    place = copied / "neulig_fl" / new.file
    place.write_text(new.text.lstrip(), encoding="utf-8")
    (tmp_path / "new.yaml").write_text(yaml.safe_dump({**SCENARIO, **new.scenario}))

    def told(*command: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "neulig_fl", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(copied), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return ended.stdout

    try:
        told("check", "new.yaml")
        for command, words in new.told.items():
            assert words in told(*command), command
        told("run", "new.yaml", "--engine", "local", "--out", "run")
    finally:
        place.unlink()
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert new.row in [row["method"] for row in report["stages"][0]["results"]]
