"""Imports point one way. Walked with `ast`, so that lazy imports count and nothing is run.

What is enforced:

1. a module of `neulig_fl` imports only what stands before it in `ORDER`, at the top or inside a
   function alike; imports for type checkers alone are free; there is no cycle;
2. `neulig_fl` imports neither `clients` nor `server`; only `flower_io` and `engines` import Flower;
3. the server's side (`server/app.py` and `SERVER_SIDE`) imports neither `party`, `client_store` nor
   `gate`, takes from `experts` no more than `classify` and `encode`, and names no client's file;
   nothing that it imports, however far down, leads to `party`;
4. the client's side (`clients/app.py`, `party`) leads to none of the server's modules;
5. importing the package loads neither torch nor Flower; importing any module prints and writes
   nothing.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "neulig_fl"

ORDER = (
    # Know nothing of a scenario.
    "errors", "versions", "resizing", "strict_json", "downloads", "files", "progress", "parties", "consoles", "keys", "private_folders", "key_files", "ledger", "greeting", "closing", "manifest",
    "sealing", "secure_sum", "clipping", "discrete_gaussian", "accountant", "expert_account", "privacy", "leverage", "sum_guard", "posterior",
    "offset_sum",
    "superposition", "coopvec", "concentration", "randomness", "schedule", "typefaces", "drawing", "variants",
    "accuracy_card", "contact_sheet", "image_files", "pictures", "intervals", "yaml_nodes", "yaml_source", "source_cache", "picture_ids",
    "image_sets", "split_names", "image_walk", "picture_source", "image_copies", "image_questions", "image_layout",
    # What a scenario says.
    "scenario_values", "method_needs", "method_options", "scenario_methods", "policy_models", "scenario_tasks", "scenario_stages",
    "scenario_models", "scenario_errors", "policy_files", "limits", "policy", "method_checks", "scenario_needs", "scenario_checks", "scenario", "checking", "conditions", "opening", "signed_requests", "recipients", "machine",
    # What it names.
    "built_in", "tasks", "checkpoints", "families", "inspection", "pretrain", "queries", "outputs", "experts",
    "layer_inputs", "gram", "fisher", "trimming", "merges",
    # What leaves a client.
    "records", "protections", "sum_requests", "sum_keys", "sum_history", "sum_peers", "sum_state", "sum_vectors",
    "client_store", "address_book", "decisions", "gate", "entrance", "sum_gate", "plan", "sum_plan", "summing", "record_identity", "party",
    # What a server makes of it.
    "portland", "evaluate", "knowledge", "receipts", "noise_check", "collect", "fitted", "weightings",
    "sum_exchange", "sum_rounds", "sources", "merged", "sides", "compare", "method_source", "method_tuning", "method_rows", "stages", "study",
    # How it is carried, shown and started.
    "report", "over_seeds", "run_folders", "agreement", "findings", "leverage_check", "receipts_check", "manifest_check", "given_scenario",
    "report_check", "audit", "verification", "flower_io", "engines", "runs", "bench", "cli",
    "__main__",
)  # fmt: skip
DESIGN = (
    ("scenario",), ("tasks", "families"), ("experts",), ("records", "client_store", "gate"),
    ("portland", "evaluate"), ("stages",), ("report",),
)  # fmt: skip
"""Section 4 of the design, as far as it is built."""

SERVER_SIDE = (
    "study",
    "collect",
    "knowledge",
    "fitted",
    "weightings",
    "sum_exchange",
    "sum_rounds",
    "sources",
    "merged",
    "sides",
    "compare",
    "method_source",
    "method_tuning",
    "method_rows",
    "stages",
)
CLIENTS_OWN = ("reference.json", "ledger.jsonl", "clients")
"""Names of a client's files, and of the folder of all stores."""


@dataclass(frozen=True)
class Import:
    """One imported module, and where."""

    module: str
    line: int
    runtime: bool


