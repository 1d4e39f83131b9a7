"""Fixtures that several tests share."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What differs from machine to machine, and must not decide a test."""
    group = parser.getgroup("neulig-fl")
    group.addoption(
        "--training-seed", type=int, default=tiny.SEED, help="seed of the tests' tiny scenarios"
    )
    group.addoption("--threads", type=int, default=1, help="torch's threads in the tests' process")


def pytest_configure(config: pytest.Config) -> None:
    """What must be set before a test file is read.

    A shell's background jobs ignore Ctrl-C, and nohup's a lost terminal; what the tests start
    would ignore them too.
    """
    tiny.SEED = config.getoption("--training-seed")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            usual = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
    # xdist would begin with the files of most tests; see `pytest_collection_modifyitems`.
    config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, then those with many: none runs alone at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """How the same tests are run again in the same order, with the same random numbers."""
    if exitstatus and config.pluginmanager.hasplugin("randomly"):
        order = config.getoption("randomly_seed")
        terminalreporter.write_line(f"To repeat this order: pytest --randomly-seed={order}")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this session's own: no test reads or fills the user's."""
    before = os.environ.get("NEULIG_CACHE")
    folder = tmp_path_factory.mktemp("cache")
    os.environ["NEULIG_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["NEULIG_CACHE"]
    else:
        os.environ["NEULIG_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def _threads(pytestconfig: pytest.Config) -> None:
    """One, unless asked: tiny tensors are slower on several threads, and the machine is shared."""
    torch.set_num_threads(pytestconfig.getoption("--threads"))


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Torch's global generator starts anew in each test, as those of Python and NumPy do."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _tiny_model() -> None:
    """OpenCLIP knows `tiny-vit` in every test."""
    tiny.register_model()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    folder = tmp_path / "own-cache"
    monkeypatch.setenv("NEULIG_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of images: `first` with two classes, `second` with three."""
    root = tmp_path_factory.mktemp("data")
    tiny.images(root / "first", ("dark", "light"), seed=1)
    tiny.images(root / "second", ("low", "middle", "high"), seed=2)
    return root
