"""The simulation engine: Flower's own processes, started and ended by us."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from neulig_fl.core.errors import BadReply, EngineError
from neulig_fl.runtime.engines import Job, simulation
from neulig_fl.runtime.engines._processes import marked
from neulig_fl.runtime.engines._workplace import Workplace, workplace
from neulig_fl.runtime.engines.simulation import federation_config, telling_line

TINY_APP = Path(__file__).with_name("tiny_app")


@pytest.mark.parametrize(
    ("clients", "client_cpus", "machine", "expected"),
    [(5, 1, 2, 2), (3, 1, 64, 3), (2, 4, 2, 4), (4, 2, 4, 4)],
)
def test_ray_gets_the_cores_that_the_clients_can_use(
    clients: int, client_cpus: int, machine: int, expected: int
) -> None:
    """Without it Ray would start idle processes, or Flower would refuse a small machine."""
    job = Job(Path("s"), Path("o"), clients=clients, client_cpus=client_cpus)
    settings = dict(pair.split("=") for pair in federation_config(job, machine).split())
    assert settings["init-args-num-cpus"] == str(expected)
    assert settings["num-supernodes"] == str(clients)
    assert settings["client-resources-num-gpus"] == "0.0"


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", "it printed nothing"),
        ("a\nb\n\n", "b"),
        ("\x1b[91mERROR\x1b[0m : no\nValueError: broke\nlater\n", "ValueError: broke"),
    ],
)
def test_a_log_says_why_in_one_line(tmp_path: Path, log: str, line: str) -> None:
    """Without it an error would send the user to read hundreds of lines."""
    (tmp_path / "flower.log").write_text(log)
    assert telling_line(tmp_path / "flower.log") == line


def test_without_ray_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a Python for which there is no Ray would start Flower and wait for its end."""
    monkeypatch.setattr(simulation.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"needs Ray.*install flwr\[simulation\].*--engine local"):
        simulation.run(Job(tmp_path / "s.json", tmp_path, clients=2))


# ---------------------------------------------------------------- real runs


PATIENT = 600.0
"""Seconds after which a test gives up: only what hangs takes so long."""


def _job(folder: Path, steps: list[dict[str, Any]], clients: int = 3, **more: str) -> Job:
    names = [f"c{i}" for i in range(clients)]
    plan = folder / 'a "plan" = this.json'
    plan.write_text(json.dumps({"clients": names, "steps": steps, **more}))
    out = folder / "a run"
    out.mkdir()
    return Job(plan, out, clients=clients)


@pytest.fixture(autouse=True)
def homes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Note the folder of every run, and look afterwards whether the run left anything."""
    made: list[Path] = []

    @contextmanager
    def noted(*given: Any) -> Iterator[Workplace]:
        with workplace(*given) as place:
            made.append(place.root)
            yield place

    monkeypatch.setattr(simulation, "workplace", noted)
    yield made
    for home in made:
        assert not home.exists()
        assert not marked(str(home))


@pytest.mark.slow
def test_a_run_of_real_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a dead, silent or hanging client would cost more than its own answer.

    The working folder holds another `clients` package.
    """
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "__init__.py").write_text("raise SystemExit('foreign')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(simulation._GRACE, "outcome.json", 2.0)
    everyone = {"c0": "answer", "c1": "answer", "c2": "answer"}
    steps = [
        {"timeout": PATIENT, "ask": {**everyone, "c1": "refuse", "c2": "raise"}},
        {"times_the_first": 5.0, "ask": {**everyone, "c1": "nothing"}},
        {"timeout": PATIENT, "ask": {**everyone, "c1": "die"}},
        {"timeout": PATIENT, "ask": everyone},
        {"timeout": 1.0, "ask": {"c0": "hang"}},
    ]
    job = _job(tmp_path, steps)
    simulation.run(job, app=TINY_APP)
    answers = [
        {a["client"]: a for a in step}
        for step in json.loads((job.out / "outcome.json").read_text())
    ]
    statuses = [{name: a["status"] for name, a in step.items()} for step in answers]
    assert statuses == [
        {"c0": "ok", "c1": "refused", "c2": "failed"},
        {"c0": "ok", "c1": "missing", "c2": "ok"},
        {"c0": "ok", "c1": "missing", "c2": "ok"},
        {"c0": "ok", "c1": "ok", "c2": "ok"},
        {"c0": "missing"},
    ]
    assert answers[0]["c0"]["payload"] == "cba"
    assert answers[0]["c1"]["reason"] == "not that"
    assert answers[0]["c2"]["reason"] == "unexpected TypeError"
    assert "Flower had not ended the run 2 s after outcome.json" in (
        job.out / "flower.log"
    ).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fail", "expected", "message"),
    [
        ("own error", BadReply, r"^north sent NaN$"),
        ("server broke", EngineError, r"finished:failed: .*server broke; its log is .*flower\.log"),
    ],
)
def test_a_failed_server_app_is_an_error(
    tmp_path: Path,
    fail: str,
    expected: type[Exception],
    message: str,
) -> None:
    """Without it a failed run would exit with 0, as Flower's own command does."""
    with pytest.raises(expected, match=message):
        simulation.run(_job(tmp_path, [], clients=2, fail=fail), app=TINY_APP)


@pytest.mark.slow
def test_an_app_that_flower_refuses_is_an_error(tmp_path: Path) -> None:
    """Without it a broken installation would wait for a run that never started."""
    (tmp_path / "clients").mkdir()
    (tmp_path / "server").mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(EngineError, match="Flower's run ended as not started"):
        simulation.run(_job(tmp_path, []), app=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 1), (signal.SIGKILL, -9)]
)
def test_a_stopped_run_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int, homes: list[Path]
) -> None:
    """Without it Ctrl-C would leave a SuperLink, Ray and training clients behind."""
    job = _job(tmp_path, [{"timeout": PATIENT, "ask": {"c0": "hang", "c1": "hang"}}], clients=2)
    script = (
        "import sys; from pathlib import Path; from neulig_fl.runtime.engines import Job, simulation\n"
        "plan, out, app = map(Path, sys.argv[1:])\n"
        "try: simulation.run(Job(plan, out, clients=2), app=app)\n"
        "except KeyboardInterrupt: sys.exit(1)"
    )
    command = [sys.executable, "-c", script, str(job.scenario_file), str(job.out), str(TINY_APP)]
    process = subprocess.Popen(command)
    log = job.out / "flower.log"
    deadline = time.monotonic() + PATIENT
    while not (log.exists() and "nodes are there" in log.read_text(encoding="utf-8")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, number)
    assert process.wait(timeout=PATIENT) == code
    homes += map(Path, re.findall(r"to (\S*nfl-\w+)/apps", log.read_text(encoding="utf-8")))
    assert len(homes) == 1
    # Whoever was killed does nothing more: another process ends the rest, and then itself.
    while number == signal.SIGKILL and (homes[0].exists() or marked(str(homes[0]))):
        assert time.monotonic() < deadline
        time.sleep(0.1)
