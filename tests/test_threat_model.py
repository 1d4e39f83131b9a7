"""docs/threat-model.md: every claim stands beside an attack, a limit and tests that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / "threat-model.md", ROOT / "SECURITY.md"]
SUMMARIES = ("Who gets what", "Who is trusted for what")
"""Sections that sum up what the others claim."""

NAME = re.compile(r"`(tests/[\w/]+\.py)?::(\w+)`")
CLAIM = re.compile(
    r"- [^*\s].* \*Tried:\* [^*\s].* \*Limit:\* (?P<limit>[^*\s].*?) "
    r"(?P<tests>`[\w/.]*::\w+`(?:, `[\w/.]*::\w+`)*)"
)
NOT_CLAIMED = re.compile(r"- \*Not claimed:\* \S.*")
NO_LIMIT = "none known."


def named(text: str) -> list[tuple[str, str]]:
    """The tests that a text names: file and function; `::name` is of the file named before."""
    found: list[tuple[str, str]] = []
    for each in NAME.finditer(text):
        before = found[-1][0] if found else "no file"
        found.append((each[1] or before, each[2]))
    return found


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


def sections(text: str) -> dict[str, list[str]]:
    """By heading, the list items of every section but the summaries, each on one line."""
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {heading: items(part) for heading, part in pairs if heading not in SUMMARIES}


def items(part: str) -> list[str]:
    """The items of a section's list, which nothing follows."""
    found: list[str] = []
    for line in part.splitlines():
        if line.startswith("- "):
            found.append(line)
        elif found and line.strip():
            assert line.startswith("  "), f"no item of a list: {line}"
            found[-1] += f" {line.strip()}"
    return found


def holds_up(item: str) -> bool:
    """Whether a claim has an attack, a limit and tests that are there, or claims nothing."""
    if NOT_CLAIMED.fullmatch(item):
        return True
    whole = CLAIM.fullmatch(item)
    if whole is None or "::" in whole["limit"]:
        return False
    return all(test in functions_of(path) for path, test in named(whole["tests"]))


def says_a_limit(found: list[str]) -> bool:
    """Whether one of a section's items says where it ends."""
    claims = [CLAIM.fullmatch(item) for item in found]
    limits = [whole["limit"] for whole in claims if whole]
    return len(limits) < len(found) or any(limit != NO_LIMIT for limit in limits)


def test_every_claim_has_an_attack_a_limit_and_tests() -> None:
    """Without it the page could promise what nobody ever tried, or hide where it ends."""
    found = [
        each for part in sections(PAGES[0].read_text(encoding="utf-8")).values() for each in part
    ]
    assert len(found) >= 50
    assert [item for item in found if not holds_up(item)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_is_there(page: Path) -> None:
    """Without it a renamed test would leave its name behind as a promise."""
    missing = [
        f"{path}::{test}"
        for path, test in named(page.read_text(encoding="utf-8"))
        if test not in functions_of(path)
    ]
    assert missing == []


def test_every_section_says_its_limits() -> None:
    """Without it a section could list strengths alone."""
    found = sections(PAGES[0].read_text(encoding="utf-8"))
    assert len(found) >= 10
    assert [heading for heading, part in found.items() if not (part and says_a_limit(part))] == []


HELD = "`tests/test_threat_model.py::test_every_section_says_its_limits`"


@pytest.mark.parametrize(
    "claim",
    [
        "- Nothing ever leaks.",
        f"- It is so. {HELD}",
        f"- It is so. *Limit:* none known. {HELD}",
        f"- It is so. *Tried:* much. {HELD}",
        f"- It is so. *Tried:* *Limit:* none known. {HELD}",
        f"- It is so. *Tried:* much. *Limit:* {HELD}, {HELD}",
        "- It is so. *Tried:* much. *Limit:* none known.",
        "- It is so. *Tried:* much. *Limit:* none known. `tests/test_threat_model.py::test_none`",
        "- It is so. *Tried:* much. *Limit:* none known. `tests/test_nowhere.py::test_none`",
        "- It is so. *Tried:* much. *Limit:* none known. `tests/test_threat_model.py::items`",
        "- It is so. *Tried:* much. *Limit:* none known. `::test_every_section_says_its_limits`",
        f"- It is so. *Tried:* much. *Limit:* none known. {HELD}, `::test_that_is_not_there`",
        f"- It is so. *Tried:* much. *Limit:* none known. {HELD} And nothing leaks.",
        "- *Not claimed:*",
    ],
)
def test_an_empty_claim_is_found(claim: str) -> None:
    """Without it the other tests could pass because they see no claim."""
    good = f"- It is so. *Tried:* much. *Limit:* none known.\n  {HELD},\n  `::holds_up`"
    good = good.replace("holds_up", "test_every_claim_has_an_attack_a_limit_and_tests")
    page = f"# Top\n\n## {SUMMARIES[0]}\n\n- x\n\n## A\n\nWords.\n\n{good}\n{claim}\n"
    (found,) = sections(page).values()
    assert [holds_up(item) for item in found] == [True, False]


def test_a_section_without_limits_is_found() -> None:
    """Without it the test of limits could pass because it sees none."""
    bare = f"- It is so. *Tried:* much. *Limit:* none known. {HELD}"
    assert not says_a_limit([bare, bare])
    assert says_a_limit([bare, bare.replace(NO_LIMIT, "one store.")])
    assert says_a_limit([bare, "- *Not claimed:* the rest."])


def test_every_protection_is_told_of() -> None:
    """Without it a new protection would be used before anybody says what it is good for."""
    text = PAGES[0].read_text(encoding="utf-8")
    folder = ROOT / "neulig_fl" / "records" / "protections"
    names = [p.stem.replace("_", "-") for p in folder.glob("*.py") if p.stem[0] != "_"]
    assert len(names) >= 3
    assert [name for name in names if f"| `{name}` " not in text] == []
