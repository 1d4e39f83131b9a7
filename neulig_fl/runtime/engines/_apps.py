"""Where the two Flower apps are and what is in them."""

from __future__ import annotations

import importlib
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neulig_fl.core.errors import EngineError

FOLDERS = ("clients", "server")
"""The app's packages; with `pyproject.toml` they are all that the app bundle carries."""


def app_dir() -> Path:
    """Find the folder with `clients/`, `server/` and `pyproject.toml`.

    In a wheel they are data of the package; in an editable install they stand in the repository.

    Raises:
        EngineError: neither place has them.
    """
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "_app", package.parent):
        if all((folder / name).exists() for name in (*FOLDERS, "pyproject.toml")):
            return folder
    raise EngineError(
        "the Flower apps (clients/ and server/) were not installed with neulig_fl; install it again"
    )


def copy_app(source: Path, target: Path) -> None:
    """Copy the two packages and `pyproject.toml`, and nothing else of a repository."""
    target.mkdir(parents=True)
    for name in FOLDERS:
        shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(source / "pyproject.toml", target / "pyproject.toml")


def app_settings(folder: Path) -> dict[str, Any]:
    """Read the table `[tool.flwr.app]` of an app's `pyproject.toml`."""
    with (folder / "pyproject.toml").open("rb") as file:
        settings: dict[str, Any] = tomllib.load(file)["tool"]["flwr"]["app"]
    return settings


def load_object(reference: str) -> Any:
    """Import what `module:attribute` names."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Make `clients` and `server` mean the packages in `folder`, whatever else has these names.

    The names are generic: the working folder, or what was imported before, may have others. On
    leaving, everything is as it was.
    """
    before = _take_out()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _take_out()
        sys.modules.update(before)


def _take_out() -> dict[str, Any]:
    names = [name for name in sys.modules if name.partition(".")[0] in FOLDERS]
    return {name: sys.modules.pop(name) for name in names}
