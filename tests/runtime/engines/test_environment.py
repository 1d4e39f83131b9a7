"""What a run's own processes get of the user's environment."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from neulig_fl.core.errors import EngineError
from neulig_fl.runtime.engines import _environment
from neulig_fl.runtime.engines._environment import LOG_LEVEL, LONGEST, environment, temporary_folder

HOSTILE = {
    "RAY_ADDRESS": "10.0.0.1:6379",
    "RAY_AUTH_MODE": "disabled",
    "RAY_AUTH_TOKEN": "of another cluster",
    "RAY_AUTH_TOKEN_PATH": "/nowhere",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    "RAY_enable_metrics_collection": "1",
    "FLWR_INTERNAL_GRPC_CONTROL_API": "1",
    "RAY_TMPDIR": "/nowhere",
    "RAY_RUNTIME_ENV_HOOK": "no.such",
    "FLWR_HOME": "/nowhere",
    "FLWR_LOG_LEVEL": "x",
    "GRPC_VERBOSITY": "debug",
    "grpc_proxy": "http://p",
    "HTTP_PROXY": "http://p",
    "https_proxy": "garbage",
    "all_proxy": "socks5://p",
    "NO_PROXY": "intern",
    "TMPDIR": "/nowhere",
    "COLUMNS": "1",
    "TERM": "x",
    "FORCE_COLOR": "1",
    "PYTHONHOME": "/nowhere",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "COVERAGE_PROCESS_START": "x",
}


def test_nothing_of_another_program_comes_along(tmp_path: Path) -> None:
    """Without it a cluster's address, a proxy or a narrow terminal would end or change a run."""
    variables = environment(HOSTILE, tmp_path)
    same = {name for name, value in HOSTILE.items() if variables.get(name) == value}
    assert not same
    proxies = {name: value for name, value in HOSTILE.items() if "proxy" in name.lower()}
    assert json.loads(variables["NEULIG_PROXIES"]) == proxies
    assert not [name for name in variables if name.lower().endswith("_proxy")]
    assert variables["FLWR_HOME"] == variables["RAY_TMPDIR"] == str(tmp_path)
    assert Path(variables["RAY_AUTH_TOKEN_PATH"]).parent == tmp_path
    assert Path(variables["TMPDIR"]).parent == tmp_path


def test_flower_logs_what_was_asked_for(tmp_path: Path) -> None:
    """Without it --log-level would say nothing to the processes of a simulation."""
    assert "FLWR_LOG_LEVEL" not in environment({}, tmp_path)
    assert environment({LOG_LEVEL: "debug"}, tmp_path)["FLWR_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize("name", ["AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT"])
def test_rays_metrics_have_no_port(name: str, tmp_path: Path) -> None:
    """Without it Ray tells everybody of the run's processes where prometheus-client is installed."""
    variables = environment({name: "44217"}, tmp_path)
    with socket.socket() as server, pytest.raises(OverflowError):
        server.bind(("127.0.0.1", int(variables[name])))


def test_what_is_said_of_the_machine_comes_along(tmp_path: Path) -> None:
    """Without it a run would not find its GPU, its libraries, or the model that was downloaded."""
    base = {
        "CUDA_VISIBLE_DEVICES": "1",
        "LD_LIBRARY_PATH": "/cuda",
        "OMP_NUM_THREADS": "2",
        "HF_HOME": "/models",
        "SSL_CERT_FILE": "/ca.pem",
        "LC_ALL": "de_DE.UTF-8",
        "HOME": str(tmp_path),
    }
    variables = environment(base, tmp_path / "root")
    assert {name: variables[name] for name in base} == base
    assert variables["PATH"] == os.pathsep.join([str(tmp_path / "root" / "bin"), os.defpath])


@pytest.mark.parametrize("chosen", ["relative", "~/cache", None])
def test_the_cache_is_the_same_folder_for_every_process(
    chosen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it clients, which work in another folder, would train into a cache of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("NEULIG_CACHE")
    if chosen:
        monkeypatch.setenv("NEULIG_CACHE", chosen)
    expected = {"relative": "relative", "~/cache": "cache", None: ".cache/neulig-fl"}[chosen]
    assert environment(os.environ, tmp_path)["NEULIG_CACHE"] == str(tmp_path / expected)


@pytest.mark.parametrize("home", [None, "", "relative", "/nowhere/at/all", "file"])
def test_a_home_that_is_none_is_an_empty_folder(home: str | None, tmp_path: Path) -> None:
    """Without it a library that writes to its user's home would end the run of a container."""
    (tmp_path / "file").write_text("")
    base = {} if home is None else {"HOME": str(tmp_path / home) if home == "file" else home}
    assert environment(base, tmp_path)["HOME"] == str(tmp_path / "home")


def test_import_paths_lead_to_no_other_apps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a foreign package called `clients` would run in place of ours."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign" / "clients").mkdir(parents=True)
    given = os.pathsep.join(["foreign", "", "useful"])
    paths = environment({"PYTHONPATH": given}, tmp_path)["PYTHONPATH"].split(os.pathsep)
    assert paths[0] == str(tmp_path / "useful")
    assert str(tmp_path / "foreign") not in paths


def test_relative_import_paths_do_without_a_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a run from a folder that was removed would end in a traceback."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "useful" not in environment({"PYTHONPATH": "useful"}, tmp_path)["PYTHONPATH"]


@pytest.mark.parametrize("usual", ["/var/folders/" + "x" * 40, "/tmp/a b\u00fc", "/nowhere", ""])
def test_an_odd_temporary_folder_is_avoided(usual: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it Ray's socket paths would be longer than a system takes."""
    monkeypatch.setattr(_environment.tempfile, "gettempdir", lambda: usual)
    assert temporary_folder() == "/tmp"


def test_a_folder_in_which_anybody_can_replace_ours_is_avoided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without it another user moves the workplace aside, and the run's processes meet his SuperLink."""
    with tempfile.TemporaryDirectory(prefix="w", dir="/tmp") as folder:
        monkeypatch.setattr(_environment.tempfile, "gettempdir", lambda: folder)
        assert temporary_folder() == folder
        Path(folder).chmod(0o777)
        assert temporary_folder() == "/tmp"
        Path(folder).chmod(0o1777)
        assert temporary_folder() == folder


def test_a_folder_without_programs_is_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it commands could not be started where /tmp is mounted noexec."""
    real, noexec = os.statvfs, SimpleNamespace(f_flag=os.ST_NOEXEC)
    status = lambda path: noexec if path == "/tmp" else real(path)  # noqa: E731
    monkeypatch.setattr(_environment.tempfile, "gettempdir", lambda: "/tmp")
    monkeypatch.setattr(_environment.os, "statvfs", status)
    assert temporary_folder() in ("/var/tmp", "/dev/shm")
    monkeypatch.setattr(_environment.os, "statvfs", lambda path: noexec)
    with pytest.raises(EngineError, match=f"longer than {LONGEST} characters.*set TMPDIR"):
        temporary_folder()
