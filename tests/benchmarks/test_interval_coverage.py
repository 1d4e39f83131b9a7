"""benchmarks/interval_coverage.py: that it judges the package's intervals; docs/method.md's tables."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from neulig_fl.core.errors import NeuligError
from neulig_fl.metrics.intervals import score_interval

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """benchmarks/interval_coverage.py."""
    path = ROOT / "benchmarks" / "interval_coverage.py"
    spec = importlib.util.spec_from_file_location("interval_coverage", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["interval_coverage"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("in_one", [False, True])
@pytest.mark.parametrize(("d", "level"), [(0.01, 0.95), (0.0, 0.90), (-0.01, 0.90)])
def test_the_shortcut_is_the_interval(
    script: ModuleType, d: float, level: float, in_one: bool
) -> None:
    """If this fails, the tables are about other intervals than the report's."""
    cell = script.Cell((100, 300), 0.02, 0.01, in_one)
    b, c, weight = script.counts(cell, 60, 3)
    assert weight.sum() == pytest.approx(1.0)
    z = {0.95: script.Z95, 0.90: script.Z90}[level]
    n = np.array(cell.sizes, dtype=np.float64)
    tasks = [[(int(x), int(y), int(s)) for x, y, s in zip(*row, strict=True)] for row in
             zip(b, c, np.broadcast_to(n, b.shape), strict=True)]  # fmt: skip
    ends = [score_interval(each, level) for each in tasks]
    assert script.below(b, c, n, d, z).tolist() == [low > d for low, _ in ends]
    assert script.below(c, b, n, -d, z).tolist() == [high < d for _, high in ends]


def test_one_task_is_computed_over_all_counts(script: ModuleType) -> None:
    """If this fails, a cell's coverage is that of other probabilities than the cell's."""
    b, c, weight = script.counts(script.Cell((100,), 0.02, 0.01, False), 0, 0)
    assert (weight * b[:, 0]).sum() == pytest.approx(1.5, abs=1e-6)
    assert (weight * c[:, 0]).sum() == pytest.approx(0.5, abs=1e-6)
    none = weight[(b[:, 0] == 0) & (c[:, 0] == 0)]
    assert none == pytest.approx(0.98**100)


def test_the_effective_number(script: ModuleType) -> None:
    """If this fails, the page explains a coverage by a number that is none."""
    assert script.Cell((300, 300), 0.01, 0.0, False).effective == pytest.approx(6.0)
    assert script.Cell((300, 300), 0.01, 0.0, True).effective == pytest.approx(6.0)
    assert 1.0 < script.Cell((100, 1000), 0.01, 0.0, False).effective < 1.5


def test_coverage_of_small_cells(script: ModuleType) -> None:
    """If this fails, an interval of another level than it says is in the report.

    One task, exactly: the cells are those in which the normal quantile alone fails.
    """
    for n, share in ((270, 0.01), (400, 0.01), (470, 0.015), (310, 0.02), (450, 0.012)):
        found = script.figures(script.Cell((n,), share, 0.01, False), 0, 0)
        assert found["coverage"] >= script.LEAST
        assert found["equivalent"] <= 5.5
    middle = script.figures(script.Cell((500,), 0.05, 0.0, False), 0, 0)
    assert 94.5 <= middle["coverage"] <= 95.5


def test_a_tiny_run_writes_data_and_tables(script: ModuleType, tmp_path: Path) -> None:
    """If this fails, the command of the page does not do what the page says."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{script.BEGIN}old\n{script.END}\nafter\n")
    line = "--shares 0.02 --tasks 1 2 --queries 100 --draws 200"
    where = ["--data", str(tmp_path / "data.json"), "--page", str(page)]
    script.main(script.asked_for([*line.split(), *where]))
    data = json.loads((tmp_path / "data.json").read_text())
    assert len(data["cells"]) == 2 + 2 * 2 * 2
    text = page.read_text()
    assert text == script.with_tables(text, data)
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| 2 % | 10 |" in text
    page.write_text("no marks")
    with pytest.raises(NeuligError, match="put both where they belong"):
        script.main(script.asked_for([*line.split(), *where]))


def test_the_pages_tables_are_the_datas(script: ModuleType) -> None:
    """If this fails, docs/method.md has figures that no computation gave, or the goal is missed."""
    data = json.loads(script.DATA.read_text())
    page = script.PAGE.read_text()
    assert page == script.with_tables(page, data), "run benchmarks/interval_coverage.py"
    assert data["allowance"] == 0.2
    asked = script.asked_for([])
    cells = [
        script.Cell(tuple(c["sizes"]), c["share"], c["gap"], c["in_one"]) for c in data["cells"]
    ]
    assert cells == list(script.grid(asked.shares, asked.tasks, asked.queries))
    for at in [at for at, cell in enumerate(cells) if cell.sizes in ((200,), (300,))]:
        again = script.figures(cells[at], asked.draws, asked.seed)
        assert again["coverage"] == pytest.approx(data["cells"][at]["coverage"], abs=0.01)
    for cell, found in zip(cells, data["cells"], strict=True):
        assert found["coverage"] >= 93.5
        assert (found["equivalent"] or 0.0) <= 5.5
        if cell.effective > 10.0:
            assert found["coverage"] <= 97.0
