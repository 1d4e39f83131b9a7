"""Who can talk to a run under the simulation engine, or read of it, from the same machine.

One real run is attacked while a client waits; then the client goes on, and the run has to end well.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from neulig_fl.core.errors import EngineError
from neulig_fl.runtime.engines import LOG, Job, _simulate, simulation
from neulig_fl.runtime.engines._environment import environment, token_file
from neulig_fl.runtime.engines._processes import marked
from neulig_fl.runtime.engines._workplace import CONNECTION, Workplace, workplace

HERE = Path(__file__).parent
TINY_APP = HERE.parent / "runtime" / "engines" / "tiny_app"
NOBODY = 65534
PATIENT = 600.0
"""Seconds after which a test gives up: only what hangs takes so long."""

REFUSALS = {"UNAUTHENTICATED", "UNIMPLEMENTED"}

RAY_TASK = """
import os, sys, ray
ray.init(address=sys.argv[1])
@ray.remote(num_cpus=0)
def task():
    return os.getuid()
print("ran as", ray.get(task.remote(), timeout=30))
"""

FLWR = """
import contextlib, io, json, os, sys
from pathlib import Path
from flwr.cli.app import app as flwr
home, app = Path(os.environ["FLWR_HOME"]), sys.argv[1]
answers = {}
for port in json.loads(sys.argv[2]):
    lines = ["[superlink.x]", f'address = "127.0.0.1:{port}"', "insecure = true"]
    (home / "config.toml").write_text("\\n".join(lines))
    for command in (["list", "x"], ["run", app, "x"]):
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = flwr(command) or 0
        except SystemExit as end:
            code = end.code
        except Exception as error:
            code = f"{type(error).__name__}: {error}"
        answers[f"{command[0]} {port}"] = [code, said.getvalue()]
print(json.dumps(answers))
"""


@dataclass
class Seen:
    """What was found while the run went on, and how it ended.

    Args:
        inet: of each process that listens on TCP or UDP: name, address, port.
        unix: of each socket of the run's in the file system, or without a file: its name.
        root: the workplace, with its mode.
        stranger: what `stranger.py` got.
        flwr: what Flower's commands got, by command and port: exit code, output.
        ray: what Ray's own client got, by token: output.
        told: command lines of the run's processes, and files of the run, that hold Ray's token.
        second: what Flower said to a second run that the user submitted.
        outcome: the server app's, or what was raised.
    """

    inet: list[tuple[str, str, int]] = field(default_factory=list)
    unix: list[str] = field(default_factory=list)
    root: tuple[Path, int] = (Path(), 0)
    stranger: dict[str, Any] = field(default_factory=dict)
    flwr: dict[str, tuple[Any, str]] = field(default_factory=dict)
    ray: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    second: str = ""
    outcome: Any = None


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Attack one run from all sides, and let it end."""
    folder = tmp_path_factory.mktemp("doors")
    plan, out = folder / "plan.json", folder / "out"
    steps = [{"timeout": PATIENT, "ask": {"c0": "wait", "c1": "answer"}}]
    plan.write_text(json.dumps({"clients": ["c0", "c1"], "steps": steps}))
    out.mkdir()
    places: list[Workplace] = []

    @contextmanager
    def noted(*given: Any) -> Iterator[Workplace]:
        with workplace(*given) as place:
            places.append(place)
            yield place

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(simulation, "workplace", noted)
        run = pool.submit(simulation.run, Job(plan, out, clients=2), TINY_APP)
        try:
            _wait_for(folder / "waits", run)
            yield _attacked(places[0], folder, run, out)
        finally:
            (folder / "go").touch()


def _wait_for(file: Path, run: Future[None]) -> None:
    deadline = time.monotonic() + PATIENT
    while not file.exists():
        assert not run.done(), run.exception()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _attacked(place: Workplace, folder: Path, run: Future[None], out: Path) -> Seen:
    found = Seen(root=(place.root, place.root.stat().st_mode & 0o777))
    processes = _processes(place.root)
    for process in processes:
        for each in process.net_connections(kind="inet"):
            if each.status == psutil.CONN_LISTEN or (not each.raddr and each.laddr):
                found.inet.append((process.name(), each.laddr.ip, each.laddr.port))
        found.unix += [c.laddr for c in process.net_connections(kind="unix") if c.laddr]
    ports = sorted({port for _, _, port in found.inet})
    files = [p for p in place.root.rglob("*") if p.is_file() and not p.is_symlink()]
    files += [Path(f"/proc/{process.pid}/environ") for process in processes]
    with ThreadPoolExecutor(4) as pool:
        stranger = pool.submit(_stranger, ports, found.unix, [place.root, *files])
        flwr = pool.submit(_flwr, folder, ports)
        gcs = next(port for name, _, port in found.inet if name == "gcs_server")
        token = (
            (place.root / "ray.token").read_text() if (place.root / "ray.token").exists() else ""
        )
        tokens = {"none": None, "wrong": "ab" * 32, "right": token}
        ray = {name: pool.submit(_ray, folder / name, gcs, each) for name, each in tokens.items()}
        second = pool.submit(_second_run, place)
        found.told = _told(token, processes, files)
        found.stranger, found.flwr = stranger.result(), flwr.result()
        found.ray = {name: each.result() for name, each in ray.items()}
        found.second = second.result()
    (folder / "go").touch()
    try:
        run.result(timeout=PATIENT)
        found.outcome = json.loads((out / "outcome.json").read_text())
    except Exception as error:  # a test says what it is
        found.outcome = error
    if token in (out / LOG).read_text(encoding="utf-8"):
        found.told.append(LOG)
    return found


