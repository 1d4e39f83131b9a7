"""Progress on the standard error, with and without a terminal."""

from __future__ import annotations

import io
import json
from datetime import datetime

import pytest
from rich.console import Console

from neulig_fl.core.live import Live, display


def _shown(width: int, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None)
    with Live(console) as live:
        live({"note": "going on without client x: \x1b[31mred\x1b[0m [bold]"})
        live({"task": "nothing", "done": 0, "total": 0})
        for done in range(4):
            live({"task": "merging: parameters of everybody", "done": done, "total": 3})
        live({"task": "[odd] name", "done": 1, "total": 2})
    return stream.getvalue()


def test_without_a_terminal_each_finished_task_is_a_line() -> None:
    """Without it a log file would be full of bars, or empty."""
    lines = _shown(100, terminal=False).splitlines()
    assert lines[0] == "going on without client x:  [31mred [0m [bold]"
    assert lines[1].startswith("merging: parameters of everybody: 3 of 3, ")
    assert len(lines) == 2, "neither what is empty nor what is not finished"


def test_long_tasks_are_told_of_in_a_log_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it whoever follows a log hears nothing for as long as the experts train."""
    monkeypatch.setattr("neulig_fl.core.live.QUIET_SECONDS", 0.0)
    parameters = [f"merging: parameters of everybody: {done} of 3" for done in range(4)]
    lines = _shown(100, terminal=False).splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == [*parameters, "[odd] name: 1 of 2"]


@pytest.mark.parametrize("width", [20, 50, 80, 200])
def test_bars_fit_any_terminal(width: int) -> None:
    """Without it a narrow terminal would show a bar on every second line."""
    text = _shown(width, terminal=True)
    assert "3 of 3" in " ".join(text.split())
    assert "\x1b[31m" not in text
    for row in text.replace("\r", "\n").splitlines():
        plain = row.replace("\x1b[2K", "").replace("\x1b[?25l", "").replace("\x1b[?25h", "")
        assert len(plain.removesuffix("\x1b[1A")) <= width


def test_how_a_task_stands_is_beside_it() -> None:
    """Without it who watches sees that Portland trains, and not whether it learns."""
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    with Live(console) as live:
        live({"task": "experts", "done": 0, "total": 1, "says": "waiting for bob"})
        live({"task": "experts", "done": 1, "total": 1})
        for done, says in ((0, ""), (2, "loss 0.5000, accuracy 91.0 %\x1b[31m")):
            live({"task": "Portland, epochs", "done": done, "total": 2, "says": says})
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.partition(" s; ")[2] for line in lines] == [
        "",
        "loss 0.5000, accuracy 91.0 % [31m",
    ]
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with Live(console) as live:
        live({"task": "experts", "done": 0, "total": 2, "says": "waiting for ada, bob"})
        live({"task": "experts", "done": 1, "total": 2, "says": "waiting for bob"})
    assert "experts; waiting for bob" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [30, 50, 79, 80, 81, 120])
def test_a_long_task_leaves_room_for_its_count(width: int) -> None:
    """Without it a name that says who is waited for hides how far the task is."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with Live(console) as live:
        says = "waiting for north, east, south and 2 more 日本語"
        live({"task": "ensembling: features of evaluation", "done": 3, "total": 5, "says": says})
        live({"task": "x", "done": 1200, "total": 1500, "says": "loss 0.1234"})
    text = console.file.getvalue()  # type: ignore[attr-defined]
    shown = [row for row in text.replace("\r", "\n").splitlines() if "ensembling" in row]
    assert shown
    assert all("3/5" in row and "…" in row.partition("3/5")[0] for row in shown)
    assert all(("0:00:0" in row) == (width >= 50) for row in shown)
    assert "1200/1500" in text


def test_a_brief_task_has_a_bar_and_no_line() -> None:
    """Without it a thousand clients' trainings would be a thousand lines."""
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    with Live(console) as live:
        for done in (0, 5):
            live({"task": "north: training", "done": done, "total": 5, "brief": True})
        live({"task": "experts", "done": 1, "total": 1})
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "north" not in said
    assert "experts: 1 of 1" in said


def test_progress_as_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it a program cannot follow a run."""
    events = [{"note": "a \x1b[31m" + "long " * 60}, {"task": "t", "done": 1, "total": 2}]
    with display(as_json=True) as show:
        for event in events:
            show(event)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [{k: v for k, v in line.items() if k != "time"} for line in lines] == events
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it a script's output is mixed with progress."""
    with display(quiet=True) as show:
        show({"note": "a"})
    assert capsys.readouterr().err == ""
