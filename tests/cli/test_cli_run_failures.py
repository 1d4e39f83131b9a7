"""`neulig-fl run` when it cannot begin, fails, or is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from command_line import Line

from neulig_fl.cli.run import with_reason
from neulig_fl.core.errors import BadReply, ClientRefused, InputError, NeuligError
from neulig_fl.runtime import engines
from neulig_fl.runtime.flower_messages import at_client
from neulig_fl.study import runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "experts.epoch=2"], "error: --set experts.epoch=2: experts.epoch: unknown key"),
        (["--set", "seed"], "error: --set seed: write it as key=value"),
        (["--engine", "simulaton"], "error: no engine is called 'simulaton'; allowed: local, sim"),
        (["--out", "scenario.yaml"], "error: --out scenario.yaml: cannot be made"),
    ],
)
def test_bad_input_of_a_run(
    line: Line, data: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Without it a typo on the command line would be looked for in the file."""
    tiny.write(tmp_path, data)
    ended = line("run", "scenario.yaml", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(message)


def test_a_failed_run_says_who_and_where_the_log_is(
    line: Line, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a failed server app could pass for a run that is done."""

    def raising(asked: dict[str, Any], reply: tiny.Reply) -> tiny.Reply:
        raise ZeroDivisionError(f"no {asked['kind']} of {len(reply)}")

    tiny.spoiled(monkeypatch, "bob", "features", raising)
    out = tmp_path / "out"
    ended = line("run", tiny.write(tmp_path, data), "--engine", "local", "--out", out)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[-3].startswith(
        "error: client 'bob', stage 'outputs', features on pool queries: unexpected "
        "ZeroDivisionError (no features of 2); "
    )
    assert f"the log is {out / engines.LOG}\n" in ended.err
    assert at_client("bob") in (out / engines.LOG).read_text()
    assert "ZeroDivisionError: no features" in (out / engines.LOG).read_text()
    assert "kept in the cache" in ended.err
    assert not list(out.glob("**/report.*"))


@pytest.mark.parametrize(
    ("message", "log", "expected"),
    [
        (
            "it: unexpected OSError; go",
            "OSError: full\nOSError: no space\n",
            "OSError (no space); go",
        ),
        (
            "it: DataError",
            "(pid=3) neulig_fl.core.errors.DataError: no image x\n",
            "Error (no image x)",
        ),
        ("it: unexpected OSError; go", "MyOSError: other\n", "it: unexpected OSError; go"),
        ("it: unexpected OSError: known", "OSError: other\n", "it: unexpected OSError: known"),
        ("it: DataError", None, "it: DataError"),
    ],
)
def test_a_class_name_alone_is_no_reason(
    tmp_path: Path, message: str, log: str | None, expected: str
) -> None:
    """Without it the reason would stand in a log of hundreds of lines, and a name in the error."""
    if log is not None:
        (tmp_path / "flower.log").write_text(log)
    said = with_reason(message, tmp_path / "flower.log")
    assert said.startswith("it: ")
    assert said.endswith(expected)


@pytest.mark.parametrize(
    ("client", "told"), [("a", " (of a)"), ("b", " (of b)"), ("c", ""), ("d", "")]
)
def test_the_reason_is_that_of_the_client(tmp_path: Path, client: str, told: str) -> None:
    """Without it the error names one client and tells another's reason."""
    logged = [
        "(App pid=3) OSError: of a",
        "(App pid=3) with a second line",
        f"(App pid=3) {at_client('a')}",
        "(App pid=4) OSError: of b",
        "(App pid=4) a note of its own",
        f"(App pid=4) {at_client('b')}",
        "(App pid=5) OSError",
        f"(App pid=5) {at_client('d')}",
    ]
    (tmp_path / "flower.log").write_text("\n".join(logged) + "\n")
    message = f"client {client!r}, preparing its expert of group A: unexpected OSError; go"
    expected = message.replace("; go", f"{told}; go")
    assert with_reason(message, tmp_path / "flower.log") == expected


def test_an_unexpected_error_is_one_line_and_its_traceback_is_kept(
    line: Line, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a bug of ours would be a page of text, or would leave no trace at all."""

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(engines, "run", broken)
    scenario = tiny.write(tmp_path, data)
    ended = line("run", scenario, "--engine", "local", "--out", tmp_path / "out")
    assert ended.code == 1
    assert "error: unexpected ZeroDivisionError: of all things\n" in ended.err
    assert "Traceback" not in ended.err
    log = tmp_path / "out" / engines.LOG
    assert str(log) in ended.err
    assert "ZeroDivisionError: of all things" in log.read_text()
    assert "Traceback" in line("run", scenario, "--engine", "local", "--debug").err
    assert "Traceback" in line("--debug", "run", scenario, "--engine", "local").err


@pytest.mark.parametrize(
    ("stop", "code", "word"),
    [(KeyboardInterrupt(), 130, "interrupted"), (SystemExit(143), 143, "ended by signal 15")],
)
def test_an_interrupted_run_says_what_is_kept(
    line: Line,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
    code: int,
    word: str,
) -> None:
    """Without it a user would fear for hours of training."""

    def stopped(*_: Any, **__: Any) -> None:
        raise stop

    monkeypatch.setattr(engines, "run", stopped)
    out = tmp_path / "out"
    ended = line("run", tiny.write(tmp_path, data), "--engine", "local", "--out", out)
    assert ended.code == code
    assert ended.err.splitlines()[-2:] == [
        word,
        f"`neulig-fl run --resume {tmp_path / 'out'}` goes on from there",
    ]


def test_the_receipts_of_a_run_that_failed_are_kept(
    line: Line, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the next run would take away the proof of what clients gave in this one."""

    def raising(asked: dict[str, Any], reply: tiny.Reply) -> tiny.Reply:
        raise ZeroDivisionError(f"no {asked['kind']} of {len(reply)}")

    out = tmp_path / "out"
    said = ["run", tiny.write(tmp_path, data), "--engine", "local", "--out", out]
    with monkeypatch.context() as broken:
        tiny.spoiled(broken, "bob", "parameters", raising)
        assert line(*said).code == 1
    receipts = (out / "receipts.jsonl").read_bytes()
    assert receipts
    assert line(*said).code == 0
    assert (out / "ended-1" / "receipts.jsonl").read_bytes() == receipts
    assert (out / "receipts.jsonl").read_bytes() != receipts
    assert not (out / "ended-2").exists()
    ended = line("verify", out / "ended-1", "--stores", out / "clients")
    assert ended.code == 0, ended.err
    assert line("verify", out).code == 0


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        (InputError("a wrong value"), []),
        (ClientRefused("a rule"), ["trained experts are kept in the cache"]),
    ],
)
def test_what_would_fail_again_is_not_advised(
    line: Line,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: NeuligError,
    advice: list[str],
) -> None:
    """Without it a user would repeat a command that a policy refuses."""

    def stopped(*_: Any, **__: Any) -> None:
        raise problem

    monkeypatch.setattr(engines, "run", stopped)
    ended = line("run", tiny.write(tmp_path, data), "--engine", "local")
    assert [each for each in ended.err.splitlines() if "cache" in each] == advice


def test_after_some_seeds_another_folder_is_advised(
    line: Line, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the same command would be advised and then be refused."""

    def second_fails(*arguments: Any) -> None:
        folder = arguments[2]
        (folder / "seed-3").mkdir()
        (folder / "seed-3" / "report.json").write_text("{}")
        raise BadReply("client 'bob' sent NaN")

    monkeypatch.setattr(runs, "run_opened", second_fails)
    ended = line("run", tiny.write(tmp_path, data), "--engine", "local", "--out", "out")
    assert ended.code == 1
    assert "with another --out: out holds reports" in ended.err


@pytest.mark.slow
def test_ctrl_c_ends_a_real_process(tmp_path: Path) -> None:
    """Without it Ctrl-C might leave a half-written report, or a traceback."""
    scenario = {
        "name": "long",
        "model": {"name": "micro-vit", "pretrained": "none"},
        "clients": [{"name": "a", "task": "digits"}, {"name": "b", "task": "digits"}],
        "experts": {"epochs": 500},
        "stages": [{"name": "s", "share": [{"kind": "features"}]}],
    }
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(scenario))
    command = [sys.executable, "-m", "neulig_fl", "run", "long.yaml", "--engine", "local"]
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            [*command, "--out", "out"],
            cwd=tmp_path,
            stderr=err,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    until = time.monotonic() + 600
    while "nodes are there" not in (tmp_path / "err").read_text():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    # Where Ctrl-C came while Python ran an `exec`, it ends by the signal; a shell calls both 130.
    assert process.wait(timeout=600) in (130, -signal.SIGINT)
    said = (tmp_path / "err").read_text()
    assert "interrupted\n`neulig-fl run --resume out` goes on" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").glob("report.*"))
