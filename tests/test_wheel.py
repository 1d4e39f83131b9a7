"""The wheel: what a user who never saw the repository gets."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = """\
name: small
model: {name: micro-vit, pretrained: bundled}
clients: [{name: north, task: digits}, {name: south, task: digits}]
experts: {epochs: 1, batch_size: 64}
queries: {pool: 10, evaluation: 10}
portland: {alignment: none, epochs: 1}
stages:
  - name: all
    share: [{kind: features, queries: [pool, evaluation]}, {kind: parameters}]
    run: [train-portland, merge]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what a wheel of this tree installs."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site packages")
    return folder / "site packages"


def _run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command line of the wheel, ahead of whatever else is installed."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import neulig_fl.cli\n"
        "assert neulig_fl.__file__.startswith(sys.path[0]); neulig_fl.cli.main()"
    )
    command = [sys.executable, "-c", code, str(installed), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
def test_a_wheel_has_all_that_the_help_begins_with(installed: Path, tmp_path: Path) -> None:
    """Without it `pip install` would give a command whose first example is an error."""
    names = {path.relative_to(installed / "neulig_fl").as_posix() for path in _data(installed)}
    assert {"_app/clients/app.py", "_app/server/app.py", "_app/pyproject.toml"} <= names
    copied = _run(installed, tmp_path, "init", "scenarios")
    assert copied.returncode == 0, copied.stderr
    assert sorted(copied.stdout.split()) == sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "scenarios").rglob("*.yaml")
    )
    checked = _run(installed, tmp_path, "check", "scenarios/quickstart.yaml")
    assert checked.stdout.startswith("OK: scenarios/quickstart.yaml: "), checked.stderr
    (tmp_path / "small.yaml").write_text(SMALL)
    done = _run(installed, tmp_path, "run", "small.yaml", "--engine", "local")
    assert done.returncode == 0, done.stderr
    assert "all (A): " in done.stdout


def _data(installed: Path) -> list[Path]:
    return [path for path in (installed / "neulig_fl").rglob("*") if "_app" in path.parts]
