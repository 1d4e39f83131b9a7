"""benchmarks/privacy_costs.py: what it measures and where it writes; docs/privacy-costs.md."""

from __future__ import annotations

import importlib.util
import re
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

from neulig_fl.config.scenario import Model, Scenario
from neulig_fl.core import variants
from neulig_fl.core.errors import InputError
from neulig_fl.models.families import open_family
from neulig_fl.privacy import sealing
from neulig_fl.records import kinds
from neulig_fl.records.release_plan import Setting, open_setting

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "privacy-costs.md"
PROTECTIONS = variants.names("neulig_fl.records.protections")
ROUNDS = {"secure-aggregation": 5}
"""Exchanges of a client; of every other protection one."""

Table = dict[str, list[str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/privacy_costs.py."""
    return _loaded("privacy_costs", monkeypatch)


@pytest.fixture
def guards(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/guard_costs.py."""
    assert script.__name__ == "privacy_costs", "which it imports"
    return _loaded("guard_costs", monkeypatch)


def _loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def asked(script: ModuleType, tmp_path: Path) -> Namespace:
    """A small measurement that writes into a page of its own."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Before\n\n<!-- measured -->\nold figures\n<!-- end of measured -->\n\nAfter\n"
    )
    line = "--model tiny-vit --pretrained none --clients 3 --tasks digits glyphs --queries 4"
    more = ["--entries", "4096", "--repeats", "1", "--page", str(page)]
    return script.asked_for([*line.split(), *more])  # type: ignore[no-any-return]


def tables(text: str) -> list[Table]:
    """The tables of a page: the cells of each row by its first one."""
    found: list[Table] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| sharing"):
            found.append({})
        elif line.startswith("| ") and found and not set(line) <= set("|:- "):
            found[-1][cells[0]] = cells[1:]
    return found


def number(cell: str) -> float:
    """A figure as the tables write it."""
    return float(cell.replace(",", ""))


def name(protection: str) -> str:
    """What a protection's row is called."""
    return "plain" if protection == "none" else protection


def require_counts(found: Table, rounds: int, plain: int, summed: int) -> None:
    """What must be counted, whatever the machine.

    Args:
        found: the table of one record.
        rounds: exchanges of a record that leaves alone.
        plain: bytes of the record.
        summed: bytes of the same within a sum.
    """
    assert list(found) == [name(p) for p in sorted(PROTECTIONS, key=lambda p: (p != "none", p))]
    longer = {
        "plain": 0,
        "gaussian": 0,
        "sealed": sealing.OVERHEAD,
        "secure-aggregation": summed - plain,
    }
    for row, cells in found.items():
        took, messages, payload, everything, ratio, *_ = map(number, cells)
        assert took == ROUNDS.get(row, rounds), row
        assert messages == 2 * took, row
        assert payload == plain + longer[row], row
        assert everything > payload, row
        base = number(found["plain"][3])  # a mean, shown to the byte
        assert ratio == pytest.approx(everything / base, abs=1e-3 + ratio / base)


@pytest.mark.slow
def test_a_small_measurement(
    script: ModuleType, asked: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it the page's figures could be of something else than they say."""
    script.main(asked)
    text = asked.page.read_text()
    features, parameters, alone = tables(text)
    family = open_family(Model(name="tiny-vit", pretrained="none"), 0)
    size = 4 * 8 * family.dim  # four queries of each of two tasks
    require_counts(features, 1, size, size)
    weights = 4 * sum(value.numel() for value in family.encoder().state_dict().values())
    require_counts(parameters, 1, weights, weights)
    assert set(alone) == {name(p) for p in PROTECTIONS}
    assert all(number(cell) >= 0 for row in alone.values() for cell in row)
    assert alone["plain"][-1] == "1.0"
    assert text.startswith("# Before\n\n<!-- measured -->\ntiny-vit, 3 clients")
    assert text.endswith("<!-- end of measured -->\n\nAfter\n")
    assert "old figures" not in text
    told = capsys.readouterr()
    assert told.out in text
    assert "parameters, secure-aggregation: round 1 of 1" in told.err


@pytest.mark.slow
def test_guards_are_timed_once_each(
    guards: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it a guard that was renamed would cost nothing on the page, or one would count twice."""
    page = tmp_path / "page.md"
    page.write_text("# Before\n\n<!-- guards -->\nold figures\n<!-- end of guards -->\n")
    line = "--model tiny-vit --pretrained none --clients 3 --earlier 1 --repeats 1 --page"
    guards.main(guards.asked_for([*line.split(), str(page)]))
    text = page.read_text()
    assert capsys.readouterr().out in text
    assert "old figures" not in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    (heads, _, *found) = rows
    assert [row[0] for row in found] == ["0", "1"]
    assert heads[2:5] == [f"{name}, ms" for name in (*guards.GUARDS, guards.ROUNDING)]
    for row in found:
        whole, signatures, histories = map(float, row[1:4])
        assert signatures > 0
        assert histories > 0
        assert signatures + histories < whole


def test_a_page_without_marks_is_not_written_over(script: ModuleType, asked: Namespace) -> None:
    """Without it a page whose marks were lost would lose its words as well."""
    asked.page.write_text("# My page\n")
    with pytest.raises(InputError, match="needs one line '<!-- measured -->'"):
        script.main(asked)
    assert asked.page.read_text() == "# My page\n"


def test_every_protection_is_measured(script: ModuleType) -> None:
    """Without it a new protection would have no cost on the page."""
    assert sorted(script.ALONE) == PROTECTIONS


def _quickstart_like(script: ModuleType, folder: Path) -> Setting:
    """What the page was measured on."""
    said = script.scenario(script.asked_for([]), folder / "expert.safetensors")
    return open_setting(Scenario.model_validate(said), 0)


def test_the_page_is_of_this_code(script: ModuleType, tmp_path: Path) -> None:
    """Without it the page would tell of records and protections as they once were."""
    setting = _quickstart_like(script, tmp_path)
    rows = sum(len(t.indices("evaluation", 300)) for t in setting.tasks.values())
    text = PAGE.read_text(encoding="utf-8")
    features, parameters, alone = tables(text.partition("<!-- guards -->")[0])
    assert f"### The features of {rows:,} evaluation queries" in text
    size = kinds.byte_count("features", rows, setting.sizes)
    require_counts(features, 1, size, size)
    weights = kinds.byte_count("parameters", 1, setting.sizes)
    require_counts(parameters, 1, weights, weights)
    assert list(alone) == [name(each) for each in script.ALONE]
    assert re.search(r"^micro-vit, 5 clients, one thread", text, re.MULTILINE)
