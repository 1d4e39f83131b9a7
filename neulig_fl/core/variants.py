"""Variants are files in a folder, found by name; `train_portland.py` is YAML's `train-portland`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from neulig_fl.core.errors import InputError, nearest


def names(package: str) -> list[str]:
    """The variants in a package, by YAML name, sorted; no variant is imported.

    A file whose name starts with `_` is no variant.

    Args:
        package: dotted name of the folder, such as `neulig_fl.study.steps`. A folder that is not
            there has none.

    Example:
        >>> "none" in names("neulig_fl.records.protections")
        True
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return []
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return sorted(m.name.replace("_", "-") for m in found if not m.ispkg and m.name[0] != "_")


def load(package: str, name: str, what: str | None = None) -> ModuleType:
    """The module of one variant.

    Args:
        package: dotted name of the folder.
        name: the variant's, as in YAML.
        what: what a message calls it; the folder's name in the singular unless given.

    Raises:
        InputError: no file of that name is in the folder; the message lists those that are.
    """
    allowed = names(package)
    if name not in allowed:
        called = what or package.rpartition(".")[2].removesuffix("s")
        raise InputError(f"no {called} is called {name!r}; {nearest(name, allowed)}")
    return importlib.import_module(f"{package}.{name.replace('-', '_')}")
