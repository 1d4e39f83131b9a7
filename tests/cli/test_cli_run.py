"""`neulig-fl run` and `neulig-fl report`: what is printed when a run is done."""

from __future__ import annotations

import json
from pathlib import Path

import tiny
from command_line import Line, clients

from neulig_fl.report import Report, timeline
from neulig_fl.study import runs


def test_a_run_prints_its_report_and_a_second_one_trains_nothing(
    line: Line, data: Path, tmp_path: Path, own_cache: Path
) -> None:
    """Without it a user could not tell what was trained, nor read the result where it ran."""
    scenario = tiny.write(tmp_path, data)
    first = line("run", scenario, "--engine", "local", "--out", tmp_path / "one")
    assert first.code == 0
    assert "merging (A): NeuLig (sample)" in first.out
    assert len(first.out.splitlines()) <= 24
    assert "trained now: ada (A), bob (A), cyd (A)" in first.out
    assert str(tmp_path / "one" / "report.html") in first.out.replace("\n", "")
    done = [text for text in first.err.splitlines() if text.startswith("merging: parameters")]
    assert len(done) == 1, "one line for a finished task"
    assert "3 of 3" in done[0]

    second = line("run", scenario, "--engine", "local", "--out", tmp_path / "two")
    assert "from the cache: ada (A), bob (A), cyd (A)" in second.out
    assert "trained now" not in second.out

    again = line("report", tmp_path / "one")
    assert again.code == 0
    assert "Stage merging (group A)" in again.out
    for sentence in timeline.answers(Report.load(tmp_path / "one").data):
        assert sentence in " ".join(first.out.split())
        assert sentence in " ".join(again.out.split())

    refused = line("run", scenario, "--engine", "local", "--out", tmp_path / "one")
    assert refused.code == 2
    assert "holds the report of an earlier run" in refused.err


def test_several_seeds_are_summed_up(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a user would see one seed and take it for all."""
    scenario = tiny.write(tmp_path, data)
    text = scenario.read_text().replace(f"seed: {tiny.SEED}", "seeds: [3, 4]")
    scenario.write_text(text)
    out = tmp_path / "out"
    ended = line("run", scenario, "--engine", "local", "--out", out)
    assert ended.code == 0
    assert "tiny, over seeds 3, 4" in ended.out
    assert "\nExperts: " in ended.out, "there are 6: more than are named"
    again = line("report", out)
    assert again.out == ended.out.split("Experts: ")[0]
    assert "Seed 4, local engine" in line("report", out / "seed-4").out
    (out / "summary.json").write_text("{}")
    broken = line("report", out)
    assert (broken.code, "not a summary" in broken.err) == (2, True)


def test_a_given_checkpoint_is_neither_trained_nor_cached(
    line: Line, data: Path, tmp_path: Path, own_cache: Path
) -> None:
    """Without it a user could not tell that their own expert was used."""
    assert line("run", tiny.write(tmp_path, data), "--engine", "local").code == 0
    weights = next((own_cache / "experts").glob("*.safetensors"))
    scenario = tiny.write(tmp_path, data, clients=clients("bob", checkpoint=str(weights)))
    ended = line("run", scenario, "--engine", "local", "--out", tmp_path / "out")
    assert "given: bob (A)" in ended.out


def test_the_report_is_the_one_of_the_python_call(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a notebook and the command line could tell different stories."""
    scenario = tiny.write(tmp_path, data)
    assert line("run", scenario, "--engine", "local", "--out", "one").code == 0
    called = runs.run(scenario, engine="local", out=tmp_path / "two")
    assert tiny.results(Report.load("one")) == tiny.results(called)


def test_the_command_keeps_stores_and_leaves_the_reference_out(
    line: Line, data: Path, tmp_path: Path
) -> None:
    """Without it a noised report would stand beside exact figures, whatever the user asks for."""
    share = [{"kind": "features", "queries": ["pool"]}]
    path = tiny.write(tmp_path, data, stages=[{"name": "one", "share": share}])
    options = ("--engine", "local", "--stores", "kept")
    ended = line("run", path, *options, "--out", "one", "--no-reference")
    assert ended.code == 0
    assert ": ada (A), bob (A), cyd (A)" in ended.out
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    assert report["reference"] == {"experts": [], "reason": runs.LEFT_OUT}
    assert runs.LEFT_OUT in (tmp_path / "one" / "report.md").read_text()
    assert list((tmp_path / "kept").rglob("reference.json")) == []
    assert line("run", path, *options, "--out", "two").code == 0
    assert (
        len(json.loads((tmp_path / "two" / "report.json").read_text())["reference"]["experts"]) == 3
    )
    again = line("run", path, *options, "--out", "three", "--no-reference")
    assert "from the cache: ada (A), bob (A), cyd (A)" in again.out
    report = json.loads((tmp_path / "three" / "report.json").read_text())
    assert report["reference"]["experts"] == []
    verified = line("verify", "two", "--stores", "kept")
    assert verified.code == 0
    assert "its own ledger of 3 entries, whole to its signed end" in verified.out
