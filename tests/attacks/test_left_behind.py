"""What a killed process leaves, and what a run leaves for other users of the machine to read."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.core import cache_folder, files
from neulig_fl.core.run_folders import run_folder
from neulig_fl.ledger import key_store

WRITER = """
import sys, time
from pathlib import Path
from neulig_fl.core import files
with files.part(Path(sys.argv[1])) as part:
    part.write_bytes(b"half a record")
    print("ready", flush=True)
    time.sleep(600)
"""


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _parts(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob(".*") if p.name.endswith(".part"))


@pytest.fixture
def writer(tmp_path: Path) -> subprocess.Popen[bytes]:
    """Another process, in the middle of writing `store/releases/x.bin`."""
    (tmp_path / "store" / "releases").mkdir(parents=True, mode=0o700)
    path = tmp_path / "store" / "releases" / "x.bin"
    process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_killed_process_left_is_swept_and_nothing_of_a_living_ones(
    writer: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Without it half a released record lies there for ever, or a writer's work is taken away."""
    folder = tmp_path / "store" / "releases"
    (tmp_path / "store").chmod(0o700)
    store = ClientStore(tmp_path / "store")
    assert len(_parts(folder)) == 1
    store.sweep()
    assert len(_parts(folder)) == 1, "its owner lives"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(_parts(folder)) == 1
    store.sweep()
    assert list(folder.iterdir()) == []


def _left(folder: Path) -> Path:
    """What a killed process leaves: a part that nobody holds."""
    left = folder / f".{'ab' * 6}.part"
    left.mkdir(parents=True, mode=0o700)
    (left / "record.bin").write_bytes(b"half a record")
    return left


@pytest.mark.parametrize("where", ["", "releases", "keys"])
def test_a_client_sweeps_its_store_when_a_run_begins(
    where: str, data: Path, tmp_path: Path
) -> None:
    """Without it records and keys that nobody counts pile up in a store."""
    scenario = tiny.scenario(tmp_path, data)
    party = ClientHandler(scenario, scenario.seed, "ada", tmp_path / "ada")
    party.answer("hello", tiny.opening(party, "ab" * 16), b"")
    left = _left(tmp_path / "ada" / where)
    party.answer("hello", tiny.opening(party, "cd" * 16), b"")
    assert not left.exists()


def test_keys_caches_and_run_folders_are_swept(own_cache: Path, tmp_path: Path) -> None:
    """Without it a key that was being made, or gigabytes of experts, stay after a kill."""
    key_store.identity(tmp_path / "keys")
    left = [_left(tmp_path / "keys"), _left(own_cache / "experts"), _left(own_cache)]
    (tmp_path / "run").mkdir(mode=0o700)
    left.append(_left(tmp_path / "run"))
    key_store.identity(tmp_path / "keys")
    cache_folder.require_writable()
    with run_folder("x", tmp_path / "run"):
        assert not [path for path in left if path.exists()]


def test_nothing_else_is_swept(tmp_path: Path) -> None:
    """Without it a user's own file, or what a link leads to, would be gone."""
    other = tmp_path / "other"
    _left(other)
    (tmp_path / "store" / ".abcdef.part").mkdir(parents=True)
    (tmp_path / "store" / f".{'cd' * 6}.part").symlink_to(other)
    (tmp_path / "store" / f".{'ef' * 6}.part").write_text("a file")
    (tmp_path / "store" / "record.part").mkdir()
    before = sorted(tmp_path.rglob("*"))
    files.sweep(tmp_path / "store")
    files.sweep(tmp_path / "nowhere")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_part_that_is_swept_before_it_is_held_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a sweep at the wrong moment ends another process's run."""
    real, swept = files.fcntl.flock, []

    def flock(handle: int, how: int) -> None:
        if not swept:
            swept.append(_parts(tmp_path))
            files.shutil.rmtree(tmp_path / swept[0][0])
        real(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    files.write_atomically(tmp_path / "x.txt", "whole")
    assert (tmp_path / "x.txt").read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert len(swept[0]) == 1


def test_what_is_half_written_is_its_owners_alone(tmp_path: Path) -> None:
    """Without it a record could be read by others while it is written, with a careless umask."""
    seen = []

    def write(path: Path) -> None:
        path.write_bytes(b"record")
        seen.append(_mode(path.parent))

    before = os.umask(0)
    try:
        files.replace_atomically(tmp_path / "x", write, files.PRIVATE)
    finally:
        os.umask(before)
    assert seen == [0o700]
    assert _mode(tmp_path / "x") == 0o600


# ---------------------------------------------------------------- what a run leaves


def test_a_runs_folder_and_files_are_their_owners_alone(data: Path, tmp_path: Path) -> None:
    """Without it every user of the machine reads accuracies, receipts and what a log says."""
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o755)  # the user's own choice; the files are private all the same
    before = os.umask(0o022)
    try:
        own = {"name": "bob", "task": "second", "policy": {"never": ["offset-sum"]}}
        changes = {
            "clients": [{"name": "ada", "task": "first"}, own],
            "on_refusal": "continue",
            "stages": [{"name": "one", "share": [{"kind": "offset-sum"}]}],
        }
        path = tiny.write(tmp_path, data, **changes)
        tiny.runs.run(path, engine="local", out=out, show=lambda event: None)
    finally:
        os.umask(before)
    kept = [path for path in out.rglob("*") if path.is_file()]
    names = {path.name for path in kept}
    assert {"report.json", "report.md", "receipts.jsonl", "progress.jsonl", "flower.log"} <= names
    readable = [p.relative_to(out).as_posix() for p in kept if _mode(p) & 0o077]
    assert readable == []


@pytest.mark.parametrize("out", [None, "own"])
def test_a_runs_new_folder_is_its_owners_alone(
    out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it what Flower and Ray write there could be read by everybody."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)
    try:
        with run_folder("x", out) as folder:
            assert _mode(folder) == 0o700
    finally:
        os.umask(before)
