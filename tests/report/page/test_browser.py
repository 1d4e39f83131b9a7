"""Pages in a real browser: drawn, sorted, chosen from, saved, read aloud, and offline."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import study_example
from browser import needs_browser, opened
from PIL import Image
from report_example import example, noised

from neulig_fl.core.run_folders import RUN_PAGE
from neulig_fl.report import charts, page, rows

pytestmark = needs_browser

HOSTILE = "<script>window.hit=1</script>\x1b[31m|\"'=cmd"


def hostile() -> dict[str, Any]:
    """A report in which every name would be code."""
    report = example()

    def renamed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: renamed(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [renamed(each, key) for each in value]
        named = key in ("client", "task", "tasks", "experts", "stage", "versus", "reason", "notes")
        return f"{HOSTILE}{value}" if named and isinstance(value, str) else value

    report = renamed(report)
    for stage in report["stages"]:
        stage["name"] = f"{HOSTILE}{stage['name']}"
    report["scenario"]["name"] = HOSTILE
    return report


def seven() -> dict[str, Any]:
    """Seven clients and seven tasks: the last three are copies of the first."""
    report = example()
    clients = [*report["coopvec_maps"][0]["experts"], "quay", "pier", "lock"]
    tasks = [*report["coopvec_maps"][0]["tasks"], "traffic", "fashion", "letters"]
    report["reference"]["experts"] += [
        {**report["reference"]["experts"][0], "client": client, "task": task}
        for client, task in zip(clients[4:], tasks[4:], strict=True)
    ]
    for stage in report["stages"]:
        for result in stage["results"]:
            result["tasks"] += [
                {**each, "task": name}
                for each, name in zip(result["tasks"], tasks[4:], strict=False)
            ]
    for epoch in (1, 2, 5):
        even = [[1 / 7] * 7 for _ in range(7)]
        report["coopvec_maps"].append(
            {**report["coopvec_maps"][0], "stage": "seven", "epoch": epoch, "tasks": tasks,
             "experts": clients, "values": even, "raw_sums": [1.0] * 7, "histograms": None}
        )  # fmt: skip
    return report


def study() -> dict[str, Any]:
    """A study in which a run failed and names would be code."""
    found = study_example.example()
    found["runs"][-1] |= {"state": "failed", "reason": HOSTILE}
    found["question"] = HOSTILE
    found["stages"][0]["headline"]["label"] = HOSTILE
    return found


REPORTS: dict[str, Callable[[], dict[str, Any]]] = {
    "refusals": example,
    "noised": noised,
    "seven clients": seven,
    "hostile names": hostile,
    "study": study,
}


def written(name: str, folder: Path) -> tuple[dict[str, Any], Path]:
    """A report, and its page on the disk."""
    report = REPORTS[name]()
    file = folder / RUN_PAGE
    text = page.render_study(report) if "cases" in report else page.render(report)
    file.write_text(text, encoding="utf-8")
    return report, file


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_a_page_is_drawn_whole(name: str, width: int, scheme: str, tmp_path: Path) -> None:
    """Without it a figure is missing, a script fails, or a page speaks to a network."""
    report, file = written(name, tmp_path)
    with opened(file, width, scheme) as found:
        assert found.said == []
        assert found.asked == []
        package = charts.OF_STUDIES if "cases" in report else charts.PACKAGE
        names = [figure.name for figure in charts.figures(report, package)]
        assert found.drawn() == dict.fromkeys(names, "true")
        boxes = [svg.bounding_box() for svg in found.page.locator("figure svg").all()]
        assert len(boxes) == len(names)
        assert min(min(box["width"] for box in boxes), min(box["height"] for box in boxes)) > 90
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width
        assert found.page.evaluate("window.hit") is None
        assert found.faults() == []


def test_the_first_screen_answers(tmp_path: Path) -> None:
    """Without it a reader has to look for the answer."""
    _, file = written("refusals", tmp_path)
    for width in (1400, 390):
        with opened(file, width) as found:
            box = found.page.locator(".answer").bounding_box()
            assert box["y"] + box["height"] < 900


def test_a_studys_numbers_are_the_reports(tmp_path: Path) -> None:
    """Without it the page could show other figures than study.json."""
    report, file = written("study", tmp_path)
    with opened(file) as found:
        for stage in report["stages"]:
            side = found.page.locator(f'.side[data-case="{stage["case"]}"]')
            assert float(side.get_attribute("data-value")) == stage["headline"]["accuracy"]["mean"]
        drawn = found.page.evaluate(
            "JSON.parse(document.getElementById('specs').textContent)['differences'].datasets.rows"
        )
        assert drawn == [*charts.figure(report, "differences", charts.OF_STUDIES).rows]
        assert HOSTILE.split("\x1b")[0] in found.page.locator(".failed").inner_text()


def _table(found: Any, stage: str) -> list[dict[str, str | None]]:
    """Numbers of a stage's averages, read from the page, by column."""
    script = """(table) => [...table.tBodies[0].rows].map(row => Object.fromEntries(
        [...row.cells].map((cell, at) => [
            table.tHead.rows[0].cells[at].textContent.trim(),
            cell.dataset.value ?? cell.textContent])))"""
    table = found.page.locator(f'section[data-stage="{stage}"] table').first
    lines: list[dict[str, str | None]] = table.evaluate(script)
    return lines


