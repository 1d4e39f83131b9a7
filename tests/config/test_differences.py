"""What scenarios differ in, key by key."""

from __future__ import annotations

from typing import Any

import pytest

from neulig_fl.config.differences import MISSING, differences

ADA, BOB = {"name": "ada", "task": "x"}, {"name": "bob", "task": "y"}

CASES: dict[str, tuple[list[Any], list[tuple[str, tuple[Any, ...]]]]] = {
    "nothing": ([{"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}], []),
    "a value below": ([{"a": {"b": 1, "c": 0}}, {"a": {"b": 2, "c": 0}}], [("a.b", (1, 2))]),
    "a key of one alone": ([{"a": 1}, {"a": 1, "b": {"c": 2}}], [("b", (MISSING, {"c": 2}))]),
    "a list of values": ([{"a": [1, 2]}, {"a": [1, 3]}], [("a", ([1, 2], [1, 3]))]),
    "named, in another order": ([[ADA, BOB], [BOB, ADA]], []),
    "named, one changed": ([[ADA, BOB], [ADA, BOB | {"task": "z"}]], [("bob.task", ("y", "z"))]),
    "named, one more": ([[ADA], [ADA, BOB]], [("bob", (MISSING, BOB))]),
    "not named": (
        [{"share": [{"kind": "a"}, {"kind": "b"}]}, {"share": [{"kind": "a"}, {"kind": "c"}]}],
        [("share.1.kind", ("b", "c"))],
    ),
    "a name twice": (
        [[{"name": "t", "k": 1}, {"name": "t", "k": 2}],
         [{"name": "t", "k": 1}, {"name": "t", "k": 3}]],
        [("1.k", (2, 3))],
    ),
    "a mapping for a word": (
        [{"a": "none"}, {"a": {"b": 1}}], [("a", ("none", {"b": 1}))]
    ),
    "three": ([{"a": 1}, {"a": 1}, {"a": 2}], [("a", (1, 1, 2))]),
    "true is not 1": ([{"a": 1}, {"a": True}], [("a", (1, True))]),
    "an empty list": ([{"a": []}, {"a": [ADA]}], [("a.ada", (MISSING, ADA))]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_difference_is_found_and_nothing_else(name: str) -> None:
    """Without it a setting that explains a result would not stand beside it, or noise would."""
    scenarios, wanted = CASES[name]
    assert [*differences(scenarios)] == wanted
