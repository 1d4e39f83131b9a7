"""Conditions under which protections hold: the same words everywhere, and those that apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from neulig_fl.config import conditions
from neulig_fl.config.conditions import (
    ALL,
    CLIENT_CODE,
    FIRST_SERVER,
    LEVERAGE,
    ONE_STORE,
    ONE_USER,
)
from neulig_fl.config.policy_files import presets
from neulig_fl.config.yaml_source import read
from neulig_fl.study.checking import load

ROOT = Path(__file__).resolve().parents[2]
KEY = "ed25519:2b6Y3RkmXKAGZ2Dr7Dlkwq4W0i6h3cBcHkL3mC0v5pE"
ADD_UP = ("max_rows", "max_bytes", "max_epsilon", "max_leverage", "max_sums")
"""Budgets that count what left before."""


def _sentences(text: str) -> list[str]:
    """Which of the conditions stand in a text, however its lines are broken."""
    whole = " ".join(text.split())
    return [sentence for sentence in ALL if sentence in whole]


@pytest.mark.parametrize("page", ["README.md", "docs/threat-model.md"])
def test_pages_have_every_condition(page: str) -> None:
    """Without it a page could promise more than a plan and a report do."""
    assert _sentences((ROOT / page).read_text(encoding="utf-8")) == [*ALL]


def test_the_threat_model_says_who_may_work_with_the_server_as_plans_do() -> None:
    """Without it a reader could not tell that a plan's number is the threat model's."""
    page = " ".join((ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8").split())
    assert conditions.with_server(2).removeprefix("up to 2 ") in page


@pytest.mark.parametrize("name", presets())
def test_a_preset_says_its_conditions(name: str) -> None:
    """Without it whoever reads a preset would take its limits for more than they are."""
    file = ROOT / "neulig_fl" / "config" / "presets" / f"{name}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.removeprefix("#") for line in lines if line.startswith("#"))
    said = read(file).data
    wanted = [CLIENT_CODE]
    if any(limit in said.get("budgets", {}) for limit in ADD_UP):
        wanted.append(ONE_STORE)
    if any("secure-aggregation" in rule.get("protections", []) for rule in said["allow"]):
        wanted.append(LEVERAGE)
    assert _sentences(comment) == wanted


@pytest.mark.parametrize(
    ("scenario", "wanted"),
    [
        ("quickstart", []),
        ("privacy/outputs-then-parameters", [CLIENT_CODE, ONE_USER, FIRST_SERVER]),
        ("privacy/labels-only", [CLIENT_CODE, ONE_USER, FIRST_SERVER, ONE_STORE]),
        ("privacy/dp-outputs", [CLIENT_CODE, ONE_USER, FIRST_SERVER, ONE_STORE]),
        ("privacy/outputs-then-sums", [*ALL]),
    ],
)
def test_a_scenario_has_the_conditions_of_what_it_promises(
    scenario: str, wanted: list[str]
) -> None:
    """Without it a plan would leave a condition out, or warn where nothing is promised."""
    assert conditions.of(load(ROOT / "scenarios" / f"{scenario}.yaml")) == wanted


def test_a_pinned_server_is_no_condition() -> None:
    """Without it who pins the server's key would be told to."""
    scenario = load(ROOT / "scenarios" / "privacy" / "outputs-then-sums.yaml")
    pinned = scenario.model_copy(update={"trust": {"server": KEY}})
    assert conditions.of(pinned) == [each for each in ALL if each != FIRST_SERVER]


def test_conditions_of_a_policy_alone_count() -> None:
    """Without it a client that keeps something in would not learn against whom that holds."""
    scenario = load(ROOT / "scenarios" / "quickstart.yaml")
    (first, *others) = scenario.clients
    kept = first.model_copy(update={"policy": first.policy.model_copy(update={"never": ("gram",)})})
    ruled = scenario.model_copy(update={"clients": (kept, *others)})
    assert CLIENT_CODE in conditions.of(ruled)
