"""`neulig-fl init`: scenarios to start from, wherever neulig-fl is installed."""

from __future__ import annotations

from pathlib import Path

from command_line import Line

from neulig_fl.cli import HELP

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


def _files(folder: Path) -> dict[str, bytes]:
    found = folder.rglob("*.yaml")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_every_scenario_is_copied_once(line: Line, tmp_path: Path) -> None:
    """Without it an installed neulig-fl would have nothing to begin with."""
    ended = line("init", "a/b c")
    assert ended.code == 0, ended.err
    assert _files(tmp_path / "a" / "b c") == _files(SCENARIOS)
    assert ended.out.splitlines() == [f"a/b c/{name}" for name in sorted(_files(SCENARIOS))]
    assert line("init", "a/b c").code == 0, "the same files are there"


def test_a_users_file_is_never_replaced(line: Line, tmp_path: Path) -> None:
    """Without it `init` could cost a user a scenario of their own."""
    mine = tmp_path / "mine"
    (mine / "privacy" / "labels-only.yaml").mkdir(parents=True)
    (mine / "notes.txt").write_text("")
    (mine / "micro").mkdir()
    (mine / "micro" / "four-rn.yaml").symlink_to("nowhere")
    (mine / "quickstart.yaml").write_text("name: mine")
    before = sorted(mine.rglob("*"))
    ended = line("init", "mine")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: mine: holds other files called ")
    for name in ("micro/four-rn.yaml", "privacy/labels-only.yaml", "quickstart.yaml"):
        assert name in ended.err
    assert sorted(mine.rglob("*")) == before
    assert (mine / "quickstart.yaml").read_text() == "name: mine"


def test_a_folder_that_cannot_be_made_is_one_line(line: Line, tmp_path: Path) -> None:
    """Without it a typo would be a traceback."""
    (tmp_path / "file").write_text("")
    ended = line("init", "file/here")
    assert ended.code in (1, 2)
    assert ended.err.startswith("error: file/here")
    assert "Traceback" not in ended.err


def test_the_helps_commands_work_in_their_order(line: Line) -> None:
    """Without it a newcomer's first command would be an error."""
    commands = [each.split("[")[0].split() for each in HELP.splitlines() if "  neulig-fl" in each]
    assert [words[1] for words in commands] == ["init", "check", "plan", "run"]
    for words in commands[:3]:
        ended = line(*words[1:])
        assert ended.code == 0, ended.err
