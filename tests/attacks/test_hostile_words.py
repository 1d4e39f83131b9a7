"""Attacks with what stands in files and messages: numbers, names, nesting, characters."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from PIL import Image
from rich.console import Console

import neulig_fl
from neulig_fl import cli
from neulig_fl.cli import streams
from neulig_fl.core import strict_json
from neulig_fl.core.consoles import PlainConsole
from neulig_fl.core.errors import BadReply, CheckpointError, ClientRefused, InputError
from neulig_fl.ledger import receipts
from neulig_fl.report import Report
from neulig_fl.runtime.engines._local_grid import server_identity
from neulig_fl.runtime.flower_messages import answer_message, decode
from neulig_fl.verification import whole_run
from neulig_fl.verification.whole_run import verify

CODE = Path(neulig_fl.__file__).parent
DEEP = "[" * 100_000
STAGES = [{"name": "one", "share": [{"kind": "offset-sum"}]}]
HOSTILE = {
    "a number without end": "1e999",
    "a negative one": "-1e999",
    "infinity": "Infinity",
    "no number": "NaN",
    "5,000 digits": "9" * 5_000,
    "deep nesting": DEEP,
    "deep, and closed": "[" * 900 + "]" * 900,
    "half a character": r'"\ud800"',
    "nothing": ",",
    "no UTF-8": b"\xff\xfe",
}


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("around", [b"%s", b'{"a": %s}', b'[1, {"b": [%s]}]'])
def test_json_that_is_out_of_bounds_is_no_json(what: str, around: bytes) -> None:
    """Without it infinity, or half a character, fails later, where nobody knows the file."""
    with pytest.raises(ValueError, match=r"."):
        strict_json.parsed(around % _bytes(HOSTILE[what]))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_request_that_is_out_of_bounds_gets_a_reply(what: str) -> None:
    """Without it one message ends a client's process, or has an answer that cannot be sent."""
    if isinstance(HOSTILE[what], bytes):
        pytest.skip("a message holds text")
    records = RecordDict({"about": ConfigRecord({"json": f'{{"kind": {HOSTILE[what]}}}'})})
    with pytest.raises(BadReply, match="does not hold the records"):
        decode(records)


def _answered(respond: Callable[..., Any]) -> Error:
    """What a client replies, as it goes over the wire."""
    content = RecordDict({"about": ConfigRecord({"json": "{}"})})
    context = Context(1, 2, {}, RecordDict(), {})
    with server_identity():
        error = answer_message(Message(content, 2, "query.release"), context, respond).error
    error.reason.encode()  # as protobuf does
    return error


@pytest.mark.parametrize(
    "words", ["\ud800", "a\x1b[2Jb", "\x9b2J", "\u202egnp.exe", "two\nlines", "x" * 10_000]
)
def test_every_refusal_can_be_sent_and_printed(words: str) -> None:
    """Without it half a character in a request leaves the server without any reply."""

    def respond(*_: object) -> Any:
        raise ClientRefused(words, public_reason=f"no stage {words}")

    reason = _answered(respond).reason
    assert reason.startswith("no stage ")
    assert reason.isprintable()
    assert len(reason) < 500


# ---------------------------------------------------------------- verify and report


@pytest.fixture(scope="module")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest run's folder; not to be changed."""
    folder = tmp_path_factory.mktemp("honest")
    tiny.run(folder, data, stages=STAGES)
    return folder / "out"


@pytest.fixture
def run(honest: Path, tmp_path: Path) -> Path:
    """A copy of the honest run."""
    return Path(shutil.copytree(honest, tmp_path / "run"))


