"""benchmarks/merge_growth.py: what it measures, keeps, writes, and refuses."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.study.bench import merge

ROOT = Path(__file__).resolve().parents[2]
TINY = merge.Options(model="tiny-vit", random_weights=True)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/merge_growth.py."""
    path = ROOT / "benchmarks" / "merge_growth.py"
    spec = importlib.util.spec_from_file_location("merge_growth", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "merge_growth", module)
    spec.loader.exec_module(module)
    return module


def asked(script: ModuleType, out: Path, *more: str) -> Namespace:
    """A small sweep: three points, one of them in both series."""
    line = "--model tiny-vit --experts 2 3 --at-batch 2 --batches 2 3 --at-experts 3 --repeats 1"
    return script.asked_for([*line.split(), "--out", str(out), *more])  # type: ignore[no-any-return]


def in_this_process(given: Namespace, point: Any) -> dict[str, Any]:
    """Measure a point here: another process does not know `tiny-vit`."""
    options = replace(TINY, experts=point.experts, batch=point.batch, methods=tuple(given.methods))
    return asdict(merge.compare(options, given.repeats))


def test_a_sweep_goes_on_where_it_was_stopped(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it Ctrl-C in the last point would lose an hour."""
    measured: list[tuple[int, int]] = []

    def measure(given: Namespace, point: Any) -> dict[str, Any]:
        measured.append((point.experts, point.batch))
        if len(measured) == 2:
            raise KeyboardInterrupt
        return in_this_process(given, point)

    with pytest.raises(KeyboardInterrupt):
        script.main(asked(script, tmp_path), measure)
    assert len(json.loads((tmp_path / "merge-growth-tiny-vit.json").read_text())["points"]) == 1
    script.main(asked(script, tmp_path), measure)
    assert measured == [(2, 2), (3, 2), (3, 2), (3, 3)], "what was kept is not measured again"
    assert "1 of 3: 2 experts, batch 2 (kept)" in capsys.readouterr().err
    text = (tmp_path / "merge-growth-tiny-vit.md").read_text()
    assert [line[:9] for line in text.splitlines() if line.startswith(("| 2 ", "| 3 "))] == [
        "| 2 | 2 |",
        "| 3 | 2 |",
        "| 3 | 2 |",
        "| 3 | 3 |",
    ]
    assert "| experts | batch | single ms | batched ms | ensemble ms | batched ratio |" in text
    assert (tmp_path / "merge-growth-tiny-vit.png").read_bytes().startswith(b"\x89PNG")


def test_points_of_other_settings_are_not_mixed(script: ModuleType, tmp_path: Path) -> None:
    """Without it a table would hold figures that cannot be compared."""
    script.main(asked(script, tmp_path), in_this_process)
    with pytest.raises(InputError, match=r"was measured with seed 0, not 1; delete it, or give"):
        script.main(asked(script, tmp_path, "--seed", "1"), in_this_process)
    (tmp_path / "merge-growth-tiny-vit.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as points; delete it"):
        script.main(asked(script, tmp_path), in_this_process)


def test_the_sweep_says_whether_the_goal_holds(script: ModuleType, tmp_path: Path) -> None:
    """Without it the figure that the sweep is for would have to be worked out by the reader."""
    given = script.asked_for(["--out", str(tmp_path)])
    assert len(script.points(given)) == 12
    for many, words in ((2.0, "FAILS: .* less than 40 % .100 %"), (1.3, "holds: .*.30 %")):
        found = {script.Point(5, 16): {"ratio_to_single": 1.0}}
        found[script.Point(20, 16)] = {"ratio_to_single": many}
        (line,) = script.growth(given, found)
        assert re.search(words, line), line
    assert list(script.growth(given, {})) == []


def test_bad_input_of_the_sweep(script: ModuleType, tmp_path: Path) -> None:
    """Without it the sweep would fail at its last point."""
    with pytest.raises(InputError, match="--experts 1: too few"):
        script.main(asked(script, tmp_path, "--experts", "5", "1"), in_this_process)


@pytest.mark.slow
def test_a_point_is_measured_in_a_process_of_its_own(
    script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it the peak memory of a point would be that of the largest one before it."""
    given = asked(script, tmp_path, "--model", "micro-vit", "--pretrained", "bundled")
    found = script.in_a_process(given, script.Point(2, 3))
    assert (found["model"], found["experts"], found["batch"]) == ("micro-vit", 2, 3)
    assert found["random_weights"] is False
    assert set(found["ratios"]) == {"ensemble", "batched"}
    with pytest.raises(RunError, match=r"2 experts, batch 3: .* failed with exit code 2"):
        script.in_a_process(asked(script, tmp_path), script.Point(2, 3))
    assert "error: --model tiny-vit: no such model" in capfd.readouterr().err
