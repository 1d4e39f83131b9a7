"""Libraries that take seconds to import, loaded when they are first used.

`from neulig_fl.core.lazy import torch` in place of `import torch` lets a module describe what it
does (options, needs, sizes) to commands that compute nothing. Type checkers see the libraries
themselves; names that only annotations use are imported for type checkers alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import open_clip as open_clip
    import torch as torch


class Library:
    """A module that is imported when something of it is first asked for.

    Args:
        name: of the module, as it would be imported.

    Example:
        >>> Library("math").sqrt(4.0)
        2.0
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def __getattr__(name: str) -> Library:
    if name not in ("open_clip", "torch"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return Library(name)