def _ended(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and words of a command; a traceback is none of them."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
    assert "unexpected" not in said.err
    assert "\x1b" not in said.out + said.err
    assert isinstance(end.value.code, int)
    return end.value.code, said.err


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize(
    "name", ["report.json", receipts.FILE, receipts.TRUST_FILE, "clients/ada/ledger.jsonl"]
)
def test_verify_names_the_file_that_is_out_of_bounds(
    what: str, name: str, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it an auditor gets a traceback, and a forger a way to stop the audit."""
    (run / name).write_bytes(b'{"ledger": %s}\n' % _bytes(HOSTILE[what]))
    code, said = _ended(capfd, "verify", str(run))
    assert code == 1
    assert f"{Path(name).name}" in said


@pytest.mark.parametrize(
    "place", [("privacy",), ("ledger", "head"), ("stages", 0, "releases", 0, "epsilon")]
)
@pytest.mark.parametrize(
    "what", ["a number without end", "5,000 digits", "half a character", "deep, and closed"]
)
def test_verify_and_report_take_one_value_that_is_out_of_bounds(
    what: str, place: tuple[str | int, ...], run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it a single number in a report is enough to stop those who read it."""
    report = json.loads((run / "report.json").read_text())
    here: Any = report
    for step in place[:-1]:
        here = here[step]
    here[place[-1]] = "HOSTILE"
    text = json.dumps(report).encode().replace(b'"HOSTILE"', _bytes(HOSTILE[what]))
    (run / "report.json").write_bytes(text)
    assert _ended(capfd, "verify", str(run))[0] == 1
    code, said = _ended(capfd, "report", str(run))
    assert code == 2
    assert f"{run}/report.json: not readable as JSON" in said
    with pytest.raises(InputError, match=r"report\.json: not readable as JSON"):
        Report.load(run)


@pytest.mark.parametrize("what", ["a number without end", "deep nesting", "5,000 digits"])
def test_a_summary_that_is_out_of_bounds_is_named(
    what: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it `report` on somebody's run of several seeds ends in a traceback."""
    (tmp_path / "summary.json").write_bytes(b'{"seeds": %s}' % _bytes(HOSTILE[what]))
    code, said = _ended(capfd, "report", str(tmp_path))
    assert code == 2
    assert "summary.json: not a summary" in said


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "/", "a/b", "\0", "a" * 300, "\x1b[2J", "ada\n", "Ada", "../../ada", "\u202ea"],
)
def test_verify_believes_no_name_that_no_client_can_have(
    name: str, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it a client named `..` makes the audit read files outside the run."""
    file = run / receipts.TRUST_FILE
    trust = json.loads(file.read_text())
    trust["clients"][name] = trust["clients"].pop("ada")
    file.write_text(whole_run.chain.canonical(trust) + "\n")
    (found,) = verify(run)
    assert any("is no client's name; allowed: lower-case" in f.what for f in found.failures)
    assert _ended(capfd, "verify", str(run))[0] == 1


@pytest.mark.parametrize("command", ["verify", "report", "inspect", "check", "plan", "run"])
@pytest.mark.parametrize("path", ["a" * 300, "\x1b[2J", "x/" * 3_000])
def test_a_path_that_cannot_be_is_an_error_of_one_line(
    command: str, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it a name of 300 characters ends a command in a traceback."""
    code, said = _ended(capfd, command, path)
    assert code in (1, 2)
    assert said.startswith("error: ")


# ---------------------------------------------------------------- inspect

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "open_clip_config.json", INDEX]
)
def test_inspect_names_the_config_that_is_out_of_bounds(
    what: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it a downloaded folder stops the command that was to say whether it is sound."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "downloaded"
    folder.mkdir()
    if name != INDEX:
        save_file({"visual.proj": torch.zeros(2)}, folder / "model.safetensors")
    (folder / name).write_bytes(b'{"weight_map": %s}' % _bytes(HOSTILE[what]))
    code, said = _ended(capfd, "inspect", str(folder))
    assert code == 2
    assert "error: checkpoint" in said
    assert name in said or "no model that OpenCLIP knows" in said


@pytest.mark.parametrize(
    "part", ["..", "a" * 300, "\x1b[2J", "a/b", "nul\0", 7, None, ["x"], {"x": 1}, "é" * 200]
)
def test_an_index_names_files_and_nothing_else(
    part: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it an index of another's makes the reader look elsewhere, or end in a traceback."""
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"w": part}}))
    code, said = _ended(capfd, "inspect", str(tmp_path / INDEX))
    assert code == 2
    assert "is an index that names no files" in said or "is not there" in said


@pytest.mark.parametrize("value", ["1" + "0" * 400, "1e308", "1e-320", "true", "[[]]", '"x"', "-1"])
@pytest.mark.parametrize("key", ["rescale_factor", "image_mean", "image_std", "size", "crop_size"])
def test_no_number_in_an_image_processor_is_too_large(key: str, value: str, tmp_path: Path) -> None:
    """Without it a config of an image processor ends `check` in an OverflowError."""
    from neulig_fl.models.checkpoints import configs

    said = (
        f'{{"do_rescale": true, "image_mean": [1, 2, 3], "image_std": [1, 1, 1], "{key}": {value}}}'
    )
    (tmp_path / configs.PROCESSOR).write_text(said)
    with contextlib.suppress(CheckpointError):  # the one error that `check` has words for
        configs.preprocessing(tmp_path)


# ---------------------------------------------------------------- what reaches a terminal

WORDS = "a\x1b[2Jb\x9b31mc\u202ed"
"""What clears a screen, in seven and in eight bits, and what turns a line round."""


