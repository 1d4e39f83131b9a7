"""Checkpoints as people have them: read without running anything, under OpenCLIP's names.

`read` tells by a file's content what it is. Its tensors are read one at a time, when they are asked
for. A new format is a file in `formats`, a new way to name CLIP's parts one in `namings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neulig_fl.core import variants
from neulig_fl.core.errors import CheckpointError, plain
from neulig_fl.models.checkpoints import configs, foreign, places
from neulig_fl.models.checkpoints.contents import (
    MISFIT,
    UNREADABLE,
    Checkpoint,
    Contents,
    StoredTensor,
    floats,
    unusable,
)
from neulig_fl.models.checkpoints.places import identity, sha256

__all__ = ["Checkpoint", "StoredTensor", "floats", "identity", "read", "sha256"]

_FORMATS = "neulig_fl.models.checkpoints.formats"
_NAMINGS = "neulig_fl.models.checkpoints.namings"


def read(path: Path) -> Checkpoint:
    """What a checkpoint holds; no number of it is read yet, and nothing in it is run.

    Args:
        path: a file of weights, an index of shards, or a folder that holds weights.

    Raises:
        CheckpointError: there is none, it is something else, is damaged, or asks to run code.
    """
    place = places.find(path)
    parts = [_read_file(file) for file in place.files]
    held = parts[0]
    if len(parts) > 1:
        held = replace(
            held,
            entries={name: entry for part in parts for name, entry in part.entries.items()},
            kind=f"{held.kind}, in {len(parts)} files",
        )
    naming, held = _named(path, held, place.config)
    if held.activation and configs.contradicts(path, held.activation):
        raise unusable(
            path,
            f"the weights or {places.CONFIG} say that its activation is {held.activation}, and "
            f"{configs.OPEN_CLIP} says another",
            "remove the config that is not of these weights",
            MISFIT,
        )
    return Checkpoint(
        {plain(name, 1000): entry for name, entry in held.entries.items()},
        held.kind,
        held.notes,
        held.activation or configs.activation(path),
        held.heads,
        path=path,
        files=place.files,
        naming=naming,
    )


def _read_file(path: Path) -> Contents:
    try:
        start = foreign.head(path)
    except OSError as error:
        fault = f"cannot be read ({error.strerror or error})"
        raise unusable(path, fault, "check its permissions", UNREADABLE) from error
    for name in variants.names(_FORMATS):
        module = variants.load(_FORMATS, name)
        if module.recognises(path, start):
            held: Contents = module.read(path)
            return held
    fault, advice = foreign.named(start)
    raise unusable(path, f"cannot be read: it {fault}", advice, UNREADABLE)


def _named(path: Path, held: Contents, config: Mapping[str, Any] | None) -> tuple[str, Contents]:
    """Whose names these are, and what it holds under OpenCLIP's."""
    for name in variants.names(_NAMINGS):
        module = variants.load(_NAMINGS, name)
        if module.recognises(held.entries):
            try:
                return module.WORDS, module.rename(held, config)
            except CheckpointError as error:
                words = f"checkpoint {plain(path)}: {error}"
                raise CheckpointError(words, public_reason=error.public_reason) from error
    return "OpenCLIP", held
