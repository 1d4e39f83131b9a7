"""One trial: a forked process that imports a mutant in its module's place and runs the tests."""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import importlib.util
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import IO, Any

import coverage
import hypothesis
import pytest
from hypothesis import HealthCheck, Phase

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "neulig_fl"
TIMES, SECONDS = 3, 5
"""A trial may take so many times the processor time of the clean run, and these seconds."""

LIBRARIES = ("torch", "open_clip", "flwr.app", "flwr.supercore", "scipy.stats", "pydantic", "rich")
"""What takes long to import, and most tests need."""

STALLED = 20
"""A trial that computes nothing ends after so many times the clean run's wall time."""

MEMORY = 8 * 2**30
"""Bytes that a trial may allocate."""


@dataclass
class Clean:
    """What the tests do with the module as it is.

    Args:
        tests: seconds of each test that passed, by its name.
        lines: the module's lines that each test executes, by its name.
        loaded: names of the package's and of installed modules that were imported.
        processor: seconds of processor time.
        wall: seconds.
    """

    tests: dict[str, float] = field(default_factory=dict)
    lines: dict[str, set[int]] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    processor: float = 0.0
    wall: float = 0.0

    def first(self, lines: range) -> dict[str, float]:
        """The tests in the order in which they are tried: those that execute a line, quick ones."""
        return {
            name: (0 if self.lines.get(name, set()) & set(lines) else 1e6) + seconds
            for name, seconds in self.tests.items()
        }


class _Recorder:
    """A pytest plugin: which test takes how long and executes which lines of a file."""

    def __init__(self, file: Path) -> None:
        self.coverage = coverage.Coverage(data_file=None, include=[str(file)], config_file=False)
        self.file, self.clean = file, Clean()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.coverage.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        before = self.clean.tests.get(report.nodeid, 0.0)
        self.clean.tests[report.nodeid] = before + report.duration

    def done(self) -> Clean:
        """What was recorded."""
        for line, names in self.coverage.get_data().contexts_by_lineno(str(self.file)).items():
            for name in names:
                self.clean.lines.setdefault(name, set()).add(line)
        specs = [(name, vars(module).get("__spec__")) for name, module in sys.modules.items()]
        self.clean.loaded = [
            name
            for name, spec in specs
            if name.partition(".")[0] == PACKAGE or "site-packages" in str(spec and spec.origin)
        ]
        return self.clean


class _Order:
    """A pytest plugin: the tests that are likely to notice the mutant come first."""

    def __init__(self, order: dict[str, float]) -> None:
        self.order = order

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.order.get(item.nodeid, 0.0))


class _Mutated(SourceFileLoader):
    """Loads a module from a source that is in no file."""

    source = b""

    def get_data(self, path: str) -> bytes:  # noqa: ARG002 (importlib's signature)
        return self.source

    def path_stats(self, path: str) -> Any:
        raise OSError(path)  # so that no compiled file is read or written