def _is_clean(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_no_table_or_sentence_moves_a_cursor() -> None:
    """Without it the name of a file, or a client's reason, rewrites what the user reads."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(WORDS))
    table.add_column(Text(WORDS))
    table.add_row(Text(WORDS))
    file = io.StringIO()
    console = PlainConsole(file=file, width=80, color_system=None)
    for each in (Text(WORDS), table, Panel(Text(WORDS)), WORDS):
        console.print(each, markup=False)
    assert "a\\x1b[2Jb" in file.getvalue()
    assert _is_clean(file.getvalue())
    raw = io.StringIO()
    Console(file=raw, width=80, color_system=None).print(Text(WORDS))
    assert not _is_clean(raw.getvalue()), "Rich alone lets it pass, or this test shows nothing"


def test_rich_still_has_its_colours() -> None:
    """Without it the report on a terminal would be full of escapes that are shown."""
    from rich.text import Text

    file = io.StringIO()
    console = PlainConsole(file=file, width=40, force_terminal=True, color_system="standard")
    console.print(Text("red", style="red"))
    assert file.getvalue() == "\x1b[31mred\x1b[0m\n"


def test_what_is_echoed_is_clean_and_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it `--json` for programs would clear the screen of whoever looks at it."""
    streams.echo(f"{WORDS}\nsecond")
    streams.echo_json({WORDS: ["\ud800", "é", 1.5]})
    said = capsys.readouterr().out
    assert _is_clean(said)
    assert said.startswith("a\\x1b[2Jb\\x9b31mc\\u202ed\nsecond\n{")
    assert json.loads(said[said.index("{") :]) == {WORDS: ["\ud800", "é", 1.5]}


def test_every_word_to_a_terminal_goes_through_one_of_two_doors() -> None:
    """Without it the next command would print a name as it is."""
    found = {
        path.relative_to(CODE).as_posix()
        for path in CODE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if _prints(node)
    }
    assert found == {
        "cli/__init__.py",  # the help and the version, which are ours
        "cli/exits.py",  # `say`
        "cli/streams.py",  # `echo`
        "study/bench/memory.py",  # figures, to the process that started it
    }


def _prints(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    to_a_file = any(each.arg == "file" for each in node.keywords) and called != "print"
    doors = ("print", "Console", "typer.echo", "click.echo", "traceback.print_exc")
    return called in doors and not to_a_file


def test_the_names_of_files_do_not_reach_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it a file in somebody's data set clears the screen, or fakes a line that says OK."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / "data" / name / f"1{WORDS}.png")
    (tmp_path / "data" / "cat" / f"bad{WORDS}\nOK: .png").write_bytes(b"no image")
    text = {
        "name": "x",
        "tasks": {"own": {"source": "imagefolder", "root": str(tmp_path / "data")}},
        "clients": [{"name": "ada", "task": "own"}, {"name": "bob", "task": "own"}],
        "stages": [{"name": "one", "share": [{"kind": "offset-sum"}]}],
    }
    (tmp_path / "x.yaml").write_text(json.dumps(text))
    code, said = _ended(capfd, "check", str(tmp_path / "x.yaml"))
    assert code == 2
    assert "cannot be read" in said
    assert all(line.startswith("error: ") for line in said.splitlines())
    assert _is_clean(said)
    (tmp_path / "data" / "cat" / f"bad{WORDS}\nOK: .png").unlink()
    with pytest.raises(SystemExit):
        cli.main(["check", str(tmp_path / "x.yaml")])
    said = capfd.readouterr()
    assert _is_clean(said.out + said.err)


def test_the_names_in_a_report_do_not_reach_a_terminal(
    run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it whoever sends a report decides what its reader's terminal shows."""
    report = json.loads((run / "report.json").read_text())
    report["engine"] = report["scenario"]["name"] = WORDS
    report["notes"] = [WORDS]
    for stage in report["stages"]:
        stage["name"] = WORDS
        for release in stage["releases"]:
            release["client"] = WORDS
    (run / "report.json").write_text(json.dumps(report))
    with pytest.raises(SystemExit) as end:
        cli.main(["report", str(run)])
    said = capfd.readouterr()
    assert _is_clean(said.out + said.err)
    assert end.value.code in (0, 2)


def test_a_traceback_that_was_asked_for_moves_no_cursor(capfd: pytest.CaptureFixture[str]) -> None:
    """Without it `--debug`, which is for odd files, would print their words as they are."""
    with pytest.raises(SystemExit):
        cli.main(["--debug", "inspect", f"nowhere{WORDS}"])
    said = capfd.readouterr()
    assert "nowhere" in said.err
    assert _is_clean(said.out + said.err)
