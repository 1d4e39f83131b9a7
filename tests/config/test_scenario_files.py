"""Scenarios by other ways than a plain path: links, pipes, standard input, odd files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from neulig_fl.config.scenario import folder_of
from neulig_fl.config.yaml_source import MOST_BYTES
from neulig_fl.core.errors import ScenarioError
from neulig_fl.study import runs
from neulig_fl.study.checking import open_scenario

COMMAND = [sys.executable, "-m", "neulig_fl"]


@pytest.fixture
def written(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`exp/scenario.yaml`, whose images are named relative to `exp`; beside it `elsewhere`."""
    folder = tmp_path / "exp"
    for name in ("first", "second"):
        shutil.copytree(data / name, folder / name)
    tasks = {n: {"source": "imagefolder", "root": n} for n in ("first", "second")}
    model = {"name": "micro-vit", "pretrained": "bundled"}  # which other processes know as well
    path = tiny.write(folder, data, tasks=tasks, model=model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    return path


def _fifo(written: Path, place: Path) -> Path:
    os.mkfifo(place)
    threading.Thread(target=place.write_bytes, args=[written.read_bytes()], daemon=True).start()
    return place


def test_a_link_starts_where_it_stands(written: Path, tmp_path: Path) -> None:
    """Without it `check` would look in one folder and `run` in the other."""
    written.rename(tmp_path / "elsewhere" / "mine.yaml")
    link = tmp_path / "exp" / "mine.yaml"
    link.symlink_to("../elsewhere/mine.yaml")
    opened = open_scenario(link)
    assert opened.folder == tmp_path / "exp"
    assert opened.resolved.tasks["first"].root == str(tmp_path / "exp" / "first")
    assert runs.run(Path("exp/mine.yaml"), "local", "out").data["stages"]
    with pytest.raises(
        ScenarioError, match=r"looked for \S*/elsewhere/first; a relative path"
    ) as e:
        open_scenario("elsewhere/mine.yaml")
    assert f"starts from {tmp_path / 'elsewhere'}" in str(e.value)


def test_a_folder_by_a_link_is_the_folder_it_leads_to(written: Path, tmp_path: Path) -> None:
    """Without it `..` in a path would mean another place than it does to a shell."""
    (tmp_path / "elsewhere" / "deep").mkdir()
    (tmp_path / "elsewhere" / "deep" / "link").symlink_to(tmp_path / "exp")
    assert folder_of(Path("elsewhere/deep/link/scenario.yaml")) == tmp_path / "exp"


def test_a_pipe_is_read_once(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a scenario from a process substitution would be empty at its second reading."""
    monkeypatch.chdir(tmp_path / "exp")
    report = runs.run(_fifo(written, tmp_path / "pipe"), "local", tmp_path / "out")
    assert report.data["scenario"]["name"] == "tiny"
    assert (tmp_path / "out" / "given.yaml").read_bytes() == written.read_bytes()


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
@pytest.mark.parametrize("piped", [True, False])
def test_the_standard_input_starts_from_the_current_folder(
    name: str, piped: bool, written: Path, tmp_path: Path
) -> None:
    """Without it `sed ... | neulig-fl run -` would look for its images in /dev."""
    code = (
        "import sys; from neulig_fl.study.checking import open_scenario\n"
        "print(open_scenario(sys.argv[1]).resolved.tasks['first'].root)"
    )
    with written.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code, name],
            cwd=tmp_path / "exp",
            capture_output=True,
            text=True,
            **({"input": written.read_text()} if piped else {"stdin": file}),
        )
    assert done.stdout.strip() == str(tmp_path / "exp" / "first"), done.stderr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder, "is a folder; name a YAML file in it"),
        (lambda folder: Path("/dev/zero"), f"more than {MOST_BYTES} bytes"),
        (lambda folder: Path("/dev/null"), "the file is empty"),
        (lambda folder: _utf16(folder), "byte 0xff is not UTF-8; save the file as UTF-8"),
        (lambda folder: folder / ("x" * 300), "cannot be read: File name too long"),
        (lambda folder: folder / "a\0b", "cannot be read: embedded null"),
    ],
)
def test_what_is_no_scenario_is_said_in_one_line(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    """Without it a folder or a device would end in a traceback, or never."""
    with pytest.raises(ScenarioError, match=message) as error:
        open_scenario(make(tmp_path))
    assert len(str(error.value).splitlines()) == 1


def _utf16(folder: Path) -> Path:
    (folder / "utf16.yaml").write_text("name: x", encoding="utf-16")
    return folder / "utf16.yaml"


def test_an_editors_marks_change_nothing(written: Path) -> None:
    """Without it a file saved on Windows would be another scenario, or none."""
    plain = open_scenario(written).scenario
    text = written.read_text()
    written.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert open_scenario(written).scenario == plain


def test_paths_that_are_no_text_are_said(written: Path, data: Path, tmp_path: Path) -> None:
    """Without it a folder named in an old encoding would end in a traceback of pydantic's."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    (tmp_path / "exp").rename(odd)
    with pytest.raises(ScenarioError, match=r"a name that is not UTF-8; rename the folder, or"):
        open_scenario(odd / "scenario.yaml")
    path = tiny.write(odd, data)
    assert runs.run(path, "local", odd / "out").data["stages"], "absolute paths are text"


def test_a_current_folder_that_is_gone_is_said(written: Path, tmp_path: Path) -> None:
    """Without it a shell in a removed folder would get a traceback, or an end within a library."""
    script = 'cd elsewhere && rmdir ../elsewhere && exec "$@"'
    line = ["sh", "-c", script, "sh", *COMMAND, "check", str(written)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the current folder cannot be used (No such file")