def test_the_numbers_on_the_page_are_the_reports(tmp_path: Path) -> None:
    """Without it the page could show other figures than report.json."""
    report, file = written("refusals", tmp_path)
    columns = {"merge_accuracy": "Merge %", "ensemble_accuracy": "Ensemble %"}
    columns["gap_of_means"] = "Gap of means"
    checked = 0
    with opened(file) as found:
        for stage in report["stages"]:
            lines = {line["Method"]: line for line in _table(found, stage["name"])}
            for row in rows.rows(stage):
                for key, head in columns.items():
                    if row.average[key] is not None:
                        assert float(str(lines[row.label][head])) == row.average[key]
                        checked += 1
        drawn = found.page.evaluate(
            "Object.fromEntries(Object.entries(JSON.parse("
            "document.getElementById('specs').textContent)).map(([k, s]) => [k, s.datasets.rows]))"
        )
        assert drawn == {f.name: list(map(dict, f.rows)) for f in charts.figures(report)}
    assert checked > 20


def test_a_table_sorts_by_its_numbers(tmp_path: Path) -> None:
    """Without it 9 stands above 10, or what is missing stands first."""
    _, file = written("refusals", tmp_path)
    with opened(file) as found:
        table = found.page.locator('section[data-stage="merging"] table').first
        head = table.locator("th", has_text="Merge %")
        for direction in ("ascending", "descending"):
            head.locator("button").click()
            assert head.get_attribute("aria-sort") == direction
            at = found.page.evaluate(
                "e => [...e.parentNode.children].indexOf(e)", head.element_handle()
            )
            cells = table.locator(f"tbody tr td:nth-child({at + 1})").all()
            values = [cell.get_attribute("data-value") for cell in cells]
            numbers = [float(value) for value in values if value is not None]
            assert len(numbers) > 3
            assert numbers == sorted(numbers, reverse=direction == "descending")
            assert None not in values[: len(numbers)]


def test_the_slider_chooses_an_epoch(tmp_path: Path) -> None:
    """Without it the map's course over training cannot be seen."""
    report = example()
    first = report["coopvec_maps"][0]
    report["coopvec_maps"] = [{**first, "epoch": epoch} for epoch in (1, 2, 3)]
    file = tmp_path / RUN_PAGE
    file.write_text(page.render(report), encoding="utf-8")
    with opened(file) as found:
        slider = found.page.locator("#figure-coopvec-map input[type=range]")
        assert slider.input_value() == "3"
        slider.focus()
        slider.press("ArrowLeft")
        found.page.wait_for_function("neuligViews['coopvec-map'].signal('epoch') === 2")
        found.page.locator("#theme").click()
        found.page.wait_for_selector('html[data-drawn="dark"]')
        assert set(found.drawn().values()) == {"true"}
        assert found.page.evaluate("neuligViews['coopvec-map'].signal('epoch')") == 2
        assert slider.input_value() == "2", "a figure that is drawn again keeps what was chosen"
        assert found.said == []


def test_the_ground_can_be_changed(tmp_path: Path) -> None:
    """Without it a reader is bound to what the system prefers."""
    _, file = written("noised", tmp_path)
    with opened(file) as found:
        ground = "getComputedStyle(document.body).backgroundColor"
        before = found.page.evaluate(ground)
        found.page.locator("#theme").click()
        found.page.wait_for_selector('html[data-drawn="dark"]')
        assert found.page.evaluate(ground) != before
        assert (set(found.drawn().values()), found.said) == ({"true"}, [])
        assert found.faults() == []


def test_a_figure_is_saved(tmp_path: Path) -> None:
    """Without it a figure cannot be put into a paper."""
    report, file = written("refusals", tmp_path)
    starts = {"svg": b"<svg", "png": b"\x89PNG", "csv": b"stage,"}
    with opened(file) as found:
        figure = found.page.locator("#figure-accuracy-against-bytes")
        for kind, start in starts.items():
            with found.page.expect_download() as waiting:
                figure.locator(f'[data-save="{kind}"]').click()
            saved = tmp_path / waiting.value.suggested_filename
            waiting.value.save_as(saved)
            assert saved.name == f"accuracy-against-bytes.{kind}"
            assert saved.read_bytes().startswith(start)
        with Image.open(tmp_path / "accuracy-against-bytes.png") as image:
            assert min(image.size) > 300
        with (tmp_path / "accuracy-against-bytes.csv").open(encoding="utf-8") as file_:
            lines = list(csv.DictReader(file_))
    drawn = charts.figure(report, "accuracy-against-bytes").rows
    assert [float(line["accuracy"]) for line in lines] == [row["accuracy"] for row in drawn]


def test_the_numbers_of_a_figure_can_be_read(tmp_path: Path) -> None:
    """Without it who does not see a figure has no numbers."""
    report, file = written("refusals", tmp_path)
    with opened(file) as found:
        details = found.page.locator("#figure-gaps details")
        details.locator("summary").click()
        details.locator("td").first.wait_for()
        assert details.locator("tr").count() == 1 + len(charts.figure(report, "gaps").rows)
        assert found.faults() == []
