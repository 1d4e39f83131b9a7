"""Run folders: one run, one folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from neulig_fl.core import run_folders
from neulig_fl.core.errors import InputError
from neulig_fl.core.run_folders import held_stores, put_aside, run_folder


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # noqa: ARG003
            return cls(2026, 3, 4, 5, 6, 7)

    monkeypatch.setattr(run_folders, "datetime", Stopped)


def test_runs_of_one_second_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it one seed's report would show another's figures, and `verify` be content."""
    _stopped_clock(monkeypatch)

    def folder(_: int) -> str:
        with run_folder("tiny", None) as made:
            return str(made)

    with ThreadPoolExecutor(8) as pool:
        found = sorted(pool.map(folder, range(12)))
    moment = "runs/tiny/20260304-050607"
    assert found == sorted([moment, *(f"{moment}-{number}" for number in range(2, 13))])


def test_a_folder_is_one_runs_until_it_ends() -> None:
    """Without it two runs with the same --out would write one report out of both."""
    with run_folder("tiny", "out"):
        with pytest.raises(InputError, match=r"^--out out: another run is at work there; choose"):
            run_folder("tiny", "out").__enter__()
        with run_folder("tiny", "other"):
            pass
    with run_folder("tiny", "out") as again:
        assert again == Path("out"), "an interrupted run goes on in its folder"


def test_what_did_not_end_is_moved_out_of_the_way_and_kept() -> None:
    """Without it a run would begin among another one's ledgers, or these would be lost."""
    folder = Path("case") / "seed-3"
    put_aside(folder)
    assert not folder.parent.exists(), "nothing was there"
    for number in (1, 2):
        with run_folder("tiny", folder):
            (folder / "receipts.jsonl").write_text(str(number))
            with pytest.raises(InputError, match="another run is at work there"):
                put_aside(folder)
        put_aside(folder)
        assert not folder.exists()
        kept = folder.parent / "ended" / f"seed-3-{number}"
        assert (kept / "receipts.jsonl").read_text() == str(number)


def test_a_run_among_others_of_its_case_is_running() -> None:
    """Without it `runs` would call a run interrupted whose own folder is held, not that above."""
    with run_folder("tiny", Path("case") / "seed-3") as held:
        (held / run_folders.SCENARIO_FILE).write_text("name: tiny")
        assert run_folders.state(held) == ("running", "")
    assert run_folders.state(held) == ("interrupted", "")


def test_a_folder_with_a_report_is_refused(tmp_path: Path) -> None:
    """Without it a second run would replace a result, or mix with it."""
    (tmp_path / "out" / "seed-3").mkdir(parents=True)
    (tmp_path / "out" / "seed-3" / "report.json").write_text("{}")
    with pytest.raises(InputError, match=r"^--out out: holds the report of an earlier run"):
        run_folder("tiny", "out").__enter__()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file/out", r"^--out file/out: cannot be made \(Not a directory\)"),
        ("file", r"^--out file: cannot be made \(File exists\)"),
        (
            None,
            r"^runs/tiny: no folder can be made there \(Not a directory\); choose one with --out",
        ),
    ],
)
def test_a_folder_that_cannot_be_made_says_why(
    tmp_path: Path, out: str | None, message: str
) -> None:
    """Without it a run would end with a traceback, or after the training."""
    (tmp_path / "file").write_text("")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny").write_text("")
    with pytest.raises(InputError, match=message):
        run_folder("tiny", out).__enter__()


def test_clients_stores_are_one_runs_until_it_ends(tmp_path: Path) -> None:
    """Without it two runs at once would answer from one ledger, and note in one another's place."""
    with held_stores(Path("stores")):
        assert Path("stores").stat().st_mode & 0o777 == 0o700
        with pytest.raises(InputError, match=r"^--stores stores: another run is at work there"):
            held_stores(Path("stores")).__enter__()
    with held_stores(Path("stores")):
        pass
    Path("file").write_text("")
    with pytest.raises(InputError, match=r"^--stores file: cannot be made"):
        held_stores(Path("file")).__enter__()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_folder_that_others_can_write_to_is_refused(mode: int, tmp_path: Path) -> None:
    """Attack: a link called flower.log in a folder for all makes a run write to the user's files."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(mode)
    with pytest.raises(InputError, match="--out folder"), run_folder("tiny", tmp_path / "shared"):
        pass
    with pytest.raises(InputError, match="--stores folder"), held_stores(tmp_path / "shared"):
        pass
