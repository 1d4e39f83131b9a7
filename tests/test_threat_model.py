"""docs/threat-model.md: every claim names tests, and they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / "threat-model.md", ROOT / "SECURITY.md"]
NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
HEADING = re.compile(r"^#+ (.*)$")
HOLDS = "Holds"


def named(text: str) -> list[tuple[str, str]]:
    """The tests that a text names: file and function."""
    return [(found[1], found[2]) for found in NAME.finditer(text)]


@cache
def functions_of(path: str) -> frozenset[str]:
    """The test functions of a file; none where there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def claims(text: str) -> list[str]:
    """The list items under every heading `Holds`, each on one line."""
    found: list[str] = []
    holds = False
    for line in text.splitlines():
        heading = HEADING.match(line)
        if heading:
            holds = heading[1] == HOLDS
        elif holds and line.startswith("- "):
            found.append(line)
        elif holds and line.strip():
            assert line.startswith("  "), f"no item of a list: {line}"
            found[-1] += f" {line.strip()}"
    return found


def without_a_test(text: str) -> list[str]:
    """Claims that name no test, or one that is not there."""
    return [
        claim
        for claim in claims(text)
        if not named(claim) or any(test not in functions_of(path) for path, test in named(claim))
    ]


def test_every_claim_has_its_tests() -> None:
    """Without it the page could promise what nobody ever tried."""
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(claims(text)) >= 40
    assert without_a_test(text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_is_there(page: Path) -> None:
    """Without it a renamed test would leave its name behind as a promise."""
    missing = [
        f"{path}::{test}"
        for path, test in named(page.read_text(encoding="utf-8"))
        if test not in functions_of(path)
    ]
    assert missing == []


def test_every_section_says_what_does_not_hold() -> None:
    """Without it a section could list strengths alone."""
    text = PAGES[0].read_text(encoding="utf-8")
    sections = [part for part in text.split("\n## ") if f"\n### {HOLDS}\n" in part]
    assert len(sections) >= 7
    for section in sections:
        _, _, limits = section.partition("\n### Does not hold\n")
        assert "\n- " in limits, section.splitlines()[0]


@pytest.mark.parametrize(
    "claim",
    [
        "- Nothing ever leaks.",
        "- It is tested. `tests/test_threat_model.py::test_that_is_not_there`",
        "- It is tested. `tests/test_nowhere.py::test_every_claim_has_its_tests`",
        "- It is tested. `tests/test_threat_model.py::claims`",
    ],
)
def test_an_empty_claim_is_found(claim: str) -> None:
    """Without it the other tests could pass because they see no claim."""
    held = "- It is so. `tests/test_threat_model.py::test_every_claim_has_its_tests`"
    page = f"## A\n\n### Holds\n\n{held}\n{claim}\n  And more.\n\n### Does not hold\n\n- x\n"
    assert without_a_test(page) == [f"{claim} And more."]


def test_every_protection_is_told_of() -> None:
    """Without it a new protection would be used before anybody says what it is good for."""
    text = PAGES[0].read_text(encoding="utf-8")
    folder = ROOT / "neulig_fl" / "protections"
    names = [p.stem.replace("_", "-") for p in folder.glob("*.py") if p.stem[0] != "_"]
    assert len(names) >= 3
    assert [name for name in names if f"| `{name}` " not in text] == []
