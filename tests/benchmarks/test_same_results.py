"""benchmarks/same_results.py: what was kept is compared, and what was not is said before any run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONE, OTHER = "scenarios/quickstart.yaml", "scenarios/other.yaml"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        yield import_module("same_results")


@pytest.mark.parametrize("kept", [{ONE: {}}, None])
def test_a_scenario_that_was_not_kept_is_named_before_anything_runs(
    script: ModuleType,
    kept: dict[str, object] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without it minutes of running would end in a KeyError."""
    file = tmp_path / "kept.json"
    if kept is not None:
        file.write_text(json.dumps(kept), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["same_results.py", "compare", str(file), ONE, OTHER])
    monkeypatch.setattr(script, "said", lambda name: pytest.fail(f"{name} was run"))
    with pytest.raises(SystemExit) as ended:
        script.main()
    missing = [OTHER] if kept else [ONE, OTHER]
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert f"{file} has no results of {', '.join(missing)}; keep them first" in told
    assert f"same_results.py keep {file} {' '.join(missing)}\n" in told


def test_differences_are_counted_and_end_in_a_failure(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without it a changed figure would pass for the same one."""
    file = tmp_path / "kept.json"
    for action, figure, code in (("keep", 1.0, 0), ("compare", 1.0, 0), ("compare", 1.5, 1)):
        now = {"results": [{"mean": figure}, None]}
        monkeypatch.setattr(script, "said", lambda name, now=now: now)
        monkeypatch.setattr(sys, "argv", ["same_results.py", action, str(file), ONE])
        assert script.main() == code
    told = capsys.readouterr().out
    assert told == (
        f"{ONE}: 2 figures, 0 differ\n{ONE}: 2 figures, 1 differ\n"
        f"  {ONE}.results.0.mean: 1.0, now 1.5\n"
    )
