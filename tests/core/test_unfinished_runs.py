"""What tells of an unfinished run, and who is at work in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from neulig_fl.core import run_folders, unfinished_runs
from neulig_fl.core.errors import InputError
from neulig_fl.core.run_folders import STATE_FILE, UNFINISHED, run_folder


def test_a_run_is_abandoned_when_its_starter_is_gone_or_ends_it(tmp_path: Path) -> None:
    """Without it a server would take the end of its clients for their answer."""
    with run_folder("a", tmp_path / "run") as folder:
        seed = folder / "seed-3"
        for place in (folder, seed):
            (place / UNFINISHED).mkdir(parents=True)
            assert not unfinished_runs.is_abandoned(place)
        unfinished_runs.stop(folder)
        assert unfinished_runs.is_abandoned(folder)
        unfinished_runs.go_on(folder)
        assert not unfinished_runs.is_abandoned(folder)
    assert unfinished_runs.is_abandoned(folder)
    assert unfinished_runs.is_abandoned(seed)


def test_a_run_in_a_folder_that_is_called_like_a_seed_is_not_abandoned(tmp_path: Path) -> None:
    """Without it a client that fails would end every run of a study: its folders are so called."""
    with run_folder("a", tmp_path / "case" / "seed-7") as folder:
        (folder / UNFINISHED).mkdir()
        assert not unfinished_runs.is_abandoned(folder)
    assert unfinished_runs.is_abandoned(folder)


def test_one_server_at_a_time(tmp_path: Path) -> None:
    """Without it a process that was left behind would write beside the one that goes on."""
    with (
        unfinished_runs.alone_in(tmp_path),
        pytest.raises(InputError, match="is still at work there"),
        unfinished_runs.alone_in(tmp_path, patience=0.2),
    ):
        pass
    with unfinished_runs.alone_in(tmp_path):
        pass


def test_what_is_kept_says_that_a_run_can_go_on(tmp_path: Path) -> None:
    """Without it a run that failed for good and one that can go on would be told alike."""
    (tmp_path / "scenario.yaml").write_text("")
    (tmp_path / "error.json").write_text('{"message": "the client refused"}')
    assert run_folders.state(tmp_path) == ("failed", "the client refused")
    assert not unfinished_runs.is_resumable(tmp_path)
    (tmp_path / UNFINISHED).mkdir()
    (tmp_path / UNFINISHED / STATE_FILE).write_text("{}")
    assert run_folders.state(tmp_path) == ("interrupted", "")
    assert unfinished_runs.is_resumable(tmp_path)
    unfinished_runs.erase(tmp_path)
    assert not (tmp_path / UNFINISHED).exists()
    assert run_folders.state(tmp_path) == ("failed", "the client refused")
