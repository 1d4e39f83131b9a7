"""`neulig-fl run --resume`: what it takes, what it says, and how signals end a run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import broken_off
import pytest
import tiny
import yaml
from command_line import Line

from neulig_fl.core import unfinished_runs
from neulig_fl.report import kept_runs


@pytest.fixture(scope="module")
def killed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed after its first stage."""
    folder = tmp_path_factory.mktemp("killed")
    path, out = tiny.write(folder, data), folder / "run"
    assert broken_off.apart(lambda: broken_off.begin(path, folder / "first"))  # trains the experts
    count = folder / "count"
    assert broken_off.apart(lambda: broken_off.begin(path, folder / "whole"), count=count)
    kill_at = int(0.85 * int(count.read_text()))
    assert not broken_off.apart(lambda: broken_off.begin(path, out), kill_at)
    assert unfinished_runs.stages_done(out) == 1
    return out


def test_runs_and_report_name_the_next_step(line: Line, killed: Path) -> None:
    """Without it a user would begin a killed run anew."""
    step = f"`neulig-fl run --resume {killed}` goes on"
    assert kept_runs.look(killed).says == f"1 stage done; {step}"
    ended = line("report", killed)
    assert (ended.code, step in ended.err) == (2, True)
    assert step in " ".join(line("runs", killed, "--json").out.split())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["scenario.yaml"], "takes no scenario"),
        (["--engine", "local"], "takes no engine"),
        (["--set", "seed=8", "--out", "x"], "takes no out, settings"),
    ],
)
def test_nothing_else_is_said_with_it(line: Line, killed: Path, more: list[str], said: str) -> None:
    """Without it an option would be ignored, or make the run another one."""
    ended = line("run", "--resume", killed, *more)
    assert ended.code == 2
    assert said in ended.err
    assert "goes on as it was begun" in ended.err


def test_neither_a_scenario_nor_a_run(line: Line, tmp_path: Path) -> None:
    """Without it `run` alone would be a traceback."""
    ended = line("run")
    assert ended.code == 2
    assert "error: Missing argument 'SCENARIO'" in ended.err
    ended = line("run", "--resume", tmp_path / "nowhere")
    assert (ended.code, "no such folder" in ended.err) == (2, True)
    (tmp_path / "empty").mkdir(mode=0o700)
    ended = line("run", "--resume", tmp_path / "empty")
    assert (ended.code, "no run was begun there" in ended.err) == (2, True)


def test_it_goes_on_and_then_is_done(line: Line, killed: Path, tmp_path: Path) -> None:
    """Without it a script could not resume until a run is done."""
    own = shutil.copytree(killed, tmp_path / "run")  # other tests look at the killed one
    ended = line("run", "--resume", own)
    assert ended.code == 0, ended.err
    assert "stage outputs: finished before" in ended.err
    assert kept_runs.look(own).state == "done"
    again = line("run", "--resume", own)
    assert (again.code, "the run is done" in again.out) == (0, True)
    assert (own / "report.html").is_file()
    assert line("verify", own).code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_a_run_as_ctrl_c_does(tmp_path: Path, number: int, code: int) -> None:
    """Without it a machine that shuts down would leave a run that nobody knows how to go on with."""
    scenario: dict[str, Any] = {
        "name": "long",
        "model": {"name": "micro-vit", "pretrained": "none"},
        "clients": [{"name": "a", "task": "digits"}, {"name": "b", "task": "digits"}],
        "experts": {"epochs": 500},
        "stages": [{"name": "s", "share": [{"kind": "features"}]}],
    }
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(scenario))
    command = [sys.executable, "-m", "neulig_fl", "run", "long.yaml", "--engine", "local"]
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            [*command, "--out", "out"],
            cwd=tmp_path,
            stderr=err,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    until = time.monotonic() + 600
    while not (tmp_path / "out" / "unfinished" / "run.json").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(number)
    assert process.wait(timeout=600) == code
    said = (tmp_path / "err").read_text()
    assert f"ended by signal {int(number)}" in said
    assert "`neulig-fl run --resume out` goes on from there" in said
    assert kept_runs.look(tmp_path / "out").state == "interrupted"
