"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

COMMANDS = (
    "init",
    "run",
    "check",
    "plan",
    "report",
    "study",
    "compare",
    "open",
    "verify",
    "keys",
    "schema",
    "tasks",
    "models",
    "methods",
    "show",
    "inspect",
    "pretrain",
    "bench",
)
NEVER = {"policy": {"never": ["parameters"]}}


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str


Line = Callable[..., Ended]


def clients(changed: str = "", **change: Any) -> list[dict[str, Any]]:
    """The clients of `tiny.said`, one of them changed."""
    tasks = {"ada": "first", "bob": "second", "cyd": "first"}
    return [
        {"name": name, "task": task, **(change if name == changed else {})}
        for name, task in tasks.items()
    ]
