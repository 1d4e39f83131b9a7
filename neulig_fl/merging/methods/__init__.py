"""Merge methods: one file each, with its rule, what it needs released, its defaults, its source.

A method has

- `SOURCE`: where the rule is from, `arXiv:...`;
- `NEEDS`: what it reads (`Needs`); it can read nothing else;
- `merge(given, *, ...)`: yields every floating entry of the merged model, one after the other, as
  (name, float32 tensor); or `model(given, *, ...)`: returns the merged model, where that is no
  single set of parameters. What comes after the `*` are its options, with types, limits, defaults;
- `ensemble(pool, evaluation, *, ...)`, where it has a counterpart that mixes outputs: the mixed
  outputs of every task's evaluation queries, from `Answers`. It takes some of the same options;
- `SYMMETRIC = False`, where the order of the clients matters;
- `AGREES = False`, where identical experts do not give the expert, with the reason beside it;
- `extension(entries)`, where the rule is extended to some models: how, in words, or None;
- `unfit(entries)`, where the rule does not know every model: why not this one, or None;
- `RE_ESTIMATES = True`, where BatchNorm's statistics of the merged model have to be made anew.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from neulig_fl.core import variants
from neulig_fl.merging.method_needs import Needs as Needs
from neulig_fl.merging.method_options import arguments as arguments
from neulig_fl.merging.method_options import options as options
from neulig_fl.merging.method_options import rule as rule
from neulig_fl.merging.method_options import settings as settings
from neulig_fl.merging.methods._given import Answers as Answers
from neulig_fl.merging.methods._given import Entries as Entries
from neulig_fl.merging.methods._given import Given as Given
from neulig_fl.merging.methods._given import MergeInputs as MergeInputs
from neulig_fl.merging.methods._given import Queries as Queries

if TYPE_CHECKING:
    from neulig_fl.merging.methods._state_dicts import StateDicts as StateDicts
    from neulig_fl.merging.methods._state_dicts import merged as merged

PACKAGE = "neulig_fl.merging.methods"


def __getattr__(name: str) -> Any:
    """`StateDicts` and `merged` on first use: to list the methods loads no torch."""
    if name not in ("StateDicts", "merged"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from neulig_fl.merging.methods import _state_dicts

    return getattr(_state_dicts, name)


def names() -> list[str]:
    """Every method, by its name in YAML, sorted.

    Example:
        >>> "task-arithmetic" in names()
        True
    """
    return variants.names(PACKAGE)


def load(name: str) -> ModuleType:
    """The file of one method.

    Raises:
        InputError: there is no such method; the message lists those that are.

    Example:
        >>> load("task-arithmetic").SOURCE
        'arXiv:2212.04089'
    """
    return variants.load(PACKAGE, name)
