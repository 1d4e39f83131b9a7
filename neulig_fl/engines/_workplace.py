"""The private folder and environment in which one Flower run happens."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from neulig_fl.engines._apps import FOLDERS, copy_app
from neulig_fl.engines._processes import MARK, end_marked, interruptible
from neulig_fl.errors import EngineError

Process = subprocess.Popen[bytes]

CONNECTION = "own"
"""The name of the connection to our SuperLink in Flower's configuration."""

_SETTINGS = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    # Flower's actors have a runtime environment of their own and cannot use early workers.
    "RAY_prestart_worker_first_driver": "0",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Workplace:
    """One run's own folder, outside which nothing of Flower or Ray is written.

    Args:
        root: the folder; short, because Ray puts sockets there and their paths must be short.
        environment: for every process of the run.
        processes: those that were started from here.
    """

    root: Path
    environment: Mapping[str, str]
    processes: list[Process] = field(default_factory=list)

    @property
    def app(self) -> Path:
        """The copy of the app that Flower bundles."""
        return self.root / "app"

    @property
    def empty(self) -> Path:
        """A working folder that holds no `clients/` or `server/`, whatever the user's does."""
        return self.root / "empty"

    @property
    def status_file(self) -> Path:
        """Where Flower's word on how the run ended is kept."""
        return self.root / "status.json"

    def prepare(self, app: Path) -> None:
        """Lay out the folder: a copy of the app, and our stand-in for `flwr-simulation`."""
        self.empty.mkdir()
        copy_app(app, self.app)
        stand_in = scripts_folder(self.root) / "flwr-simulation"
        stand_in.parent.mkdir()
        call = f'exec {shlex.quote(sys.executable)} -m neulig_fl.engines._simulate "$@"'
        stand_in.write_text(f"#!/bin/sh\n{call}\n", encoding="utf-8")
        stand_in.chmod(0o700)

    def connect(self, port: int) -> None:
        """Tell Flower's commands where our SuperLink is."""
        lines = [f"[superlink.{CONNECTION}]", f'address = "127.0.0.1:{port}"', "insecure = true"]
        (self.root / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def write_config(self, config: Mapping[str, str]) -> Path:
        """Write a run config; a JSON string is a TOML string too."""
        file = self.root / "run.toml"
        lines = [f"{key} = {json.dumps(text, ensure_ascii=False)}" for key, text in config.items()]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def start(self, command: Sequence[str], output: IO[bytes] | int, stdin: int) -> Process:
        """Start a process in the empty folder and in a session of its own.

        A session of its own, because Ctrl-C must reach us alone: we end the processes in order.
        """
        process = subprocess.Popen(
            command,
            cwd=self.empty,
            env=dict(self.environment),
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        """End every process of the run, also those that others started, and remove the folder."""
        end_marked(str(self.root))
        for process in self.processes:
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1.0)
        shutil.rmtree(self.root, ignore_errors=True)

    def command(self, name: str) -> str:
        """Find one of Flower's executables.

        Raises:
            EngineError: it is not there; flwr is not installed as it should be.
        """
        found = shutil.which(name, path=self.environment["PATH"])
        if found is None:
            raise EngineError(f"{name} was not found beside {sys.executable}; install flwr again")
        return found


@contextmanager
def workplace(app: Path) -> Iterator[Workplace]:
    """Make a workplace with a copy of the app; afterwards end its processes and remove it."""
    with interruptible() as interrupts:
        root = Path(tempfile.mkdtemp(prefix="nfl-", dir=_short_temporary_folder()))
        place = Workplace(root, environment(os.environ, root))
        try:
            place.prepare(app)
            yield place
        finally:
            interrupts.hold()
            place.end()
        interrupts.pass_on()


def _short_temporary_folder() -> str:
    usual = tempfile.gettempdir()
    return "/tmp" if len(usual) > 24 and os.access("/tmp", os.W_OK) else usual


def scripts_folder(root: Path) -> Path:
    """Name the folder whose commands come before Flower's own."""
    return root / "bin"


def environment(base: Mapping[str, str], root: Path) -> dict[str, str]:
    """Derive the environment of a run's processes.

    Everything of the user's stays (where the caches are, for one) but what would lead the run out
    of its workplace: another Ray cluster, a proxy for 127.0.0.1, other packages named `clients`.

    Args:
        base: the user's environment.
        root: the workplace's folder.
    """
    variables = {k: v for k, v in base.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    own = [str(scripts_folder(root)), str(Path(sys.executable).parent)]
    scripts = [*own, sysconfig.get_path("scripts")]
    variables["PATH"] = os.pathsep.join([*scripts, base.get("PATH", os.defpath)])
    if paths := _import_paths(base.get("PYTHONPATH", "")):
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    for name in ("no_proxy", "NO_PROXY"):
        variables[name] = ",".join(filter(None, [base.get(name), "127.0.0.1", "localhost"]))
    return {**variables, **_SETTINGS, MARK: str(root), "RAY_TMPDIR": str(root)}


def _import_paths(given: str) -> list[str]:
    """PYTHONPATH without folders that have other `clients` or `server`, plus where we are from."""
    own = Path(__file__).resolve().parents[2]
    paths = [Path(path).absolute() for path in given.split(os.pathsep) if path]
    kept = [path for path in paths if path == own or not _has_app_names(path)]
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    if own not in installed and own not in kept:
        kept.append(own)
    return [str(path) for path in kept]


def _has_app_names(folder: Path) -> bool:
    return any((folder / name).exists() or (folder / f"{name}.py").exists() for name in FOLDERS)


def free_port() -> int:
    """Choose a TCP port of this machine that nobody listens on; somebody may take it at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
