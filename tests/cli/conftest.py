"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Ended, Line

from neulig_fl import cli


@pytest.fixture
def line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Line:
    """Run a command line in this process, in an empty folder, on 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Ended(end.value.code, out, err)

    return run
