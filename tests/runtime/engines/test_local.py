"""The local engine: the real apps in this process."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from neulig_fl.core.errors import BadReply, EngineError
from neulig_fl.runtime.engines import LOG_LEVEL, Job, local
from neulig_fl.runtime.engines._local_grid import LocalGrid, server_identity

TINY_APP = Path(__file__).with_name("tiny_app")
FOREVER = 1e6
"""A timeout that no test could wait for."""


def _job(folder: Path, steps: list[dict[str, str]], fail: str | None = None) -> Job:
    plan = {
        "clients": ["c0", "c1"],
        "steps": [{"timeout": FOREVER, "ask": ask} for ask in steps],
        "fail": fail,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    return Job(folder / "plan.json", folder, clients=2)


def _outcome(job: Job) -> Any:
    return json.loads((job.out / "outcome.json").read_text())


@pytest.fixture
def identity() -> Iterator[None]:
    """Let the test make messages as a server."""
    with server_identity():
        yield


def test_the_apps_run_and_the_server_leaves_its_outcome(tmp_path: Path) -> None:
    """Without it nothing would run without Flower's processes."""
    job = _job(tmp_path, [{"c0": "answer", "c1": "refuse"}, {"c0": "raise", "c1": "answer"}])
    local.run(job, app=TINY_APP)
    first, second = ({a["client"]: a for a in step} for step in _outcome(job))
    assert (first["c0"]["status"], first["c0"]["payload"]) == ("ok", "cba")
    assert (first["c1"]["status"], first["c1"]["reason"]) == ("refused", "not that")
    assert (second["c0"]["status"], second["c0"]["reason"]) == ("failed", "unexpected TypeError")
    assert second["c1"]["body"] == {"client": "c1", "action": "release", "do": "answer"}
    assert "/secret/path" in (tmp_path / "flower.log").read_text()


def test_a_client_that_returns_nothing_is_missing_at_once(tmp_path: Path) -> None:
    """Without it a run in one process would wait out the timeout for what cannot come."""
    job = _job(tmp_path, [{"c0": "nothing", "c1": "answer"}])
    local.run(job, app=TINY_APP)
    (step,) = _outcome(job)
    assert {a["client"]: a["status"] for a in step} == {"c0": "missing", "c1": "ok"}


def test_another_client_app_can_take_the_place_of_the_apps_own(tmp_path: Path) -> None:
    """Without it no test could show what the real server makes of a client that misbehaves."""
    job = _job(tmp_path, [{"c0": "answer"}])
    local.run(job, client_app=ClientApp(), app=TINY_APP)
    ((answer,),) = _outcome(job)
    assert answer["status"] == "missing"
    assert "Flower's code 2" in answer["reason"]


def test_an_error_of_the_server_app_is_raised_as_it_is(tmp_path: Path) -> None:
    """Without it a bad reply would be reported as a failure of the engine."""
    with pytest.raises(BadReply, match="north sent NaN"):
        local.run(_job(tmp_path, [], fail="own error"), app=TINY_APP)


def test_any_other_exception_is_an_engine_error_with_its_log(tmp_path: Path) -> None:
    """Without it a mistake in the server app would end the command line with a traceback."""
    with pytest.raises(EngineError, match=r"ValueError: server broke; .*flower\.log"):
        local.run(_job(tmp_path, [], fail="server broke"), app=TINY_APP)
    assert "Traceback" in (tmp_path / "flower.log").read_text()


