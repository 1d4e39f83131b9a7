"""The laws of the house: rooms, walls, and what importing does. docs/architecture.md says why.

1. Every module stands in a room; a room imports rooms of lower layers only, never a sibling, at the
   top or inside a function, for type checkers too; there is no circle, also not between two files.
2. The server's app leads to no module of `client`, by no chain of imports; the client's app to none
   of `server` or `study`. Files found by name count as imported by whoever loads them.
3. Flower is imported by `runtime` and the apps only; `config` and `report` lead to neither torch
   nor Flower.
4. The library imports neither app; the server's side names no client's file.
5. Importing the package loads neither torch nor Flower; importing any module prints and writes
   nothing.

Each law is tried on the same source with a violation planted into it.
"""

from __future__ import annotations

import ast
import os
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import house
import pytest
from house import LAYER, LAYERS, PACKAGE, ROOT, House, room

STANDING = House.standing()
MODULES = sorted(STANDING.sources)

Law = Callable[[House], Iterator[str]]
LAWS: tuple[Law, ...] = (
    house.loose, house.upward, house.circles, house.walls, house.flower, house.heavy,
)  # fmt: skip

PLANTED: dict[str, tuple[Law, str, str, str]] = {
    "a file at the root": (house.loose, "neulig_fl.helpers", "", "loose at the package's root"),
    "a room of its own": (house.loose, "neulig_fl.misc.helpers", "", "no room of that name"),
    "upwards": (
        house.upward,
        "neulig_fl.records.decisions",
        "def f():\n    from neulig_fl.client import gate",
        "records imports client",
    ),
    "a sibling": (
        house.upward,
        "neulig_fl.models.outputs",
        "from neulig_fl.data.images import square",
        "models imports data",
    ),
    "a sibling, for types": (
        house.upward,
        "neulig_fl.server.collecting",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import neulig_fl.client.gate",
        "server imports client",
    ),
    "an app": (house.upward, "neulig_fl.cli.run", "import clients.app", "imports the app"),
    "a circle": (
        house.circles,
        "neulig_fl.core.files",
        "def f():\n    import neulig_fl.core.progress",
        "neulig_fl.core.files -> neulig_fl.core.progress -> neulig_fl.core.files",
    ),
    "the server to the client": (
        house.walls,
        "neulig_fl.study.steps.merge",
        "import neulig_fl.client.store",
        "server.app leads to neulig_fl.client.store",
    ),
    "the client to the server, by a new file between": (
        house.walls,
        "neulig_fl.client.gate",
        "import neulig_fl.server.collecting",
        "clients.app leads to neulig_fl.server.collecting",
    ),
    "the client to the study, by a variant": (
        house.walls,
        "neulig_fl.records.protections.sealed",
        "import neulig_fl.study.baseline_rows",
        "clients.app leads to neulig_fl.study.baseline_rows",
    ),
    "Flower": (
        house.flower,
        "neulig_fl.study.server_loop",
        "def f():\n    from flwr.app import Message",
        "imports flwr.app",
    ),
    "torch in config": (
        house.heavy,
        "neulig_fl.core.files",
        "def f():\n    import torch",
        "neulig_fl.config.scenario leads to neulig_fl.core.files",
    ),
    "torch in report": (
        house.heavy,
        "neulig_fl.report.figures",
        "import torch",
        "neulig_fl.report.markdown leads to neulig_fl.report.figures",
    ),
}

CLIENTS_OWN = ("reference.json", "ledger.jsonl", "clients")
"""Names of a client's files, and of the folder of all stores."""


# ---------------------------------------------------------------- the laws


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(law: Law) -> None:
    """Without it the rooms would grow together until nothing could be changed alone."""
    assert [*law(STANDING)] == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_violation_is_found(name: str) -> None:
    """Without it a law could hold because nobody looks."""
    law, module, line, found = PLANTED[name]
    told = [*law(STANDING.planted(module, line))]
    assert any(found in each for each in told), told


