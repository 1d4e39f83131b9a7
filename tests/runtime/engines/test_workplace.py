"""The private folder and environment of a Flower run."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from neulig_fl.core.errors import EngineError
from neulig_fl.runtime.engines import _processes, _workplace
from neulig_fl.runtime.engines._apps import app_dir, app_settings
from neulig_fl.runtime.engines._environment import token_file
from neulig_fl.runtime.engines._processes import end_marked, interruptible, marked, open_to_others
from neulig_fl.runtime.engines._workplace import Workplace, workplace

SLEEP = [sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)",
]


def _start(place: Workplace, command: list[str]) -> subprocess.Popen[bytes]:
    """Start a process and wait until it runs."""
    process = place.start(command, subprocess.PIPE, subprocess.DEVNULL)
    with process.stdout as output:
        output.readline()
    return process


def test_the_apps_are_where_they_are_looked_for() -> None:
    """Without it an installed neulig-fl could not start a run."""
    components = app_settings(app_dir())["components"]
    assert components == {"serverapp": "server.app:app", "clientapp": "clients.app:app"}


def test_the_tests_app_takes_what_the_apps_take() -> None:
    """Without it Flower refuses the tests' app as soon as a run's config has a new key."""
    tiny = app_settings(Path(__file__).with_name("tiny_app"))
    assert tiny["config"] == app_settings(app_dir())["config"]


def test_only_the_app_is_copied(tmp_path: Path) -> None:
    """Without it everything else in a repository would travel with the app bundle."""
    with workplace(app_dir()) as place:
        names = sorted(path.name for path in place.app.iterdir())
        assert names == ["clients", "pyproject.toml", "server"]
        assert not list(place.empty.iterdir())
        assert Path(place.command("flwr-simulation")).parent == place.root / "bin"


@pytest.mark.parametrize("failure", [None, EngineError("x"), KeyboardInterrupt()])
def test_nothing_is_left_however_the_run_ends(failure: BaseException | None) -> None:
    """Without it a failed run would leave a SuperLink and Ray behind."""

    def run() -> None:
        nonlocal root, processes
        with workplace(app_dir()) as place:
            root = place.root
            processes = [_start(place, SLEEP), _start(place, SLEEP)]
            assert {p.pid for p in marked(str(root))} == {p.pid for p in processes}
            if failure is not None:
                raise failure

    root, processes = Path(), []
    if failure is None:
        run()
    else:
        with pytest.raises(type(failure)):
            run()
    assert not root.exists()
    assert not marked(str(root))
    assert not any(psutil.pid_exists(process.pid) for process in processes)


def test_a_process_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it one process that ignores SIGTERM would stay."""
    monkeypatch.setattr(_processes, "_PATIENCE", 0.1)
    with workplace(app_dir()) as place:
        process = _start(place, STUBBORN)
    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize(
    ("host", "family", "found"),
    [
        ("127.0.0.1", socket.AF_INET, False),
        ("::1", socket.AF_INET6, False),
        ("::ffff:127.0.0.1", socket.AF_INET6, False),
        ("0.0.0.0", socket.AF_INET, True),
        ("::", socket.AF_INET6, True),
    ],
)
def test_what_listens_for_other_machines_is_found(
    host: str, family: socket.AddressFamily, found: bool
) -> None:
    """Without it a run goes on with a Ray that the whole network can use."""
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listener.listen()
        address = f"{host}:{listener.getsockname()[1]}"
        assert (address in open_to_others([psutil.Process()])) is found


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_ends_the_block_and_a_second_one_does_not_break_it_off(
    number: signal.Signals, expected: type[BaseException]
) -> None:
    """Without it SIGTERM would leave everything running, and so would an impatient Ctrl-C."""
    before = signal.getsignal(number)
    steps = []

    def block() -> None:
        with interruptible():
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)
                steps.append("ended everything")

    with pytest.raises(expected):
        block()
    assert steps == ["ended everything"]
    assert signal.getsignal(number) is before


def test_a_signal_during_the_ending_is_not_lost() -> None:
    """Without it Ctrl-C at the end of one seed's run would not keep the next from starting."""

    def block() -> None:
        with interruptible() as interrupts:
            interrupts.hold()
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.pass_on()

    with pytest.raises(KeyboardInterrupt):
        block()


def test_a_run_config_survives_odd_paths(tmp_path: Path) -> None:
    """Without it a scenario in a folder with a quote or a space in its name would not run."""
    config = {"scenario": '/a "b"/c=d \\ \u00fc\U0001f600.json', "out": "/x y"}
    file = Workplace(tmp_path, {}).write_config(config)
    assert tomllib.loads(file.read_text(encoding="utf-8")) == config


