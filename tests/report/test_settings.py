"""Tests of what a report says of its merge methods' settings."""

from __future__ import annotations

from typing import Any

import pytest
from report_example import example

from neulig_fl.core.errors import RunError
from neulig_fl.report import contract, settings

TRIED = [
    {"options": {"lambda": 0.3}, "pool_accuracy": 71.25},
    {"options": {"lambda": 1.0}, "pool_accuracy": 74.5},
]
SETTINGS = {
    "needs": "parameters of each client, theta_0",
    "options": {"density": 0.2, "lambda": 1.0},
    "tried": TRIED,
    "extension": None,
}


def stage(**changes: Any) -> dict[str, Any]:
    """A stage in which the last result is a tuned merge method."""
    found: dict[str, Any] = example()["stages"][1]
    found["results"][-1] |= {
        "method": "ties", "granularity": None, "variant": "lambda tuned",
        "settings": {**SETTINGS, **changes},
    }  # fmt: skip
    return found


def test_a_methods_needs_options_and_choice_are_a_line() -> None:
    """A reader would not know what a figure was made with."""
    assert settings.table_rows(stage()) == [
        [
            "ties (lambda tuned)",
            "parameters of each client, theta_0",
            "density 0.2, lambda 1",
            "by accuracy on the labelled pool: lambda 0.3: 71.25; lambda 1: 74.50",
        ]
    ]
    assert settings.table_rows(stage(tried=[]))[0][-1] == "fixed"


def test_what_was_tuned_and_extended_is_said() -> None:
    """A tuned figure would stand beside fixed ones as if it were one of them."""
    found = settings.sentences(stage(extension="its convolutions are merged too"))

    assert found == [
        "ties (lambda tuned): lambda 1, the best of 2 by accuracy on the labelled pool",
        "ties (lambda tuned): extension: its convolutions are merged too",
    ]
    assert settings.sentences(stage(tried=[])) == []


def test_neulig_and_the_controls_have_no_settings() -> None:
    """The table would be full of lines that say nothing."""
    assert settings.table_rows(example()["stages"][1]) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"tried": [{"options": {}, "pool_accuracy": 101.0}]}, "pool_accuracy"),
        ({"needs": ""}, "needs"),
        ({"extension": ""}, "extension"),
        ({"colour": 1}, "colour"),
    ],
)
def test_settings_are_held_to_the_contract(change: dict[str, Any], place: str) -> None:
    """A report could hold anything in its settings."""
    report = example()
    report["stages"][1] = stage()
    contract.validate(report)
    report["stages"][1] = stage(**change)

    with pytest.raises(RunError, match=place):
        contract.validate(report)