def test_everything_global_is_as_it_was_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a run in a notebook would change its modules, import path and threads."""
    other = ModuleType("clients")
    monkeypatch.setitem(sys.modules, "clients", other)
    monkeypatch.delitem(sys.modules, "server", raising=False)
    path, threads = list(sys.path), torch.get_num_threads()
    local.run(_job(tmp_path, [{"c0": "answer"}]), app=TINY_APP)
    assert sys.modules["clients"] is other
    assert "server" not in sys.modules
    assert sys.path == path
    assert torch.get_num_threads() == threads
    assert TaskIdentity._run_id is None


def test_a_foreign_clients_folder_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a `clients/` in the user's folder would be run in place of ours."""
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "app.py").write_text("raise SystemExit('foreign')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    job = _job(tmp_path, [{"c0": "answer"}])
    local.run(job, app=TINY_APP)
    assert _outcome(job)[0][0]["status"] == "ok"


def test_a_client_runs_with_its_own_number_of_threads(tmp_path: Path) -> None:
    """Without it results would differ between the engines in their last bits."""
    seen = []
    with local.threads(), local.threads(1):
        seen.append(torch.get_num_threads())
    assert seen == [1]


# ---------------------------------------------------------------- the grid


def _echo_grid(reply: RecordDict | None = None) -> tuple[LocalGrid, list[Message]]:
    app, received = ClientApp(), []

    @app.query("release")
    def release(message: Message, context: Context) -> Message:
        received.append(message)
        return Message(message.content if reply is None else reply, reply_to=message)

    context = Context(1, 2, {"partition-id": 0}, RecordDict(), {})
    return LocalGrid(app, [context]), received


def _content(data: bytes = b"abc") -> RecordDict:
    array = Array("uint8", (len(data),), "raw", data)
    return RecordDict({"a": ArrayRecord({"x": array}), "m": MetricRecord({"n": [1, 2]})})


def test_a_log_on_a_full_disk_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it a full disk would fill the terminal with tracebacks of the log."""
    with local.logged(Path("/dev/full")):
        logging.getLogger("neulig_fl").error("a line")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("level", "there"), [(None, 3), ("debug", 4), ("warning", 2), ("odd", 3)])
def test_a_log_holds_what_it_was_asked_for(
    level: str | None, there: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it --log-level would be read and ignored."""
    monkeypatch.delenv(LOG_LEVEL, raising=False)
    if level is not None:
        monkeypatch.setenv(LOG_LEVEL, level)
    with local.logged(tmp_path / "log"):
        for how in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger("neulig_fl"), how)(how)
    assert (tmp_path / "log").read_text().count("neulig_fl:") == there


@pytest.mark.usefixtures("identity")
def test_each_side_has_its_own_copy_of_a_message() -> None:
    """Without it a client could change what the server sent, which no network allows."""
    grid, received = _echo_grid()
    sent = Message(_content(), 2, "query.release")
    (reply,) = grid.send_and_receive([sent])
    received[0].content.metric_records["m"]["n"] = [9]
    received[0].content.array_records["a"]["x"].data = b"changed"
    for message in (sent, reply):
        assert list(message.content.metric_records["m"]["n"]) == [1, 2]
        assert message.content.array_records["a"]["x"].data == b"abc"
    assert reply.metadata.reply_to_message_id == received[0].metadata.message_id
    assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (2, 1)


@pytest.mark.usefixtures("identity")
def test_large_buffers_are_shared_not_copied() -> None:
    """Without it a run in one process would hold every expert several times."""
    data = b"expert" * 100
    grid, received = _echo_grid()
    (reply,) = grid.send_and_receive([Message(_content(data), 2, "query.release")])
    assert received[0].content.array_records["a"]["x"].data is data
    assert reply.content.array_records["a"]["x"].data is data


@pytest.mark.usefixtures("identity")
def test_what_a_network_could_not_carry_fails_here_too() -> None:
    """Without it a client would work in one process and fail under Flower."""
    content = _content()
    content.array_records["a"]["x"].data = bytearray(b"abc")  # type: ignore[assignment]
    grid, _ = _echo_grid(content)
    (reply,) = grid.send_and_receive([Message(_content(), 2, "query.release")])
    assert reply.error.code == 2
    assert "must be bytes, got bytearray" in str(reply.error.reason)


@pytest.mark.usefixtures("identity")
def test_no_client_starts_before_its_reply_is_pulled() -> None:
    """Without it all clients' parameters would lie in memory at once."""
    grid, received = _echo_grid()
    ids = grid.push_messages([Message(_content(), 2, "query.release") for _ in range(2)])
    assert not received
    assert len(grid.pull_messages(ids)) == 1
    assert len(received) == 1


@pytest.mark.usefixtures("identity")
def test_a_message_to_nobody_is_not_sent() -> None:
    """Without it the server would wait for a node that is not there."""
    grid, _ = _echo_grid()
    assert grid.push_messages([Message(_content(), 77, "query.release")]) == []
    assert grid.send_and_receive([Message(_content(), 2, "query.release")], timeout=0.0) == []