def test_a_path_that_is_no_text_is_reached_by_a_link(tmp_path: Path) -> None:
    """Without it a run in a folder with an old encoding's name could not be told to the apps."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    odd.mkdir()
    file = Workplace(tmp_path, {}).write_config({"out": str(odd), "scenario": "/x y"})
    said = tomllib.loads(file.read_text(encoding="utf-8"))
    assert Path(said["out"]).samefile(odd)
    assert said["scenario"] == "/x y"


def test_a_missing_command_is_one_clear_error(tmp_path: Path) -> None:
    """Without it a broken installation would end in a FileNotFoundError."""
    with pytest.raises(EngineError, match="lacks flower-superlink; install flwr again"):
        Workplace(tmp_path, {}).command("flower-superlink")


LEFT = """
import sys, time
from pathlib import Path
from neulig_fl.runtime.engines import _workplace
from neulig_fl.runtime.engines._apps import app_dir
_workplace.temporary_folder = lambda: sys.argv[1]
with _workplace.workplace(app_dir()) as place:
    if len(sys.argv) > 2:
        place.start([sys.executable, "-c", "import time; time.sleep(600)"], 2, 2)
    print(place.root, flush=True)
    time.sleep(600)
"""


@contextmanager
def _another_run(parent: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a workplace, and the workplace; a word more: with a process of its own."""
    command = [sys.executable, "-c", LEFT, str(parent), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        root = Path(run.stdout.readline().strip())
        try:
            yield run, root
        finally:
            run.kill()
            end_marked(str(root))


def _next_run() -> None:
    with workplace(app_dir()):
        pass


def test_a_workplace_that_a_killed_run_left_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the app, the config and Ray's token of a killed run lie there until a reboot."""
    monkeypatch.setattr(_workplace, "temporary_folder", lambda: str(tmp_path))
    with _another_run(tmp_path) as (run, root):
        _next_run()
        assert root.exists(), "its run goes on"
        run.kill()
        run.wait()
        assert root.exists()
        _next_run()
    assert list(tmp_path.iterdir()) == []


def test_a_workplace_with_a_process_in_it_is_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a run's folder goes while its processes are still being ended."""
    monkeypatch.setattr(_workplace, "temporary_folder", lambda: str(tmp_path))
    with _another_run(tmp_path, "with a process") as (run, root):
        run.kill()
        run.wait()
        assert marked(str(root))
        _next_run()
        assert root.exists()
    assert not marked(str(root))
    _next_run()
    assert not root.exists()


def test_only_workplaces_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a name like ours, or a link to elsewhere, costs somebody else a folder."""
    monkeypatch.setattr(_workplace, "temporary_folder", lambda: str(tmp_path))
    kept = ["nfl-notes", "nfl-0123abcde", "elsewhere"]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / "nfl-0123abcd").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "nfl-89abcdef").write_text("")
    _next_run()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([*kept, "nfl-0123abcd", "nfl-89abcdef"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_another_users_workplace_is_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it root's runs remove what other users' runs are about to use."""
    monkeypatch.setattr(_workplace, "temporary_folder", lambda: str(tmp_path))
    root = tmp_path / "nfl-0123abcd"
    root.mkdir(mode=0o700)
    os.chown(root, 65534, 65534)
    _next_run()
    assert root.exists()
    os.chown(root, os.getuid(), os.getgid())
    _next_run()
    assert not root.exists()


def test_rays_token_is_new_and_its_owners_alone() -> None:
    """Without it Ray's tasks can be submitted with a token of another run, or by who reads along."""
    tokens = []
    for _ in range(2):
        with workplace(app_dir()) as place:
            assert stat.S_IMODE(place.root.stat().st_mode) == 0o700
            file = token_file(place.root)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert place.environment["RAY_AUTH_TOKEN_PATH"] == str(file)
            tokens.append(file.read_text())
            assert tokens[-1] not in place.environment.values()
    assert tokens[0] != tokens[1]
    assert all(len(bytes.fromhex(token)) == 32 for token in tokens)


def test_flowers_commands_need_no_scripts(tmp_path: Path) -> None:
    """Without it a moved environment, or a `bin` that is not on PATH, could not run anything."""
    with workplace(app_dir()) as place:
        names = {path.name for path in (place.root / "bin").iterdir()}
        assert {"flwr", "flower-superlink", "flower-superexec", "flwr-simulation"} <= names
        variables = {**place.environment, "PATH": f"{place.root / 'bin'}{os.pathsep}/usr/bin:/bin"}
        done = subprocess.run(
            ["flower-superlink", "--version"], env=variables, capture_output=True, text=True
        )
    assert done.stdout.startswith("Flower version"), done.stderr


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    """Without it a run under nohup, or in a script's background, would end with the terminal."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible():
            assert signal.getsignal(number) is signal.SIG_IGN
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_command_waits_for_children_and_can_be_ended() -> None:
    """Without it Flower would inherit a deaf ear from a daemon that started the run."""
    code = (
        "import signal; from neulig_fl.runtime.engines._command import fresh_signals; fresh_signals()\n"
        "left = [n.name for n in (signal.SIGCHLD, signal.SIGTERM) if signal.getsignal(n)]\n"
        "print(left, signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    script = f"trap '' CHLD TERM; exec {shlex.quote(sys.executable)} -c \"$1\""
    done = subprocess.run(["sh", "-c", script, "sh", code], capture_output=True, text=True)
    assert done.stdout == "[] set()\n", done.stderr
