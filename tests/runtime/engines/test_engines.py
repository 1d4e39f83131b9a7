"""What every engine promises: an outcome, or the one error that says what went wrong."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from neulig_fl.core.errors import BadReply, EngineError, InputError
from neulig_fl.runtime import engines
from neulig_fl.runtime.engines import Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Make a job whose folder is there."""
    return Job(tmp_path / "scenario.json", tmp_path, clients=2)


def _engine(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    monkeypatch.setattr(engines, "load", lambda _: SimpleNamespace(run=run))


def test_engines_are_found_by_file_name() -> None:
    """Without it a helper module would be offered as an engine."""
    assert engines.names() == ["local", "simulation"]
    for name in engines.names():
        assert callable(engines.load(name).run)


def test_an_unknown_engine_is_named_with_those_that_are_there() -> None:
    """Without it a typo in --engine would be an ImportError."""
    with pytest.raises(InputError, match=r"no engine is called 'simulaton'.*did you mean simul"):
        engines.load("simulaton")
    with pytest.raises(InputError, match="no engine is called '-apps'"):
        engines.load("-apps")


def test_both_apps_get_absolute_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it Flower's processes, which run elsewhere, would look in their own folder."""
    monkeypatch.chdir(tmp_path)
    job = Job(Path("s.json"), Path("run"), clients=2, stores=Path("kept"), with_reference=False)
    assert job.config == {
        "scenario": str(tmp_path / "s.json"),
        "out": str(tmp_path / "run"),
    }
    assert job.node == {"stores": str(tmp_path / "kept")}
    plain = Job(Path("s.json"), Path("run"), clients=2, address_book=Path("book.json"))
    assert plain.node == {
        "stores": str(tmp_path / "run" / "clients"),
        "address-book": str(tmp_path / "book.json"),
        "reference": "yes",
    }


def test_an_earlier_outcome_is_not_taken_for_this_run(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a run that did nothing would return what an earlier one had left."""
    (job.out / "outcome.json").write_text("{}")
    (job.out / "error.json").write_text("{}")
    _engine(monkeypatch, lambda _: None)
    with pytest.raises(EngineError, match="the server app ended without a result"):
        engines.run("local", job)


def test_a_run_with_an_outcome_returns(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a run that succeeded would be an error."""
    _engine(monkeypatch, lambda job: (job.out / "outcome.json").write_text("{}"))
    engines.run("local", job)


def test_the_server_apps_error_comes_back_as_it_was(job: Job) -> None:
    """Without it the exit code and the message of a failed run would depend on the engine."""
    record = {"type": "BadReply", "message": "north sent NaN", "exit_code": 1}
    (job.out / "error.json").write_text(json.dumps(record))
    with pytest.raises(BadReply, match=r"^north sent NaN$"):
        engines.conclude(job.out)


def test_an_error_of_an_unknown_class_keeps_its_exit_code(job: Job) -> None:
    """Without it a later version's error would be lost, or be taken for a success."""
    record = {"type": "os.system", "message": "new", "exit_code": 2}
    (job.out / "error.json").write_text(json.dumps(record))
    error = engines.reported_error(job.out)
    assert type(error) is EngineError
    assert (str(error), error.exit_code) == ("new", 2)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"type": "BadReply"}'])
def test_a_broken_error_file_is_still_an_error(job: Job, text: str) -> None:
    """Without it a run whose error could not be written whole would end with a traceback."""
    (job.out / "error.json").write_text(text)
    with pytest.raises(EngineError, match="unreadable"):
        engines.conclude(job.out)