def _told(token: str, processes: list[psutil.Process], files: list[Path]) -> list[str]:
    """Which command lines and files hold the token, but for the file that is made for it."""
    lines = [" ".join(process.cmdline()) for process in processes]
    others = [file for file in files if file.name not in ("ray.token", "environ")]
    holding = [str(file) for file in others if token.encode() in file.read_bytes()]
    return [line for line in lines if token in line] + holding


def _processes(root: Path) -> list[psutil.Process]:
    """All of a run: those with its mark, and what these started, whose marks Ray's titles cover."""
    found = {p.pid: p for each in marked(str(root)) for p in [each, *each.children(recursive=True)]}
    return list(found.values())


def _stranger(ports: list[int], sockets: list[str], files: list[Path]) -> dict[str, Any]:
    asked = {
        "uid": NOBODY if os.getuid() == 0 else None,
        "ports": ports,
        "sockets": sockets,
        "files": [str(file) for file in files],
    }
    done = subprocess.run(
        [sys.executable, HERE / "stranger.py"],
        input=json.dumps(asked), capture_output=True, text=True, timeout=PATIENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _flwr(folder: Path, ports: list[int]) -> dict[str, tuple[Any, str]]:
    home = folder / "home of a stranger"
    home.mkdir()
    variables = {**os.environ, "FLWR_HOME": str(home), "FLWR_DISABLE_UPDATE_CHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FLWR, TINY_APP, json.dumps(ports)],
        env=variables, cwd=home, capture_output=True, text=True, timeout=PATIENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: dict[str, tuple[Any, str]] = json.loads(done.stdout)
    return answers


def _ray(folder: Path, port: int, token: str | None) -> str:
    folder.mkdir()
    variables = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    variables |= {"HOME": str(folder), "RAY_NUM_REDIS_GET_RETRIES": "1"}
    variables |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}
    if token is not None:
        variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    done = subprocess.run(
        [sys.executable, "-c", RAY_TASK, f"127.0.0.1:{port}"],
        env=variables, capture_output=True, text=True, timeout=PATIENT,
    )  # fmt: skip
    return done.stdout + done.stderr


def _second_run(place: Workplace) -> str:
    """The user submits one more run to the same SuperLink; it fails by itself."""
    app = place.root / "second"
    shutil.copytree(TINY_APP, app)
    (app / "clients" / "app.py").write_text("app = None")
    command = [place.command("flwr"), "run", str(app), CONNECTION]
    done = subprocess.run(
        command, env=dict(place.environment), cwd=place.empty, capture_output=True, text=True
    )
    return done.stdout + done.stderr


pytestmark = pytest.mark.slow


def test_everything_that_listens_is_on_loopback(seen: Seen) -> None:
    """Or other machines of the network submit tasks, which run as the user."""
    names = {name for name, _, _ in seen.inet}
    assert {"gcs_server", "raylet"} <= names, "what was looked at is not the run"
    others = [e for e in seen.inet if e[1].removeprefix("::ffff:") not in ("127.0.0.1", "::1")]
    assert others == []


def test_flowers_superlink_listens_on_no_port(seen: Seen) -> None:
    """Or another user's `flwr run` brings a ServerApp that runs as this user."""
    names = {name for name, _, _ in seen.inet}
    assert "gcs_server" in names
    assert not [name for name in names if "superlink" in name or "superexec" in name]
    assert str(seen.root[0] / "superlink.sock") in seen.unix


def test_flowers_commands_of_a_stranger_find_nothing(seen: Seen) -> None:
    """Or `flwr list` shows another user's runs, and `flwr run` starts code as that user."""
    assert {name.split()[0] for name in seen.flwr} == {"list", "run"}
    for name, (code, said) in seen.flwr.items():
        assert code != 0, f"{name}: {said}"
        assert "Successfully started run" not in said, name


def test_ray_takes_no_task_without_the_token(seen: Seen) -> None:
    """Or whoever reaches Ray's port runs code as the user, as anybody could on the whole network."""
    for name in ("none", "wrong"):
        assert "ran as" not in seen.ray[name]
        assert "Failed to connect to Ray cluster" in seen.ray[name]
    assert f"ran as {os.getuid()}" in seen.ray["right"], "the same task with the token runs"


def test_rays_token_stands_on_no_command_line_and_in_no_log(seen: Seen) -> None:
    """Or every user finds it in the list of processes, and whoever gets a log in there."""
    assert "ran as" in seen.ray["right"], "what was looked for is the token"
    assert seen.told == []


@pytest.mark.parametrize("token", ["grpc", "wrong token"])
def test_every_call_of_every_service_is_refused(seen: Seen, token: str) -> None:
    """Or a stranger reads Ray's key-value store, kills actors, or pushes tasks to a worker itself."""
    refused = 0
    for port, answers in seen.stranger[token].items():
        odd = {name: code for name, code in answers.items() if code not in REFUSALS}
        if seen.stranger["http"][port]["GET /"] == "401":
            assert set(odd.values()) == {"UNAVAILABLE"}, "it speaks HTTP alone"
        else:
            assert not odd, f"port {port} of {[e for e in seen.inet if e[2] == int(port)]}"
        refused += list(answers.values()).count("UNAUTHENTICATED")
    assert refused > 100, "these are not Ray's services"


def test_every_http_request_is_refused(seen: Seen) -> None:
    """Or a stranger starts runs, reads logs, or has Ray make an environment of its choice."""
    agents = 0
    for port, answers in seen.stranger["http"].items():
        agents += answers["POST /get_runtime_envs_info"] == "401"
        answered = {name: code for name, code in answers.items() if code.isdecimal()}
        assert set(answered.values()) <= {"401", "403"}, f"port {port}: {answered}"
    assert agents == 1, "Ray's runtime-env agent refuses a request without the token"


def test_no_socket_lies_where_another_user_can_reach_it(seen: Seen) -> None:
    """Or another user connects to the SuperLink, to Ray's raylet or to its object store."""
    root, mode = seen.root
    assert mode == 0o700
    assert {"superlink.sock", "raylet", "plasma_store"} <= {Path(name).name for name in seen.unix}
    assert [name for name in seen.unix if root not in Path(name).parents] == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_reaches_no_socket_and_reads_no_file_of_a_run(seen: Seen) -> None:
    """Or another user finds Ray's token, the run's config or what a client keeps for the time."""
    assert seen.stranger["uid"] == NOBODY
    files = seen.stranger["files"]
    assert str(seen.root[0] / "ray.token") in files
    assert any(name.endswith("/environ") for name in files)
    assert {name: why for name, why in files.items() if why not in ("EACCES", "ENOENT")} == {}
    assert set(seen.stranger["sockets"].values()) == {"EACCES"}


def test_a_ray_that_asks_for_no_token_ends_the_run() -> None:
    """Or a Ray that knows no token runs everybody's tasks, and nobody is told."""
    with pytest.raises(EngineError, match=r"Ray .* asks nobody for a token.*--engine local"):
        _simulate.refuse_an_open_ray()


def test_a_ray_that_listens_for_other_machines_ends_the_run(tmp_path: Path) -> None:
    """Or a Ray that takes no word of loopback runs tasks of the whole network, should it let them in."""
    code = (
        "import socket, subprocess, sys; from neulig_fl.runtime.engines import _simulate\n"
        "_simulate.refuse_an_open_ray(); print('closed', flush=True)\n"
        "listen = 'import socket; s = socket.create_server((\"0.0.0.0\", 0)); print(flush=True); input()'\n"
        "child = subprocess.Popen([sys.executable, '-c', listen], stdin=-1, stdout=-1)\n"
        "child.stdout.readline()\n"
        "try: _simulate.refuse_an_open_ray()\n"
        "finally: child.kill()"
    )
    variables = environment(os.environ, tmp_path)
    token_file(tmp_path).write_text("ab" * 32)
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True
    )
    assert done.stdout == "closed\n", done.stderr
    assert re.search(r"EngineError: Ray .* listens on 0\.0\.0\.0:\d+, so that others", done.stderr)


def test_the_attacked_run_is_found_by_its_id_and_ends_well(seen: Seen) -> None:
    """Or a stranger ends a run, or what is said of it is another's: the SuperLink has two by then."""
    assert "Successfully started run" in seen.second, seen.second
    assert not isinstance(seen.outcome, Exception), seen.outcome
    ((first, second),) = seen.outcome
    assert {first["client"]: first["status"], second["client"]: second["status"]} == {
        "c0": "ok",
        "c1": "ok",
    }