def _modules() -> dict[str, Path]:
    """Every Python file of the package and of the two apps, by dotted name."""
    found = {}
    for folder in (PACKAGE, "clients", "server"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "_app" in path.parts:
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


MODULES = _modules()


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> tuple[Import, ...]:
    tree = _tree(module)
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        and ast.unparse(block.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in whole]
        found += [Import(name, node.lineno, id(node) not in for_types) for name in names]  # type: ignore[attr-defined]
    return tuple(found)


def _inside(module: str) -> list[Import]:
    """Runtime imports of the package's own modules; the package itself (its version) left out."""
    return [
        i for i in _imports(module) if i.runtime and i.module in MODULES and i.module != PACKAGE
    ]


def _unit(module: str) -> str:
    """The file or folder of the package that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def _reached(start: str) -> set[str]:
    """Everything that a module leads to; the folders of variants are loaded by name."""
    seen, todo = set(), [start]
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        todo += [i.module for i in _inside(module)]
        if _unit(module) == "study":
            todo += [m for m in MODULES if m.startswith(f"{PACKAGE}.stages.")]
    return seen


LIBRARY = [m for m in MODULES if m.startswith(f"{PACKAGE}.")]


# ---------------------------------------------------------------- 1: one way


@pytest.mark.parametrize("module", LIBRARY)
def test_imports_point_one_way(module: str) -> None:
    """Without it the layers would grow together until nothing could be changed alone."""
    own = _unit(module)
    assert own in ORDER, f"{module} is new: say in ORDER where it stands"
    for found in _inside(module):
        other = _unit(found.module)
        allowed = other == own or ORDER.index(other) < ORDER.index(own)
        assert allowed, f"{MODULES[module]}:{found.line}: {own} stands before {other}"


def test_the_order_is_the_designs() -> None:
    """Without it a back edge could be allowed by moving a name in this file."""
    places = [sorted(ORDER.index(name) for name in layer) for layer in DESIGN]
    for before, after in itertools.pairwise(places):
        assert before[-1] < after[0]
    assert len(set(ORDER)) == len(ORDER)


def test_there_is_no_cycle() -> None:
    """Without it two files would be one, whichever is read first."""
    state: dict[str, int] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        if state.get(module) == 2:
            return
        assert state.get(module) != 1, " -> ".join((*path[path.index(module) :], module))
        state[module] = 1
        for found in _inside(module):
            visit(found.module, (*path, module))
        state[module] = 2

    for module in MODULES:
        if module != PACKAGE:
            visit(module, ())


# ---------------------------------------------------------------- 2: the apps and Flower


def test_the_library_does_not_know_the_apps() -> None:
    """Without it the wheel, in which they are data, could not be imported."""
    for module in [PACKAGE, *LIBRARY]:
        for found in _imports(module):
            assert found.module.partition(".")[0] not in ("clients", "server"), (
                f"{module}:{found.line}"
            )


def test_only_the_edge_knows_flower() -> None:
    """Without it the method could not be run, tested or read without Flower."""
    for module in [PACKAGE, *LIBRARY]:
        for found in _imports(module):
            if found.module.partition(".")[0] in ("flwr", "ray"):
                assert _unit(module) in ("flower_io", "engines"), f"{module}:{found.line}"


# ---------------------------------------------------------------- 3 and 4: two sides


SERVER_MODULES = ["server.app", *(m for m in LIBRARY if _unit(m) in SERVER_SIDE)]


@pytest.mark.parametrize("module", SERVER_MODULES)
def test_the_server_never_reads_a_clients_cache_or_store(module: str) -> None:
    """Without it the server could look at what no client released."""
    for found in _imports(module):
        assert _unit(found.module) not in ("party", "client_store", "gate"), (
            f"{module}:{found.line}"
        )
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            taken = (node.value.id, node.attr)
            assert (
                taken[0] != "experts" or node.attr in ("classify", "encode") or _is_field(module)
            ), taken
        if isinstance(node, ast.ImportFrom) and node.module == f"{PACKAGE}.experts":
            assert {a.name for a in node.names} <= {"classify", "encode"}, f"{module}:{node.lineno}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in CLIENTS_OWN, f"{module}:{node.lineno}: {node.value}"


def _is_field(module: str) -> bool:
    """Whether `experts` is a name of the module's own there and not the module `experts`."""
    return not any(i.module == f"{PACKAGE}.experts" for i in _imports(module))


def test_nothing_leads_from_the_server_to_a_party() -> None:
    """Without it a client's expert would be one import away from the server."""
    assert f"{PACKAGE}.study" in _reached("server.app")
    assert f"{PACKAGE}.stages.merge" in _reached("server.app")
    assert f"{PACKAGE}.party" not in _reached("server.app")


@pytest.mark.parametrize("start", ["clients.app", f"{PACKAGE}.party"])
def test_nothing_leads_from_a_client_to_the_server(start: str) -> None:
    """Without it a party would have to install, and trust, the server's analysis."""
    units = {_unit(m) for m in _reached(start)}
    assert "gate" in units
    assert not units & {
        *SERVER_SIDE,
        "portland",
        "evaluate",
        "report",
        "engines",
        "runs",
        "cli",
        "bench",
    }


# ---------------------------------------------------------------- 5: importing does nothing


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
    """Without it the notebook call of the README would fail."""
    code = "import neulig_fl as n\nprint(callable(n.run), n.Report.__name__, n.__version__)"
    assert re.fullmatch(r"True Report \d+\.\d+\.\d+\S*\n", _python(code, tmp_path))


@pytest.mark.slow
def test_importing_any_module_prints_and_writes_nothing(tmp_path: Path) -> None:
    """Without it a server that only looks something up would start work."""
    names = [m for m in LIBRARY if not m.rpartition(".")[2].startswith("_")]
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
        for found in _imports(module):
            top = found.module.partition(".")[0]
            if top in sys.stdlib_module_names or top in (PACKAGE, "clients", "server"):
                continue
            assert names.get(top, top).lower().replace("-", "_") in {
                d.replace("-", "_") for d in declared
            }, f"{module}:{found.line}: {top}"
