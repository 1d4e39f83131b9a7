"""What a run needs of its machine is looked at before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from neulig_fl.config.scenario import Resources
from neulig_fl.core import cache_folder
from neulig_fl.core.errors import InputError, ScenarioError
from neulig_fl.runtime import machine
from neulig_fl.study import runs
from neulig_fl.study.checking import load


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: 0)


def test_a_gpu_that_is_not_there_ends_a_run_before_it_begins(
    data: Path, tmp_path: Path, no_gpu: None
) -> None:
    """Without it Ray would wait for a GPU, and the error say nothing of one."""
    resources = {"client_gpus": 0.5}
    with pytest.raises(
        InputError, match=r"scenario.yaml: resources.client_gpus: .*0\.5 GPU, .* has none.*to 0"
    ):
        tiny.run(tmp_path, data, resources=resources)
    assert not (tmp_path / "out").exists()


def test_gpus_are_counted_for_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a machine with one GPU could not run clients in turn, or promise two at once."""
    monkeypatch.setattr(machine, "gpus", lambda: 1)
    for share in (0, 0.3, 1):
        machine.require(Resources(client_gpus=share), "x.yaml")
    with pytest.raises(InputError, match="is to have 2 GPU, but this machine has 1 that PyTorch"):
        machine.require(Resources(client_gpus=2), "x.yaml")


def test_a_share_of_several_gpus_is_refused_where_it_stands(data: Path, tmp_path: Path) -> None:
    """Without it Ray would refuse it once the run has begun."""
    path = tiny.write(tmp_path, data, resources={"client_gpus": 1.5})
    with pytest.raises(ScenarioError, match=r"yaml:\d+:\d+: resources\.client_gpus: .*got 1\.5"):
        load(path)


def test_no_gpu_is_asked_for_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it every check would load PyTorch."""
    monkeypatch.setattr(machine, "gpus", None)
    machine.require(Resources(), "x.yaml")


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300])
def test_an_unusable_cache_ends_a_run_before_it_begins(
    place: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the first client would fail after it was trained, and not say where."""
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / place)
    monkeypatch.setenv("NEULIG_CACHE", folder)
    with pytest.raises(InputError) as error:
        runs.run(tiny.write(tmp_path, data), "local", tmp_path / "out")
    assert str(error.value).startswith(f"cache folder {folder}: cannot be used (")
    assert "set NEULIG_CACHE to a folder that can be written to" in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("caches", ["/no/where/caches", "FILE"])
def test_without_a_place_for_caches_the_cache_is_temporary(
    caches: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a container's user without a home could not run anything."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    monkeypatch.delenv("NEULIG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / caches) if caches == "FILE" else caches)
    monkeypatch.setattr(cache_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = cache_folder.require_writable()
    assert folder.parent == tmp_path
    assert folder.name.startswith("neulig-fl-")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_temporary_cache_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it another user of the machine could lay experts into a run's cache."""
    monkeypatch.delenv("NEULIG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "missing" / "deep" / "cache"))
    monkeypatch.setattr(cache_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    cache_folder.cache_dir().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="belongs to another user"):
        cache_folder.require_writable()
