"""Which files a path means: a file, the shards of an index, a folder as Hugging Face has it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.core import strict_json
from neulig_fl.core.errors import CheckpointError, plain
from neulig_fl.core.files import sha256 as file_sha256
from neulig_fl.models.checkpoints import foreign
from neulig_fl.models.checkpoints.contents import MISSING, UNREADABLE, unusable

IN_FOLDER = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What a folder's weights are called, the preferred first: OpenCLIP's own, where timm's or Hugging
Face's lie beside them."""

ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_INDEX = ".index.json"
CONFIG = "config.json"

MOST_NAME = 255
"""Bytes of a file's name, on every common file system."""


@dataclass(frozen=True)
class Place:
    """Where a checkpoint lies.

    Args:
        files: the files that hold its weights, in order.
        config: the `config.json` beside them, where it says what kind of model it is.
    """

    files: tuple[Path, ...]
    config: Mapping[str, Any] | None


def find(path: Path) -> Place:
    """The files that a path means.

    Raises:
        CheckpointError: there is nothing, a folder holds no weights or several, or an index or a
            config.json cannot be read.
    """
    if path.is_dir():
        file = _in_folder(path)
    elif path.is_file():
        file = path
    else:
        raise unusable(path, "no such file", "check the path", MISSING)
    files = _shards(file) if file.name.endswith(_INDEX) else (file,)
    return Place(files, _config(file.parent, required=path.is_dir()))


def _in_folder(folder: Path) -> Path:
    for name in IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    names = sorted(each.name for each in folder.iterdir())
    weights = [name for name in names if name.endswith(ENDINGS)]
    if len(weights) == 1:
        return folder / weights[0]
    if weights:
        fault, advice = f"a folder of several checkpoints ({_few(weights)})", "give one of them"
    elif {"tf_model.h5", "flax_model.msgpack"} & set(names):
        fault, advice = "a folder of TensorFlow or Flax weights", "ask for the PyTorch weights"
    else:
        fault = f"a folder without weights ({_few(names) or 'it is empty'})"
        advice = f"it should hold {IN_FOLDER[2]} or {IN_FOLDER[4]}, or give a file"
    raise unusable(folder, fault, advice, MISSING)


def _few(names: list[str]) -> str:
    return ", ".join(plain(name, 200) for name in names[:5]) + (
        f" and {len(names) - 5} more" if len(names) > 5 else ""
    )


def _shards(index: Path) -> tuple[Path, ...]:
    said = json_of(index).get("weight_map")
    named = list(said.values()) if isinstance(said, dict) else []
    if not named or not all(isinstance(n, str) and _is_name(n) for n in named):
        raise unusable(
            index, "is an index that names no files", "copy or download it again", UNREADABLE
        )
    names = list(dict.fromkeys(named))
    for name in names:
        if not (index.parent / name).is_file():
            raise unusable(
                index,
                f"its part {plain(name, 200)} is not there",
                "copy or download all parts",
                MISSING,
            )
    return tuple(index.parent / name for name in names)


def _is_name(name: str) -> bool:
    """Whether a file beside another one can have that name."""
    return Path(name).name == name != ".." and len(os.fsencode(name)) <= MOST_NAME


def _config(folder: Path, *, required: bool) -> Mapping[str, Any] | None:
    """What config.json says; beside a file that was named it may be about something else."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        return json_of(path)
    except CheckpointError:
        if required:
            raise
        return None


def json_of(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; {} where it holds something else.

    Raises:
        CheckpointError: it is not JSON.
    """
    try:
        said = strict_json.parsed(path.read_bytes())
    except (OSError, ValueError) as error:
        fault, advice = foreign.named(foreign.head(path))
        raise unusable(path, f"is not JSON: it {fault}", advice, UNREADABLE) from error
    return said if isinstance(said, dict) else {}


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a checkpoint: of its file, or of its files' names and digests.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    files = find(path).files
    digests = [file_sha256(file) for file in files]
    if len(files) == 1:
        return digests[0]
    lines = (f"{f.name} {d}\n" for f, d in zip(files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def identity(path: Path, prefix: str | None) -> str:
    """What a checkpoint's encoder is known by: its SHA-256, and which of several is meant.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    digest = sha256(path)
    return digest if prefix is None else f"{digest}#{prefix.rstrip('.')}"
