"""`neulig-fl open`: the page in the browser, or where it lies."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest
from command_line import Line

Opened = list[str]


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A display, and a browser that notes what it is asked to open."""
    for name in ("SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    found: Opened = []
    monkeypatch.setattr(webbrowser, "open", lambda uri: not found.append(uri))
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, with a name that a URI has to escape."""
    folder = tmp_path / "a run #1"
    folder.mkdir()
    (folder / "report.html").write_text("<p>")
    return folder


@pytest.mark.parametrize("page", ["report.html", "study.html"])
def test_the_page_is_opened(page: str, line: Line, run: Path, browser: Opened) -> None:
    """Without it the command would open nothing, or a page that is not there."""
    (run / "report.html").rename(run / page)
    ended = line("open", run)
    assert (ended.code, ended.err) == (0, "")
    assert browser == [(run / page).as_uri()]
    assert "a%20run%20%231" in browser[0]
    assert line("open", run.relative_to(Path.cwd())).code == 0
    assert browser[1] == browser[0]


def test_print_opens_nothing(line: Line, run: Path, browser: Opened) -> None:
    """Without it a script would start a browser."""
    ended = line("open", run, "--print")
    page = run / "report.html"
    assert (ended.code, ended.out, browser) == (0, f"{page}\n{page.as_uri()}\n", [])


def _over_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "1 2 3 4")


def _no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)


def _refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda uri: False)


def _none_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(uri: str) -> Any:
        raise webbrowser.Error(uri)

    monkeypatch.setattr(webbrowser, "open", fail)


@pytest.mark.parametrize("why", [_over_ssh, _no_display, _refused, _none_there])
def test_without_a_browser_the_place_is_printed(
    why: Any, line: Line, run: Path, browser: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a user on a server would see nothing, or a browser in the terminal."""
    why(monkeypatch)
    ended = line("open", run)
    page = run / "report.html"
    assert (ended.code, ended.out, browser) == (0, f"{page}\n{page.as_uri()}\n", [])


def test_a_page_that_is_missing_is_one_line_with_the_next_step(
    line: Line, run: Path, browser: Opened
) -> None:
    """Without it a run from before the page would open an error in the browser."""
    (run / "report.html").unlink()
    for prepare, words in (
        (lambda: None, "no page is there, nor a report; name the folder"),
        (lambda: (run / "report.json").write_text("{}"), f"`neulig-fl report {run} --format html`"),
    ):
        prepare()
        ended = line("open", run)
        assert (ended.code, ended.out) == (2, "")
        assert words in ended.err
        assert ended.err.count("\n") == 1
    assert "is no folder" in line("open", run / "none").err
    (run / "report.json").unlink()
    (run / "seed-7").mkdir()
    (run / "seed-7" / "report.html").write_text("<p>")
    assert f"name one of {run / 'seed-7'}" in line("open", run).err
    assert browser == []
