"""Fixtures that several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch


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
def _one_thread() -> None:
    """Tiny tensors are slower on several threads, and the machine is shared."""
    torch.set_num_threads(1)


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
    """Two folders of pictures: `first` with two classes, `second` with three."""
    root = tmp_path_factory.mktemp("data")
    tiny.pictures(root / "first", ("dark", "light"), seed=1)
    tiny.pictures(root / "second", ("low", "middle", "high"), seed=2)
    return root
