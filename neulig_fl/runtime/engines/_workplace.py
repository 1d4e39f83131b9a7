"""The private folder and environment in which one Flower run happens."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO

from neulig_fl.core.errors import EngineError
from neulig_fl.core.files import held_folder, open_privately, sweep
from neulig_fl.runtime.engines._apps import copy_app
from neulig_fl.runtime.engines._command import SIMULATION
from neulig_fl.runtime.engines._command import names as flower_commands
from neulig_fl.runtime.engines._environment import (
    environment,
    scripts_folder,
    temporary_folder,
    token_file,
)
from neulig_fl.runtime.engines._processes import end_marked, interruptible, marked
from neulig_fl.runtime.engines._superlink import ADDRESS
from neulig_fl.runtime.node_config import node_variable

Process = subprocess.Popen[bytes]

CONNECTION = "own"
"""The name of the connection to our SuperLink in Flower's configuration."""

_NAMES = re.compile("nfl-[0-9a-f]{8}")


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
        """Lay out the folder: a copy of the app, stand-ins for Flower's commands, Ray's token."""
        for folder in (
            self.empty,
            self.root / "tmp",
            self.root / "home",
            scripts_folder(self.root),
        ):
            folder.mkdir(mode=0o700)
        copy_app(app, self.app)
        for name in flower_commands():
            module = "_simulate" if name == SIMULATION else f"_command {name}"
            call = f'exec {shlex.quote(sys.executable)} -m neulig_fl.runtime.engines.{module} "$@"'
            stand_in = scripts_folder(self.root) / name
            stand_in.write_bytes(os.fsencode(f"#!/bin/sh\n{call}\n"))
            stand_in.chmod(0o700)
        lines = [f"[superlink.{CONNECTION}]", f'address = "{ADDRESS}"', "insecure = true"]
        (self.root / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        with open_privately(token_file(self.root), "x", encoding="ascii") as file:
            file.write(secrets.token_hex(32))

    def write_config(self, config: Mapping[str, str]) -> Path:
        """Write a run config of paths; a JSON string is a TOML string too."""
        file = self.root / "run.toml"
        paths = {key: self._sayable(key, path) for key, path in config.items()}
        lines = [f"{key} = {json.dumps(path, ensure_ascii=False)}" for key, path in paths.items()]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def _sayable(self, key: str, path: str) -> str:
        """The path, or a link to it where it is no text, as messages hold text only."""
        try:
            path.encode()
        except UnicodeEncodeError:
            link = self.root / f"{key}-link"
            link.symlink_to(path)
            return str(link)
        return path

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
        """Find the stand-in for one of Flower's commands.

        Raises:
            EngineError: it is not there; flwr is not installed as it should be.
        """
        found = scripts_folder(self.root) / name
        if not found.is_file():
            raise EngineError(f"flwr, as {sys.executable} has it, lacks {name}; install flwr again")
        return str(found)


@contextmanager
def workplace(app: Path, node: Mapping[str, str] = MappingProxyType({})) -> Iterator[Workplace]:
    """Make a workplace with a copy of the app; afterwards end its processes and remove it.

    Before that, those are removed that runs left behind which were killed with all that belongs to
    them: nobody holds them, and no process carries their mark.

    Args:
        app: the apps' folder.
        node: what every client's node knows by itself; in the environment, because Flower makes
            the node configs of a simulation and a run config is the word of whoever submits it.
    """
    with interruptible() as interrupts:
        parent = Path(temporary_folder())
        sweep(parent, _NAMES, in_use=lambda root: bool(marked(str(root))))
        root, held = held_folder(parent, lambda: f"nfl-{secrets.token_hex(4)}")
        own = {node_variable(key): value for key, value in node.items()}
        place = Workplace(root, {**environment(os.environ, root), **own})
        try:
            place.prepare(app)
            yield place
        finally:
            interrupts.hold()
            place.end()
            os.close(held)
        interrupts.pass_on()
