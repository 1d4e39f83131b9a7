"""What `torch.save` wrote before PyTorch 1.6: pickles one after another, then the storages."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from neulig_fl.models.checkpoints import pickle_rules, pickles
from neulig_fl.models.checkpoints.contents import Contents
from neulig_fl.models.checkpoints.pickle_rules import Refused
from neulig_fl.models.checkpoints.state_dicts import contents, damaged, refused
from neulig_fl.models.checkpoints.storages import Fetch, Malformed, Storage, from_bytes, from_file

_MAGIC = 0x1950A86A20F9469CFC6C
_START = b"\x80\x02\x8a\n" + _MAGIC.to_bytes(10, "little")


def recognises(path: Path, start: bytes) -> bool:  # noqa: ARG001 (every format is asked the same)
    """Whether the file begins with that pickle of torch's magic number."""
    return start.startswith(_START)


def read(path: Path) -> Contents:
    """The tensors of an old torch file; each is read when it is asked for.

    Raises:
        CheckpointError: it is damaged, or asks to run code.
    """
    try:
        with path.open("rb") as stream:
            held = _Stream(stream, lambda start: from_file(path, start)).held()
        return contents(path, held, "PyTorch file (before 1.6)")
    except Refused as refusal:
        raise refused(path, refusal) from refusal
    except (Malformed, OSError) as error:
        raise damaged(path, error) from error


def read_bytes(held: bytes | bytearray) -> Any:
    """What such a file holds that stands as bytes within a pickle: a storage, as a rule.

    Raises:
        Malformed: it is damaged.
        Refused: it asks to run code.
    """
    return _Stream(io.BytesIO(held), lambda start: from_bytes(held, start)).held()


class _Stream:
    """The parts of one file.

    Args:
        stream: the file, at its start.
        place: how the bytes from a place on are read later.
    """

    def __init__(self, stream: BinaryIO, place: Any) -> None:
        self._stream = stream
        self._place = place
        self._starts: dict[str, Fetch] = {}
        self._counts: dict[str, int] = {}
        self._types: dict[str, torch.dtype] = {}

    def held(self) -> Any:
        """The object; only storages that are in the file are referred to."""
        magic, _, system = self._pickle(), self._pickle(), self._pickle()
        if magic != _MAGIC:
            raise Malformed("the magic number is not torch's")
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise Malformed("its numbers are big-endian")
        held, keys = self._pickle(), self._pickle()
        if not isinstance(keys, list):
            raise Malformed("there is no list of storages")
        for key in keys:
            self._locate(str(key))
        lost = [key for key in self._counts if key not in self._starts]
        if lost:
            raise Malformed(f"storage {lost[0]} is not there")
        return held

    def _pickle(self) -> Any:
        return pickles.read(self._stream, self._storage, pickles.none_inside)

    def _locate(self, key: str) -> None:
        """Note where a storage begins: its number of elements, then its bytes."""
        head = self._stream.read(8)
        if len(head) < 8 or key not in self._types:
            raise Malformed(f"storage {key} is not there, or nothing refers to it")
        (count,) = struct.unpack("<q", head)
        start = self._stream.tell()
        size = count * self._types[key].itemsize
        end = self._stream.seek(0, io.SEEK_END)
        if count < self._counts[key] or start + size > end:
            raise Malformed(f"the file ends within storage {key}")
        self._stream.seek(start + size)
        self._starts[key] = self._place(start)

    def _storage(self, reference: Any) -> Any:
        """('storage', type, key, device, count, view) or ('module', class, file, source)."""
        if not isinstance(reference, tuple) or len(reference) < 2:
            raise Malformed("a reference that is no storage")
        if reference[0] == "module":
            return reference[1]
        if reference[0] != "storage" or len(reference) < 6:
            raise Malformed("a reference that is no storage")
        _, kind, key, _, count, view = reference[:6]
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise Malformed("a storage without a name or a size")
        dtype = pickle_rules.stored_type(kind)
        if self._types.setdefault(key, dtype) != dtype:
            raise Malformed(f"storage {key} is of two types")
        self._counts[key] = max(count, self._counts.get(key, 0))
        whole = Storage(dtype, count, lambda first, size: self._starts[key](first, size))
        return whole if view is None else _view(whole, view)


def _view(whole: Storage, view: Any) -> Storage:
    """Part of a storage, as PyTorch before 0.4 stored it: (key, first, count)."""
    if not isinstance(view, tuple) or len(view) != 3:
        raise Malformed("a view that is none")
    _, first, count = view
    if type(first) is not int or type(count) is not int or min(first, count) < 0:
        raise Malformed("a view that is none")
    if first + count > whole.count:
        raise Malformed("a view that reaches beyond its storage")
    return replace(whole, start=first, count=count)
