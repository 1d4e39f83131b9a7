"""The root command: help, usage errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import COMMANDS, Line

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "flwr", "open_clip", "sklearn", "scipy", "pandas", "ray")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_with_an_example(line: Line, command: str) -> None:
    """Without it a user would have to find out by trial how a command is written."""
    ended = line(command, "--help")
    assert ended.code == 0
    assert f"  neulig-fl {command}" in ended.out.split("Example")[1]


def test_nothing_heavy_is_loaded_for_help_or_a_typo(tmp_path: Path) -> None:
    """Without it a typo would take as long to be told as torch takes to load."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("nam: x\n")
    for arguments, expected in ((["--help"], 0), (["run", str(bad)], 2), (["check", str(bad)], 2)):
        assert _loaded(arguments) == f"{expected} []"


def _loaded(arguments: list[str]) -> str:
    """The exit code of a command, and what it has loaded of `HEAVY`."""
    code = (
        "import sys\nfrom neulig_fl import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit as end: code = end.code\n"
        f"print(code, [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


BUILT_IN = ("quickstart.yaml", "privacy/outputs-then-sums.yaml", "micro/baselines-vit.yaml")
"""Scenarios of built-in tasks and models: with secure sums, and with every merge method."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["methods"],
        ["methods", "zipit"],
        *(["check", str(ROOT / "scenarios" / name)] for name in BUILT_IN),
        *(["plan", str(ROOT / "scenarios" / name)] for name in BUILT_IN),
    ],
    ids=lambda arguments: " ".join(Path(each).stem for each in arguments),
)
def test_what_computes_nothing_loads_nothing_heavy(arguments: list[str]) -> None:
    """Without it a look at a scenario would take ten seconds, most of them for torch."""
    assert _loaded(arguments) == "0 []"


def test_without_a_command_help_is_shown(line: Line) -> None:
    """Without it a newcomer's first try would be an error."""
    ended = line()
    assert ended.code == 0
    assert all(command in ended.out for command in COMMANDS)
    assert line("--version").out.startswith("neulig-fl ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "error: No such command 'rum'. Did you mean 'run'?\n"),
        (["chek"], "error: No such command 'chek'. Did you mean 'check', 'schema'?\n"),
        (["run"], "error: Missing argument 'SCENARIO'.\n"),
        (["run", "x.yaml", "--engin", "local"], "error: No such option"),
        (["tasks", "--seed", "many"], "error: Invalid value for '--seed'"),
    ],
)
def test_a_wrong_call_is_told_in_one_plain_line(
    line: Line, arguments: list[str], message: str
) -> None:
    """Without it boxes and colours would wrap what a user wants to copy."""
    ended = line(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(message)
    assert "neulig-fl" in ended.err.splitlines()[-1]
    assert not set(ended.err) & set("╭│╰\x1b")
