"""Runs that were broken off and resumed: the same results, no release twice, or one clear error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broken_off
import pytest
import tiny
from broken_off import apart, begin, entered, resume

from neulig_fl.core import versions
from neulig_fl.core.errors import InputError
from neulig_fl.core.run_folders import resumed_folder, run_folder
from neulig_fl.ledger import manifest
from neulig_fl.report import Report, summary
from neulig_fl.study import resumption
from neulig_fl.verification import whole_run

ANY = {"budgets": {"max_leverage": 1.0}}
POOL = {
    "name": "outputs",
    "share": [{"kind": "features", "queries": ["pool"]}],
    "run": ["train-portland"],
}
SUMS = {
    "name": "sums",
    "share": [
        {"kind": "features", "queries": ["evaluation"], "protection": "secure-aggregation"},
        {"kind": "parameters", "protection": "secure-aggregation"},
    ],
    "granularity": ["global", "task"],
    "run": ["merge"],
}
SEALED = [
    {
        "name": "outputs",
        "share": [{**share, "protection": "sealed"} for share in tiny.OUTPUTS],
        "run": ["train-portland", "ensemble"],
    },
    {
        "name": "merging",
        "share": [{"kind": "parameters", "protection": "sealed"}],
        "run": ["merge"],
    },
]
WITHOUT = {"allow": [{"kind": "offset-sum"}, {"kind": "features"}]}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "sealed, one refuses": {
        "stages": SEALED,
        "on_refusal": "continue",
        "clients": [
            {"name": "ada", "task": "first"},
            {"name": "bob", "task": "second", "policy": WITHOUT},
            {"name": "cyd", "task": "first"},
        ],
    },
    "sums": {
        "stages": [POOL, SUMS],
        "portland": {"alignment": "none", "epochs": 2, "batch_size": 4},
        "clients": [
            {"name": name, "task": task, "policy": ANY}
            for name, task in (("ada", "first"), ("bob", "second"), ("cyd", "first"))
        ],
    },
}

MOMENTS = 4
"""At which a run is killed, evenly spread; `benchmarks/kill_and_resume.py` does more."""


@pytest.fixture(scope="module", params=CASES)
def whole(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a scenario, an unbroken run of it in `out`, and how often that wrote."""
    folder = tmp_path_factory.mktemp("whole")
    path = tiny.write(folder, data, **CASES[request.param])
    assert apart(lambda: begin(path, folder / "first"))  # has the experts trained
    assert apart(lambda: begin(path, folder / "out"), count=folder / "count")
    return folder


def _same(folder: Path, out: Path) -> None:
    assert broken_off.found(out) == broken_off.found(folder / "out")
    assert entered(out) == entered(folder / "out")
    assert [found.failures for found in whole_run.verify(out)] == [()]
    assert not (out / "unfinished").exists()


def _points(folder: Path, share: float) -> int:
    return 1 + int(share * (int((folder / "count").read_text()) - 1))


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8, 0.97])
def test_a_killed_run_goes_on_to_the_same_results(
    whole: Path, tmp_path: Path, share: float
) -> None:
    """Without it a run that was killed would end otherwise, or a client would give more."""
    out = tmp_path / "run"
    assert not apart(lambda: begin(whole / "scenario.yaml", out), kill_at=_points(whole, share))
    assert apart(lambda: resume(out))
    _same(whole, out)


