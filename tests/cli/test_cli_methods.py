"""`neulig-fl methods`: the table comes from the methods' own files."""

from __future__ import annotations

import json

import pytest
from command_line import Line

from neulig_fl.merging import methods


def test_every_method_is_listed_with_what_it_needs(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user could not learn what a method makes a client reveal."""
    monkeypatch.setenv("COLUMNS", "200")
    out = line("methods").out

    for name in methods.names():
        (row,) = [each for each in out.splitlines() if each.startswith(f"{name} ")]
        module = methods.load(name)
        assert "; ".join(module.NEEDS.released) in row
        assert module.SOURCE in row
    assert "tune: {lambda:" in out


def test_a_narrow_terminal_has_paragraphs(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells would be broken into single letters."""
    monkeypatch.setenv("COLUMNS", "60")
    out = line("methods").out

    assert max(map(len, out.splitlines())) <= 100
    assert "released: parameters of each client" in " ".join(out.split())


def test_json_is_what_the_files_declare(line: Line) -> None:
    """A program would read other defaults than a run takes."""
    found = {each["method"]: each for each in json.loads(line("methods", "--json").out)}

    assert list(found) == methods.names()
    for name, each in found.items():
        module = methods.load(name)
        assert each["options"] == json.loads(json.dumps(methods.settings(module, {})))
        assert each["sums_are_enough"] == (not module.NEEDS.each)
        assert each["source"] == module.SOURCE


def test_one_method_is_explained(line: Line) -> None:
    """A user would have to read the code to know the rule and its options."""
    out = line("methods", "ties").out

    assert "arXiv:2306.01708" in out
    assert "density: 0.2   Share of each task vector that is kept" in out
    assert "Released: parameters of each client" in out
    assert "Args:" not in out


def test_an_unknown_method_is_refused_with_the_nearest(line: Line) -> None:
    """A typo would be answered with a traceback."""
    ended = line("methods", "tie")

    assert ended.code == 2
    assert "did you mean ties?" in ended.err
