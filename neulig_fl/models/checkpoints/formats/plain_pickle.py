"""A model or state dict that Python's own `pickle.dump` wrote, as older research code did."""

from __future__ import annotations

from pathlib import Path

from neulig_fl.models.checkpoints import pickles
from neulig_fl.models.checkpoints.contents import Contents
from neulig_fl.models.checkpoints.formats import torch_legacy
from neulig_fl.models.checkpoints.pickle_rules import Refused
from neulig_fl.models.checkpoints.state_dicts import contents, damaged, refused
from neulig_fl.models.checkpoints.storages import Malformed


def recognises(path: Path, start: bytes) -> bool:
    """Whether the file begins as a pickle of protocol 2 to 5 does, and torch did not write it."""
    return (
        start[:1] == b"\x80"
        and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
        and not (torch_legacy.recognises(path, start))
    )


def read(path: Path) -> Contents:
    """The tensors of a pickle. They are within it, so all of it is held in memory.

    Raises:
        CheckpointError: it is damaged, holds no tensors, or asks to run code.
    """
    try:
        with path.open("rb") as stream:
            held = pickles.read(stream, _no_reference, torch_legacy.read_bytes)
        return contents(path, held, "pickle")
    except Refused as refusal:
        raise refused(path, refusal) from refusal
    except (Malformed, OSError) as error:
        raise damaged(path, error) from error


def _no_reference(_: object) -> object:
    raise Malformed("a reference to something outside the pickle")
