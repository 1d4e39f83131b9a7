"""The environment of a run's own processes: what they need of the user's, and nothing else.

Flower, Ray, Python and the libraries below them read some hundred variables. Those of another
cluster, another SuperLink, a proxy, a terminal or a debugger have no business in a run on this
machine, so what is handed down is listed here, and everything else is not.
"""

from __future__ import annotations

import os
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from neulig_fl.core import cache_folder, downloads
from neulig_fl.core.errors import EngineError, InputError
from neulig_fl.core.private_folders import require_firm
from neulig_fl.runtime.engines._apps import FOLDERS
from neulig_fl.runtime.engines._processes import MARK

KEPT = frozenset({
    "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_PRELOAD",
    "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "PYTHONNOUSERSITE", "PYTHONUSERBASE", "PYTHONDONTWRITEBYTECODE",
})  # fmt: skip
KEPT_BEGINNINGS = (
    "NEULIG_", "LC_", "DYLD_", "XDG_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "HIP_",
    "HSA_", "ROCR_", "MIOPEN_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "OMP_", "KMP_", "GOMP_",
    "MKL_", "OPENBLAS_", "HF_", "HUGGINGFACE_",
)  # fmt: skip
"""What users say of their machine: libraries, certificates, GPUs, threads, caches, language."""

_SETTINGS = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    # Whoever talks to Ray shows the run's token, and Ray listens on loopback, as it does on macOS.
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_enable_metrics_collection": "0",
    # Metrics ask for no token; at a port that no system has Ray goes on without them.
    "AUTOSCALER_METRIC_PORT": "65536",
    "DASHBOARD_METRIC_PORT": "65536",
    # Flower's actors have a runtime environment of their own and cannot use early workers.
    "RAY_prestart_worker_first_driver": "0",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
}

LONGEST = 24
"""Characters of a temporary folder below which Ray's sockets have paths that a system can take."""

LOG_LEVEL = "NEULIG_LOG_LEVEL"
"""Environment variable that says how much a run's processes log: debug, info, warning or error."""

_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")


def environment(base: Mapping[str, str], root: Path) -> dict[str, str]:
    """Derive the environment of a run's processes.

    Args:
        base: the user's environment.
        root: the workplace's folder.
    """
    variables = {k: v for k, v in base.items() if k in KEPT or k.startswith(KEPT_BEGINNINGS)}
    variables |= downloads.set_aside(base)
    variables["NEULIG_CACHE"] = str(cache_folder.cache_dir().absolute())
    variables["HOME"] = _home(base, root)
    variables["TMPDIR"] = str(root / "tmp")
    variables["PATH"] = os.pathsep.join([str(scripts_folder(root)), base.get("PATH", os.defpath)])
    if level := base.get(LOG_LEVEL):
        variables["FLWR_LOG_LEVEL"] = level
    if paths := _import_paths(base.get("PYTHONPATH", "")):
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    ray = {"RAY_TMPDIR": str(root), "RAY_AUTH_TOKEN_PATH": str(token_file(root))}
    return {**variables, **_SETTINGS, **ray, MARK: str(root)}


def token_file(root: Path) -> Path:
    """Name the file with what every process of the run shows to Ray."""
    return root / "ray.token"


def scripts_folder(root: Path) -> Path:
    """Name the folder whose commands come before all others."""
    return root / "bin"


def temporary_folder() -> str:
    """Find a folder for the workplace.

    Its path is short, commands can be run in it, and nobody can put another in the place of ours.

    Raises:
        EngineError: there is none.
    """
    usual = tempfile.gettempdir()
    for folder in (usual, *_TEMPORARY, os.environ.get("XDG_RUNTIME_DIR", "")):
        if 0 < len(os.fsencode(folder)) <= LONGEST and folder.isascii() and _is_usable(folder):
            return folder
    raise EngineError(
        f"no temporary folder can be used: {usual} and {', '.join(_TEMPORARY)} are longer than "
        f"{LONGEST} characters, cannot be written to, are mounted noexec, or let anybody replace "
        "what is in them; set TMPDIR to one that is not"
    )


def _is_usable(folder: str) -> bool:
    try:
        without_programs = os.statvfs(folder).f_flag & os.ST_NOEXEC
        require_firm(Path(folder) / "workplace", "workplace")
    except (OSError, InputError):
        return False
    return os.access(folder, os.W_OK | os.X_OK) and not without_programs


def _home(base: Mapping[str, str], root: Path) -> str:
    """The user's home where it is one; else an empty folder, since libraries write to it."""
    home = base.get("HOME", "")
    usable = Path(home).is_absolute() and Path(home).is_dir() and os.access(home, os.W_OK)
    return home if usable else str(root / "home")


def _import_paths(given: str) -> list[str]:
    """PYTHONPATH without folders that have other `clients` or `server`, plus where we are from."""
    own = Path(__file__).resolve().parents[3]
    kept = [path for path in _absolute(given) if path == own or not _has_app_names(path)]
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    if own not in installed and own not in kept:
        kept.append(own)
    return [str(path) for path in kept]


def _absolute(given: str) -> Iterator[Path]:
    for path in filter(None, given.split(os.pathsep)):
        try:
            yield Path(path).absolute()
        except FileNotFoundError:  # Relative to a current folder that is gone.
            continue


def _has_app_names(folder: Path) -> bool:
    return any((folder / name).exists() or (folder / f"{name}.py").exists() for name in FOLDERS)
