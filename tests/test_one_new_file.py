"""A variant is one new file and nothing else: each is written into a copy and used end to end."""

from __future__ import annotations

import copy
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
        row: the method of a row that the report has to have; None where it has no rows.
        released: records that the report has to have: stage, kind and query set.
        wrong: what `check` has to say of the first share when it is changed, by the change.
        engine: under which it runs.
    """

    file: str
    text: str
    scenario: dict[str, Any]
    told: dict[tuple[str, ...], str] = field(default_factory=dict)
    row: str | None = "neulig"
    released: list[tuple[str, str, str]] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    engine: str = "local"


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
NOISE = {"gaussian": {"clip": 1.0, "epsilon": 8.0, "delta": 1e-5}}
PROTECTION = '''
"""Rounding: every number to a multiple of a step."""

from __future__ import annotations

from pydantic import Field

from neulig_fl.config.problems import Problem
from neulig_fl.config.values import Positive, Section
from neulig_fl.records.protections import Protection


class RoundingOptions(Section):
    """How coarse numbers become."""

    step: Positive = Field(description="Numbers are multiples of it.")


class Rounding(Protection[RoundingOptions]):
    """Numbers on a grid."""

    example = {"step": 0.5}

    def problems(self, scenario, shares):
        for steps, share in shares:
            if share.kind != "features":
                yield Problem((*steps, "kind"), "features alone are rounded")

    def settings(self, share, kind):
        return {"step": self.given(share).step}

    def treated(self, arrays, case):
        step = self.given(case.share).step
        return {name: (rows / step).round() * step for name, rows in arrays.items()}


PROTECTION = Rounding(RoundingOptions)
'''
KIND = '''
"""Confidence: how likely the expert holds the most likely class of each query."""

from __future__ import annotations

from neulig_fl.records.kinds import Output
from neulig_fl.records.kinds.probabilities import softmax


class Confidence(Output):
    """The largest probability."""

    noisable = True

    def layout(self, rows, sizes, fraction):
        return [("confidence", "<f4", (rows, 1))]

    def made_of(self, holdings):
        return {"confidence": softmax(holdings).max(axis=1, keepdims=True)}


KIND = Confidence()
'''

FAMILY = '''
"""Thin models: a bundled architecture under another name, with weights of its own seed."""

from __future__ import annotations

from neulig_fl.config.schema import Model
from neulig_fl.models.families.micro import MicroFamily


def knows(name):
    return name in names()


def names():
    return ["thin-vit"]


def weights(name):
    return []


def open_family(model, seed):
    return MicroFamily(Model(name="micro-vit", pretrained="none"), seed + 1)
'''
ENGINE = '''
"""The local engine, which says that it ran."""

from neulig_fl.runtime.engines import local


def run(job):
    local.run(job)
    (job.out / "loud.log").write_text(f"{job.clients} clients")
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
    "a model family": New(
        "models/families/thin.py",
        FAMILY,
        {"model": {"name": "thin-vit", "pretrained": "none"}},
        {("check", "new.yaml"): "model thin-vit: GELU", ("models", "--all"): "thin-vit"},
    ),
    "an engine": New(
        "runtime/engines/loud.py",
        ENGINE,
        {},
        {("plan", "new.yaml"): "bob"},
        engine="loud",
    ),
    "a protection": New(
        "records/protections/rounding.py",
        PROTECTION,
        {
            "stages": [
                {
                    **SCENARIO["stages"][0],
                    "share": [
                        {"kind": "features", "protection": {"rounding": {"step": 0.25}}},
                        {"kind": "parameters"},
                    ],
                }
            ]
        },
        {("schema",): "Numbers are multiples of it.", ("plan", "new.yaml"): "rounding"},
        wrong={
            "protection: rounding\n": "rounding needs step (got no options); such as "
            "{rounding: {step: 0.5}}",
            "protection: {rounding: {stp: 1}}\n": "did you mean step?",
            "protection: {rounding: {step: -1}}\n": "allowed: a number, above 0",
            "protection: {rounding: {step: 1}}\nkind: logits\n": "features alone are rounded",
        },
    ),
    "a kind of record": New(
        "records/kinds/confidence.py",
        KIND,
        {
            "portland": {"epochs": 1, "alignment": "none"},
            "clients": [
                {"name": "ada", "task": "digits", "policy": {"allow": [{"kind": "confidence"}]}},
                {"name": "bob", "task": "shapes"},
            ],
            "on_refusal": "continue",
            "stages": [
                {
                    "name": "noised",
                    "share": [{"kind": "confidence", "fraction": 0.5, "protection": NOISE}],
                },
                {"name": "sealed", "share": [{"kind": "confidence", "protection": "sealed"}]},
            ],
        },
        {("schema",): '"confidence"', ("plan", "new.yaml"): "confidence"},
        row=None,
        released=[("sealed", "confidence", "pool"), ("noised", "confidence", "evaluation")],
        wrong={
            "queries: []\n": "confidence answers queries (got []); name a query set",
            "protection: secure-aggregation\n": 'cannot be summed (got "confidence"',
            "examples: 5\n": "only gram and fisher are measured on examples",
        },
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
    said = {**SCENARIO, **new.scenario}
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(said))

    def told(*command: str, code: int = 0) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "neulig_fl", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(copied), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == code, ended.stderr + ended.stdout
        return ended.stdout + ended.stderr

    try:
        told("check", "new.yaml")
        for command, words in new.told.items():
            assert words in told(*command), command
        for change, words in new.wrong.items():
            broken = copy.deepcopy(said)
            broken["stages"][0]["share"][0] |= yaml.safe_load(change)
            (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(broken))
            assert words in told("check", "wrong.yaml", code=2), change
        told("run", "new.yaml", "--engine", new.engine, "--out", "run")
        told("verify", "run")
    finally:
        place.unlink()
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    rows = [row["method"] for row in report["stages"][0]["results"]]
    assert new.row in rows or (new.row is None and rows == [])
    came = {
        (stage["name"], each["kind"], each["queries"])
        for stage in report["stages"]
        for each in stage["releases"]
    }
    assert came >= set(new.released)
