"""`neulig-fl compare`: what it prints in each format, and how it refuses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import tiny
from command_line import Line

from neulig_fl.core.errors import plain
from neulig_fl.report import comparison_pages
from neulig_fl.study import runs
from neulig_fl.study.run_comparison import compare


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs that differ in Portland's epochs."""
    folder = tmp_path_factory.mktemp("two")
    path = tiny.write(folder, data)
    for name, epochs in (("one", 2), ("two", 1)):
        runs.run_seeds(path, "local", folder / name, [f"portland.epochs={epochs}"])
    return folder / "one", folder / "two"


def test_every_format(line: Line, two: tuple[Path, Path]) -> None:
    """Without it a format could be parsed and ignored."""
    found = compare(two)
    text = line("compare", *two)
    assert text.code == 0
    assert "portland.epochs" in text.out
    assert "run 2" in text.out
    assert line("compare", *two, "--format", "md").out == comparison_pages.markdown(found)
    rows = list(csv.DictReader(io.StringIO(line("compare", *two, "--format", "csv").out)))
    assert len(rows) == 2 * sum(len(stage.lines) for stage in found.stages)
    said = json.loads(line("compare", *two, "--format", "json").out)
    assert said == json.loads(json.dumps(found.record()))


def test_what_cannot_be_compared_is_one_line(
    line: Line, two: tuple[Path, Path], tmp_path: Path
) -> None:
    """Without it a wrong folder would end in a traceback, or in tables of nothing."""
    for arguments, words in (
        ([two[0]], "takes two runs or more"),
        ([two[0], two[0]], "name each run once"),
        ([two[0], tmp_path / "none"], "is no folder"),
        ([two[0], tmp_path], "no report is there"),
    ):
        ended = line("compare", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert words in ended.err
        assert ended.err.count("\n") == 1
        assert plain(ended.err[:-1]) == ended.err[:-1]
