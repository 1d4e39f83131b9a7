"""`neulig-fl bench`: figures as text and as JSON."""

from __future__ import annotations

import json

from command_line import Line


def test_bench_names_what_it_can_measure(line: Line) -> None:
    """Without it a typo would measure nothing and say so nowhere."""
    ended = line("bench", "portlan")
    assert ended.code == 2
    assert "allowed: engine, memory, portland; did you mean portland?" in ended.err


def test_bench_prints_figures_and_json(line: Line) -> None:
    """Without it figures could not be recorded by a program."""
    assert line("bench", "portland", "--repeats", "1").out.startswith("portland: training")
    (found,) = json.loads(line("bench", "portland", "--repeats", "1", "--json").out)
    assert found["name"] == "portland"
    assert found["figure"] > 0