class _Finder:
    """Finds one module's mutant in the module's place."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source.encode()

    def find_spec(self, name: str, path: Any = None, _: Any = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        loader = _Mutated(name, spec.origin)
        loader.source = self.source
        return importlib.util.spec_from_file_location(name, spec.origin, loader=loader)


def module_name(file: str) -> str:
    """`neulig_fl/privacy/secagg/wire.py` as Python imports it."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def load_libraries() -> None:
    """Import once what every module's tests would import."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # no trial walks through the libraries' objects again


def clean(file: str, tests: Sequence[str]) -> Clean:
    """Run the tests with the module as it is, and load for later trials what does not hang on it.

    Args:
        file: the module's path from the root.
        tests: paths from the root, as pytest takes them.

    Raises:
        RuntimeError: a test fails without any mutant, or the module cannot be left out.
    """
    recorder, began = _Recorder(ROOT / file), time.perf_counter()

    def record() -> tuple[int, bytes]:
        recorder.coverage.start()
        code = _pytest(tests, recorder)
        recorder.coverage.stop()
        return code, pickle.dumps(recorder.done())

    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as log:
        status, usage = _forked(record, None, answer.fileno(), log.fileno())
        content, told = (_content(each) for each in (answer, log))
    if status != 0:
        words = told.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{file}: tests fail without any mutant: {' '.join(tests)}\n{words}")
    found: Clean = pickle.loads(content)
    found.wall, found.processor = time.perf_counter() - began, usage
    for name in independent(module_name(file), found.loaded):
        importlib.import_module(name)
    if module_name(file) in sys.modules:
        raise RuntimeError(f"{file}: is imported already, so that no mutant of it would be tried")
    gc.collect()
    gc.freeze()
    return found


def trial(file: str, source: str, tests: Sequence[str], known: Clean, lines: range) -> str:
    """Whether the tests notice a mutant: `killed`, `timeout` or `survived`.

    Args:
        file: the module's path from the root.
        source: the mutant.
        tests: as for `clean`.
        known: of `clean`.
        lines: what the mutant changes.
    """

    def attempt() -> tuple[int, bytes]:
        sys.meta_path.insert(0, _Finder(module_name(file), source))
        return _pytest(tests, _Order(known.first(lines))), b""

    with Path(os.devnull).open("r+b") as nothing:
        status, _ = _forked(attempt, known, nothing.fileno(), nothing.fileno())
    return {0: "survived", -1: "timeout"}.get(status, "killed")


def independent(module: str, loaded: Iterable[str]) -> list[str]:
    """Of the imported modules those that a mutant of `module` does not change.

    Args:
        module: which is mutated.
        loaded: names; those of the package count when their imports never lead to `module`.
    """
    names = [name for name in loaded if name.partition(".")[0] == PACKAGE]
    imports = {name: _imports(name) for name in names}
    hanging, before = {module}, 0
    while len(hanging) > before:
        before = len(hanging)
        hanging |= {name for name, found in imports.items() if found & hanging}
    return [name for name in loaded if name not in hanging]


def _imports(name: str) -> set[str]:
    """Every name that a module of the package imports from it, also inside of functions."""
    path = ROOT / name.replace(".", "/")  # asking importlib would import the folder's __init__
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = {name.rpartition(".")[0]}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return found


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _pytest(tests: Sequence[str], plugin: object) -> int:
    """Run tests; Hypothesis draws the same values each time, and looks for no smaller ones."""
    hypothesis.settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=(Phase.explicit, Phase.generate),
    )
    folder = tempfile.mkdtemp(prefix="mutants-")
    options = ["-x", "-q", "-m", "not slow", "--doctest-modules", "--hypothesis-profile=mutants"]
    # pytest would load a file that it is given by a way of its own, and not what was changed.
    options += ["--assert=plain"]
    quiet = ["-p", "no:cacheprovider", "-p", "no:randomly", "--basetemp", f"{folder}/tests"]
    try:
        return int(pytest.main([*options, *quiet, *tests], plugins=[plugin]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forked(
    work: Callable[[], tuple[int, bytes]], known: Clean | None, answer: int, log: int
) -> tuple[int, float]:
    """Run in a process of its own, which is forked from this one and its imports.

    Args:
        work: gives an exit status and an answer.
        known: what bounds the time; None for no bound.
        answer: file that the answer is written to.
        log: file that takes the standard output and the standard error.

    Returns:
        The exit status, -1 when the time was over; and seconds of processor time.
    """
    child = os.fork()
    if child == 0:
        _child(work, known, answer, log)
    ends = time.monotonic() + (STALLED * known.wall if known else 1e9)
    done, status, usage = os.wait4(child, os.WNOHANG)
    while not done and time.monotonic() < ends:
        time.sleep(0.02)
        done, status, usage = os.wait4(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests started and left
    if not done:
        os.wait4(child, 0)
        return -1, 0.0
    over = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
    return -1 if over else os.waitstatus_to_exitcode(status) & 255, usage.ru_utime + usage.ru_stime


def _child(
    work: Callable[[], tuple[int, bytes]], known: Clean | None, answer: int, log: int
) -> None:
    """The forked process: it never returns."""
    code, content = 3, b""
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if known is not None:
            most = int(TIMES * known.processor + SECONDS)
            resource.setrlimit(resource.RLIMIT_CPU, (most, most))
        for stream in (1, 2):
            os.dup2(log, stream)
        code, content = work()
        os.write(answer, content)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
