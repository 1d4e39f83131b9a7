"""`neulig-fl bench`: figures as text and as JSON."""

from __future__ import annotations

import json

import pytest
from command_line import Line

MERGE = ("bench", "merge", "--model", "tiny-vit", "--random-weights", "--experts", "2")


def test_bench_names_what_it_can_measure(line: Line) -> None:
    """Without it a typo would measure nothing and say so nowhere."""
    ended = line("bench", "portlan")
    assert ended.code == 2
    assert (
        "allowed: engine, memory, merge, portland, secure-aggregation, ties; did you mean portland?"
        in ended.err
    )


def test_bench_prints_figures_and_json(line: Line) -> None:
    """Without it figures could not be recorded by a program."""
    assert line("bench", "portland", "--repeats", "1").out.startswith("portland: training")
    (found,) = json.loads(line("bench", "portland", "--repeats", "1", "--json").out)
    assert found["name"] == "portland"
    assert found["figure"] > 0


def test_merge_by_itself_is_one_object(line: Line) -> None:
    """Without it a program would have to know which of several benchmarks it looks at."""
    ended = line(*MERGE, "--batch", "3", "--repeats", "2", "--threads", "1", "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert (found["model"], found["experts"], found["batch"]) == ("tiny-vit", 2, 3)
    assert (found["rounds"], found["threads"], found["random_weights"]) == (2, 1, True)
    assert found["ratio_to_single"] == found["batched_ms"] / found["single_ms"]
    assert found["max_relative_error"] < 1e-4
    assert "measuring tiny-vit: 24 of 24" in ended.err


def test_merge_is_told_as_a_table(line: Line) -> None:
    """Without it a reader would have to read JSON."""
    chosen = ("--methods", "batched, one-at-a-time", "--methods", "released")
    ended = line(*MERGE, "--batch", "6", "--repeats", "1", *chosen)
    assert ended.code == 0
    assert ended.out.startswith("tiny-vit (random weights, float32), 2 experts, batch 6, 1 thread;")
    assert "released procedure (4 of 6 samples)" in ended.out
    assert "Peak memory " in ended.out
    assert "inference against one at a time: relative error up to " in ended.out
    assert "vmap" not in ended.out


def test_merge_is_a_figure_among_others(line: Line) -> None:
    """Without it a list of benchmarks would hold things of different kinds."""
    ended = line("bench", "portland", "merge", "--repeats", "1", "--json")
    assert [each["name"] for each in json.loads(ended.out)] == ["portland", "merge"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("portland", "--batch", "3", "--seed", "0"),
            "--batch, --seed: for `neulig-fl bench merge` alone (got portland)",
        ),
        (
            ("merge", "portland", "--model", "micro-rn"),
            "--model: for `neulig-fl bench merge` alone (got merge, portland)",
        ),
        (("--random-weights",), "--random-weights: for `neulig-fl bench merge` alone"),
        (("merge", "--model", "micro-vitt"), "did you mean micro-vit?"),
        (("merge", "--model", "RN50"), "or take --random-weights"),
        (("merge", "--experts", "1"), "--experts 1: too few; allowed: 2 or more"),
        (("merge", "--batch", "0"), "--batch 0: too few; allowed: 1 or more"),
        (("merge", "--methods", "vmapp"), "did you mean vmap?"),
    ],
)
def test_options_of_merge_that_cannot_be(
    line: Line, arguments: tuple[str, ...], message: str
) -> None:
    """Without it an option would be ignored in silence, or a typo be a traceback."""
    ended = line("bench", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert ended.out == ""


def test_the_help_names_every_method(line: Line) -> None:
    """Without it a method could be chosen only by those who read the code."""
    from neulig_fl.study.bench import merge

    told = line("bench", "--help").out
    assert all(name in told for name in merge.ALL)