def test_the_apps_lead_to_where_the_work_is() -> None:
    """Without it the walls would hold because the walk stops early."""
    reached = STANDING.reached("server.app")
    assert {"neulig_fl.study.server_loop", "neulig_fl.study.steps.merge"} <= reached
    assert "neulig_fl.client.gate" in STANDING.reached("clients.app")
    assert "neulig_fl.records.protections.sealed" in STANDING.reached("clients.app")


def test_the_house_keeps_its_measures() -> None:
    """Without it the rooms would be a staircase again, or the files books."""
    assert len(LAYER) <= 16
    assert house.floors(STANDING) <= 10
    lines = {m: text.count("\n") for m, text in STANDING.sources.items() if m in STANDING.library}
    assert {m: n for m, n in lines.items() if n > 400} == {}
    assert 80 <= statistics.median(n for n in lines.values() if n > 1) <= 200


def test_every_room_stands() -> None:
    """Without it the image of the house would show rooms that nobody built."""
    assert {room(m) for m in STANDING.library} == {name for rooms in LAYERS for name in rooms}
    loose = {p.name for p in (ROOT / PACKAGE).iterdir() if p.is_file()}
    assert loose == {"__init__.py", "__main__.py", "py.typed"}


# ---------------------------------------------------------------- the server's side


SERVERS_SIDE = sorted(
    m for m in STANDING.reached("server.app") if m == "server.app" or room(m) in ("server", "study")
)


@pytest.mark.parametrize("module", SERVERS_SIDE)
def test_the_server_names_no_file_of_a_client(module: str) -> None:
    """Without it the server could look at what no client released."""
    for node in ast.walk(STANDING.trees[module]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in CLIENTS_OWN, f"{module}:{node.lineno}: {node.value}"


# ---------------------------------------------------------------- importing does nothing
def _python(code: str, folder: Path) -> str:
    environment = {**os.environ, "NEULIG_CACHE": str(folder / "cache"), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    """Without it `neulig-fl --help` would take seconds."""
    code = (
        "import sys, neulig_fl\n"
        "print([m for m in ('torch', 'flwr', 'numpy', 'pydantic') if m in sys.modules])"
    )
    assert _python(code, tmp_path) == "[]\n"


def test_the_packages_names_are_there_when_asked_for(tmp_path: Path) -> None:
    """Without it the call of docs/python.md would fail."""
    code = "import neulig_fl as n\nprint(callable(n.run), n.Report.__name__, n.__version__)"
    assert re.fullmatch(r"True Report \d+\.\d+\.\d+\S*\n", _python(code, tmp_path))


@pytest.mark.slow
def test_importing_any_module_prints_and_writes_nothing(tmp_path: Path) -> None:
    """Without it a server that only looks something up would start work."""
    names = [m for m in STANDING.library if not m.rpartition(".")[2].startswith("_")]
    code = (
        "import importlib, torch\nbefore = torch.get_num_threads()\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert torch.get_num_threads() == before\n"
        "assert not torch.are_deterministic_algorithms_enabled()"
    )
    assert _python(code, tmp_path) == ""
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and "matplotlib" not in str(p)]


def test_every_import_is_a_declared_dependency() -> None:
    """Without it the package would run here and fail on a fresh machine."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {k: v for k, v in pyproject["project"]["optional-dependencies"].items() if k != "dev"}
    listed = [*pyproject["project"]["dependencies"], *(d for v in extras.values() for d in v)]
    declared = {re.split(r"[\[<>=~! ]", d)[0].lower() for d in listed}
    names = {
        "yaml": "pyyaml",
        "PIL": "pillow",
        "vl_convert": "vl-convert-python",
        "Crypto": "pycryptodome",
        "dp_accounting": "dp-accounting",
        "sklearn": "scikit-learn",
        "open_clip": "open_clip_torch",
        "ray": "flwr",
        "pydantic_core": "pydantic",
        "datasets": "flwr-datasets",
        "huggingface_hub": "flwr-datasets",
    }
    for module in MODULES:
        for found in STANDING.imports[module]:
            top = found.module.partition(".")[0]
            if top in sys.stdlib_module_names or top in (PACKAGE, "clients", "server"):
                continue
            assert names.get(top, top).lower().replace("-", "_") in {
                d.replace("-", "_") for d in declared
            }, f"{module}:{found.line}: {top}"