@pytest.mark.slow
def test_killed_all_along_and_again_in_between(whole: Path, tmp_path: Path) -> None:
    """Without it there would be a moment at which a kill costs the run, or a second release."""
    last = int((whole / "count").read_text())
    for number in range(7, last, max(10, last // MOMENTS)):
        out = tmp_path / str(number)
        assert not apart(lambda: begin(whole / "scenario.yaml", out), kill_at=number)  # noqa: B023
        if not (out / "started.json").exists():
            continue
        apart(lambda: resume(out), kill_at=1 + number % 29)  # noqa: B023
        if not resumption.is_done(out):
            assert apart(lambda: resume(out))  # noqa: B023
        _same(whole, out)
        shutil.rmtree(out)


# ---------------------------------------------------------------- seeds, and the end


def test_seeds_that_are_done_are_not_run_again(data: Path, tmp_path: Path) -> None:
    """Without it a run of ten seeds would begin with the first after a power cut."""
    path, seeds = tiny.write(tmp_path, data), "seeds=[3, 4]"
    assert apart(lambda: begin(path, tmp_path / "first", seeds))  # has the experts trained
    assert apart(lambda: begin(path, tmp_path / "whole", seeds), count=tmp_path / "count")
    out, last = tmp_path / "run", int((tmp_path / "count").read_text())
    assert not apart(lambda: begin(path, out, seeds), kill_at=int(0.75 * last))
    before = (out / "seed-3" / "report.json").read_bytes()
    assert not (out / "seed-4" / "report.json").exists()
    assert apart(lambda: resume(out))
    assert (out / "seed-3" / "report.json").read_bytes() == before
    for seed in ("seed-3", "seed-4"):
        assert broken_off.found(out / seed) == broken_off.found(tmp_path / "whole" / seed)
        assert Report.load(out / seed).data["scenario"]["overrides"] == [seeds]
    assert summary.read(out)["scenario"] == summary.read(tmp_path / "whole")["scenario"]


def test_a_signed_outcome_is_not_made_again(data: Path, tmp_path: Path) -> None:
    """Without it one server would sign two outcomes of one run."""
    path, out = tiny.write(tmp_path, data), tmp_path / "run"
    assert apart(lambda: begin(path, out))
    (out / "report.json").unlink()
    kept = {name: (out / name).read_bytes() for name in (manifest.OUTCOME, manifest.FILE)}
    assert apart(lambda: resume(out))
    assert kept == {name: (out / name).read_bytes() for name in kept}
    assert Report.load(out).path == out / "report.json"


def test_a_failed_run_is_not_resumed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a run that its server signed as failed would have a second end."""

    def raising(asked: dict[str, Any], reply: tiny.Reply) -> tiny.Reply:
        raise ZeroDivisionError(f"no {asked['kind']} of {len(reply)}")

    path, out = tiny.write(tmp_path, data), tmp_path / "run"
    tiny.spoiled(monkeypatch, "bob", "parameters", raising)
    with pytest.raises(Exception, match="bob"):
        begin(path, out)
    assert not (out / "unfinished").exists()
    with pytest.raises(InputError, match="what failed is not resumed"):
        resume(out)


# ---------------------------------------------------------------- bad input


@pytest.fixture(scope="module")
def broken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its second stage."""
    folder = tmp_path_factory.mktemp("broken")
    path = tiny.write(folder, data)
    assert apart(lambda: begin(path, folder / "first"))  # has the experts trained
    assert apart(lambda: begin(path, folder / "whole"), count=folder / "count")
    assert not apart(lambda: begin(path, folder / "run"), kill_at=_points(folder, 0.85))
    assert len(json.loads((folder / "run/unfinished/stages/index.json").read_text())) == 1
    return folder / "run"


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def _edited(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"stage', b'"Stage', 1) or content[::-1])


def _scenario(run: Path) -> Path:
    file = run / "scenario.yaml"
    file.write_text(file.read_text().replace("epochs: 2", "epochs: 3"))
    return file


def _removed(file: Path) -> Path:
    file.unlink()
    return file


def _state(run: Path, **changes: Any) -> Path:
    file = run / "unfinished" / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return file


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "stage cut": (lambda r: _cut(r / "unfinished/stages/01-outputs.stage"), "01-outputs.stage: was cut"),
    "stage edited": (lambda r: _edited(r / "unfinished/stages/01-outputs.stage"), "01-outputs.stage: was cut or changed"),
    "stage gone": (lambda r: _removed(r / "unfinished/stages/01-outputs.stage"), "01-outputs.stage: cannot be read"),
    "answer cut": (lambda r: _cut(r / "unfinished/answers/000007.answer"), "000007.answer: was cut or changed"),
    "answer gone": (lambda r: _removed(r / "unfinished/answers/000008.answer"), "000008.answer: cannot be read"),
    "index": (lambda r: (r / "unfinished/stages/index.json").write_text("[1"), "index.json: is not as a run writes it"),
    "state": (lambda r: (r / "unfinished/run.json").write_text("{}"), "run.json: is not as a run writes it"),
    "scenario": (_scenario, "scenario.yaml: was changed since the run began"),
    "given": (lambda r: _cut(r / "given.yaml"), "given.yaml: was changed since the run began"),
    "resolved": (lambda r: _cut(r / "scenario.json"), "scenario.json: is not what scenario.yaml says"),
    "of another scenario": (lambda r: _state(r, scenario="0" * 64), "the run began with another scenario"),
    "versions": (lambda r: _state(r, versions={**versions.versions(), "torch": "1.0"}), "began with torch 1.0, and here is"),
    "keys": (lambda r: shutil.rmtree(r / "unfinished/keys"), "the server's keys are not there any more"),
    "other keys": (lambda r: _state(r, server={}), "began with other keys of the server"),
    "started": (lambda r: (r / "started.json").write_text("{}"), "started.json: is not as a run writes it"),
    "no run": (lambda r: _removed(r / "started.json"), "no run was begun there that can be resumed"),
}  # fmt: skip


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not {"error.json", "flower.log", "lock"} & {file.name}
        and not file.parent.name.endswith(".part") and file.name != "progress.jsonl"
    }  # fmt: skip


@pytest.mark.parametrize("what", SPOILED)
def test_what_was_spoiled_is_named_and_nothing_is_done(
    broken: Path, tmp_path: Path, what: str
) -> None:
    """Without it a run would go on from what it never was."""
    run = tmp_path / "run"
    shutil.copytree(broken, run)
    spoil, said = SPOILED[what]
    spoil(run)
    before = _files(run)
    with pytest.raises(InputError, match=said):
        resume(run)
    assert _files(run) == before


def test_a_run_in_progress_is_left_alone(broken: Path, tmp_path: Path) -> None:
    """Without it two processes would work in one folder."""
    run = tmp_path / "run"
    shutil.copytree(broken, run)
    with resumed_folder(run):
        with pytest.raises(InputError, match="another run is at work there; wait for its end"):
            resume(run)
        with pytest.raises(InputError, match="another run is at work there"), run_folder("a", run):
            pass
    assert len(resume(run)) == 1


def test_of_two_copies_one_goes_on(broken: Path, tmp_path: Path) -> None:
    """Without it a copy of a run's folder would be a second history that clients believe."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    shutil.copytree(broken, run)
    shutil.copytree(broken, copy)
    shutil.rmtree(copy / "clients")
    (copy / "clients").symlink_to(run / "clients")
    assert len(resume(run)) == 1
    before = entered(run)
    with pytest.raises(Exception, match="began with another statement"):
        resume(copy)
    assert [each[:-1] for each in entered(run).values()] == [*before.values()] or before


def test_an_interrupted_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it Ctrl-C would end a run for good."""
    path, out = tiny.write(tmp_path, data), tmp_path / "run"

    def interrupted(asked: dict[str, Any], reply: tiny.Reply) -> tiny.Reply:
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        tiny.spoiled(once, "bob", "parameters", interrupted)
        with pytest.raises(KeyboardInterrupt):
            begin(path, out)
    assert [found.error for found in whole_run.verify(out)] == ["KeyboardInterrupt"]
    resume(out)
    begin(path, tmp_path / "whole")
    assert broken_off.found(out) == broken_off.found(tmp_path / "whole")
    assert entered(out) == entered(tmp_path / "whole")
    assert [found.failures for found in whole_run.verify(out)] == [()]
