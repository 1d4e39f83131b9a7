"""Progress events: from the server's process, over a file, to whoever shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from neulig_fl.core.errors import RunError
from neulig_fl.core.progress import Event, Follower, Progress, to_file


def test_a_bar_shows_its_beginning_and_its_end_but_not_every_step() -> None:
    """Without it a fast loop would spend its time on showing progress."""
    events: list[Event] = []
    bar = Progress(events.append).task("epochs", 5000)
    for _ in range(5000):
        bar.advance()
    assert events[0] == {"task": "epochs", "done": 0, "total": 5000}
    assert events[-1] == {"task": "epochs", "done": 5000, "total": 5000}
    assert len(events) < 1000


def test_a_bar_of_nothing_is_complete_at_once() -> None:
    """Without it an empty task would look stuck."""
    events: list[Event] = []
    Progress(events.append).task("none", 0)
    assert events == [{"task": "none", "done": 0, "total": 0}]


def test_a_full_disk_is_told_with_the_files_name() -> None:
    """Without it the user would look for what is wrong with the standard output."""
    with pytest.raises(RunError, match=r"^/dev/full: cannot be written \(No space left"):
        to_file(Path("/dev/full")).note("a line")


def test_a_follower_hands_on_every_event_in_order(tmp_path: Path) -> None:
    """Without it the user would miss what was said just before the end."""
    events: list[Event] = []
    file = tmp_path / "progress.jsonl"
    with Follower([file], events.append):
        progress = to_file(file)
        for i in range(20):
            progress.note(f"line {i} \u2028 ü")
    assert [e["note"] for e in events] == [f"line {i} \u2028 ü" for i in range(20)]


def test_a_follower_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    """Without it a half-written event would end the display with a JSON error."""
    events: list[Event] = []
    file = tmp_path / "progress.jsonl"
    file.write_bytes(b'{"note": "whole"}\n{"note": "ha')
    with Follower([file], events.append):
        pass
    assert events == [{"note": "whole"}]


def test_a_follower_of_a_file_that_never_comes_just_ends(tmp_path: Path) -> None:
    """Without it a run that fails at once would fail twice."""
    events: list[Event] = []
    with Follower([tmp_path / "never.jsonl"], events.append):
        pass
    assert events == []


def test_files_that_begin_anew_are_followed(tmp_path: Path) -> None:
    """Without it a client's second training is not seen, or its first one twice."""
    events: list[Event] = []
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    follower = Follower(files, events.append)
    to_file(files[0]).task("first, with a long name", 5, brief=True)
    to_file(files[1]).note("other")
    follower._pass_on()
    files[0].unlink()
    to_file(files[0]).note("anew")
    follower._pass_on()
    follower._pass_on()
    assert events == [
        {"task": "first, with a long name", "done": 0, "total": 5, "brief": True},
        {"note": "other"},
        {"note": "anew"},
    ]
