"""The simulation engine: Flower's own, on Ray, behind a SuperLink of ours that lives for one run.

The SuperLink starts in an empty folder, with a private FLWR_HOME, and listens on a socket in it;
Flower's command submits the app; what `flwr list` says of that run is the truth about it.
Everything that was started is ended, whatever happens.
"""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from neulig_fl.core import unfinished_runs
from neulig_fl.core.errors import EngineError
from neulig_fl.core.files import appending, open_privately
from neulig_fl.runtime import machine
from neulig_fl.runtime.engines import ERROR, LOG, OUTCOME, Job, reported_error
from neulig_fl.runtime.engines._apps import app_dir
from neulig_fl.runtime.engines._superlink import HOST, PORT, socket_file
from neulig_fl.runtime.engines._workplace import CONNECTION, Process, Workplace, workplace

_START_TIMEOUT = 90.0
_GRACE = {OUTCOME: 15.0, ERROR: 3.0}
"""Seconds that Flower gets to end a run after the server app wrote the file: a client that hangs
keeps it from ending at all."""

_POLL = 0.05


def run(job: Job, app: Path | None = None) -> None:
    """Run the apps under Flower's simulation.

    Args:
        job: what to run.
        app: the apps' folder; by default those that come with neulig_fl.

    Raises:
        NeuligError: what the server app raised and wrote down.
        EngineError: Flower could not run the apps; `flower.log` has all that it printed.
    """
    if importlib.util.find_spec("ray") is None:
        raise EngineError(
            "the simulation engine needs Ray, which is not installed for this Python; "
            "install flwr[simulation], or choose --engine local"
        )
    log_file = job.out / LOG
    with open_privately(log_file, "ab") as log, workplace(app or app_dir(), job.node) as place:
        try:
            submitter = _start_submitter(place, job, log)
            superlink = _start_superlink(place, log, log_file)
            _say(submitter, "ready")
            stopped = _wait(submitter, superlink, job.out)
            status, details = _status(place.status_file)
        except BaseException:
            unfinished_runs.stop(job.out)  # what dies first must not pass for a client's answer
            raise
    error = reported_error(job.out)
    if error is not None:
        raise error
    if stopped is not None:
        with appending(log_file) as file:
            file.write(f"neulig-fl: {stopped}\n")
    elif status != "finished:completed":
        why = details or telling_line(log_file)
        raise EngineError(f"Flower's run ended as {status}: {why}; its log is {log_file}")


def _start_submitter(place: Workplace, job: Job, log: IO[bytes]) -> Process:
    config = place.write_config(job.config)
    arguments = [place.status_file, place.app, CONNECTION, "-c", config]
    arguments += ["--federation-config", federation_config(job, machine.cores())]
    command = [sys.executable, "-m", "neulig_fl.runtime.engines._flwr", *map(str, arguments)]
    return place.start(command, log, subprocess.PIPE)


def federation_config(job: Job, cpus: int) -> str:
    """Write Flower's simulation settings.

    Ray gets the machine's cores, but no more than the clients can use (each idle actor costs a
    process), and no fewer than one client asks for.

    Args:
        job: what to run.
        cpus: CPU cores of the machine.

    Example:
        >>> job = Job(Path("s.json"), Path("out"), clients=3, client_cpus=2)
        >>> federation_config(job, cpus=4).split()[-1]
        'init-args-num-cpus=4'
    """
    ray_cpus = max(job.client_cpus, min(cpus, job.clients * job.client_cpus))
    settings = {
        "num-supernodes": job.clients,
        "client-resources-num-cpus": job.client_cpus,
        "client-resources-num-gpus": float(job.client_gpus),
        "init-args-log-to-driver": "true",
        "init-args-num-cpus": ray_cpus,
    }
    return " ".join(f"{key}={setting}" for key, setting in settings.items())


def _start_superlink(place: Workplace, log: IO[bytes], log_file: Path) -> Process:
    """Start a SuperLink and wait until it listens, which it does once it is ready."""
    command = [place.command("flower-superlink"), "--insecure", "--simulation"]
    command += ["--disable-runtime-dependency-installation"]
    command += ["--host", HOST, "--port", str(PORT)]
    superlink = place.start(command, log, subprocess.DEVNULL)
    deadline = time.monotonic() + _START_TIMEOUT
    while superlink.poll() is None and time.monotonic() < deadline:
        if _listens(socket_file(place.root)):
            return superlink
        time.sleep(_POLL)
    raise EngineError(
        f"Flower's SuperLink did not start: {telling_line(log_file)}; its log is {log_file}"
    )


def _listens(file: Path) -> bool:
    """Whether a process accepts connections at a socket in the file system."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(file))
        except OSError:
            return False
    return True


def _say(process: Process, line: str) -> None:
    if process.stdin is None:
        raise EngineError("the process that submits the run has no standard input")
    try:
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()  # It stays open: its end tells the other side that we are gone.
    except BrokenPipeError:
        pass  # It ended already; how it ended is seen where it is waited for.


def _wait(submitter: Process, superlink: Process, out: Path) -> str | None:
    """Wait for the end of the run; why it was broken off, or None when Flower ended it."""
    seen: dict[str, float] = {}
    while submitter.poll() is None:
        if superlink.poll() is not None:
            raise EngineError(f"Flower's SuperLink ended in the middle; its log is {out / LOG}")
        for name, grace in _GRACE.items():
            if name in seen or (out / name).exists():
                first = seen.setdefault(name, time.monotonic())
                if time.monotonic() - first > grace:
                    return f"Flower had not ended the run {grace:g} s after {name}; broken off"
        time.sleep(_POLL)
    return None


def _status(status_file: Path) -> tuple[str, str | None]:
    """Read what `flwr list` said of the run that was submitted: its status and details, if any."""
    try:
        (run_,) = json.loads(status_file.read_text(encoding="utf-8"))["runs"]
        details = str(run_["status-details"])
        return str(run_["status"]), None if details in ("", "N/A") else details
    except (OSError, ValueError, KeyError, TypeError):
        return "not started", None


def telling_line(log_file: Path) -> str:
    """Pick the line of a log that says most about a failure: its last error, or its last line."""
    text = log_file.read_text(encoding="utf-8", errors="replace")[-200_000:]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"(Error|Exception)\b.*:|^ERROR", line)]
    return (errors or lines or ["it printed nothing"])[-1][:400]
