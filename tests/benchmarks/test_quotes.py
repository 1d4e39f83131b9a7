"""benchmarks/quotes.py: pages quote what the data have, and their sentences are borne out by them."""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from neulig_fl.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script, which finds the modules beside it as when it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        yield import_module("quotes")


def _data(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def _results(name: str, stage: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every result of one stage of a reproduced scenario, with its seed."""
    for seed in _data(f"reproduce/{name}.json")["seeds"]:
        for result in next(s for s in seed["stages"] if s["name"] == stage)["results"]:
            yield seed["seed"], result


def test_pages_quote_what_the_data_have(script: ModuleType) -> None:
    """If this fails, a quoted figure was edited by hand, or is behind its data: run the script."""
    assert [page.name for page, _ in script.behind()] == []
    marks = [mark for page in PAGES for mark in re.findall("<!-- quote .* -->", page.read_text())]
    assert sorted(marks) == sorted(f"<!-- quote {name} -->" for name in script.BLOCKS)
    ends = sum(page.read_text().count("<!-- end of quote -->") for page in PAGES)
    assert ends == len(script.BLOCKS)


def test_a_page_that_is_behind_is_found_and_mended(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a figure that was typed into a block stays there."""
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- quote distances -->\n0.00 to 9.99\n<!-- end of quote -->\nz\n")
    monkeypatch.setattr(script, "PAGES", (page,))
    monkeypatch.setattr(script, "ROOT", tmp_path)
    assert [path for path, _ in script.behind()] == [page]
    script.main()
    assert list(script.behind()) == []
    assert "9.99" not in page.read_text()
    assert page.read_text().startswith("a\n<!-- quote distances -->\nThe quickstart's five")
    assert page.read_text().endswith("\n<!-- end of quote -->\nz\n")


def test_what_cannot_be_quoted(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a misspelt mark or a lost file leaves old figures on a page without a word."""
    with pytest.raises(InputError, match="quote speed: no such block; allowed: quickstart, "):
        script.replaced("<!-- quote speed -->\n<!-- end of quote -->")
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    with pytest.raises(InputError, match=r"task-vectors\.json: cannot be read; run what writes it"):
        script.quoted("distances")
    with pytest.raises(InputError, match="quickstart: was not run yet; run benchmarks/reproduce"):
        script.quoted("quickstart")


ROWS = {
    ("neulig", "sample"): "NeuLig, per sample",
    ("neulig", "task"): "NeuLig, CoopVec Map",
    ("simple-average", None): "simple average",
    ("hard-routing", None): "hard routing",
    ("oracle", None): "each task's own expert",
}


def _means(name: str, stage: str) -> dict[str, list[tuple[float, float, float]]]:
    """README's rows: each seed's mean over tasks, merged, ensembled, and their difference."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _, result in _results(name, stage):
        words = ROWS.get((result["method"], result["granularity"]))
        if words:
            both = ("merge_accuracy", "ensemble_accuracy")
            merge, ens = (statistics.fmean(t[side] for t in result["tasks"]) for side in both)
            found.setdefault(words, []).append((merge, ens, merge - ens))
    return found


def test_readmes_table_is_that_of_the_runs(script: ModuleType) -> None:
    """If this fails, the first figures that a reader sees are not those of the runs."""
    own, three = _means("quickstart", "merging"), _means("baselines-vit", "together")
    assert {len(of) for of in own.values()} == {1}
    assert {len(of) for of in three.values()} == {3}
    text = (ROOT / "README.md").read_text()
    for words in ROWS.values():
        (once,) = own[words]
        wanted = [(value,) for value in once]
        for values in zip(*three[words], strict=True):
            wanted.append((statistics.fmean(values), statistics.stdev(values)))
        row = re.search(rf"^\| {re.escape(words)} \| (.*) \|$", text, re.MULTILINE)
        assert row, words
        found = [tuple(map(float, cell.split(" +- "))) for cell in row[1].split(" | ")]
        assert found == [pytest.approx(cell, abs=0.0051) for cell in wanted]


def test_both_halves_of_readmes_table_are_of_the_same_experts() -> None:
    """If this fails, the spread in README is that of other clients or experts than its figures."""
    one, other = (
        _data(f"reproduce/{name}.json")["said"] for name in ("quickstart", "baselines-vit")
    )
    for key in ("model", "clients", "queries", "portland"):
        assert one[key] == other[key]
    assert one["experts"] | {"groups": ["A"]} == other["experts"]


def test_what_is_said_of_tuned_weights_holds() -> None:
    """If this fails, docs/merge-methods.md explains an outcome that the runs do not have."""
    chosen: dict[str, set[float]] = {}
    for _, result in _results("baselines-vit", "together"):
        if result["variant"] and "lambda tuned" in result["variant"]:
            chosen.setdefault(result["method"], set()).add(result["settings"]["options"]["lambda"])
    assert chosen["task-arithmetic"] == {0.2}, "the average itself: 1 over five experts"
    assert max(chosen["ties"]) < 1.0, "the default"
    for each in _data("task-vectors.json")["seeds"]:
        assert each["cosine_largest"] < 0.15, "nearly orthogonal"
        assert each["ties_places_of_one"] > 0.5, "at most places one client's number"
        assert 2.5 < each["ties_length"] / each["mean_length"] < 4.0, "about three times as far"
        lengths = each["task_arithmetic_length"] / each["mean_length"]
        assert lengths == pytest.approx(1.5, abs=0.01), "half as far again"


def test_the_second_order_is_one() -> None:
    """If this fails, docs/method.md shows a remainder that is not of second order."""
    found = _data("task-vectors.json")["second_order"]
    for beta in ("uniform", "uneven"):
        ratios = [a / b for a, b in zip(found[beta][2:], found[beta][3:], strict=False)]
        assert all(3.5 < ratio < 4.5 for ratio in ratios), beta
