"""What `torch.save` writes since PyTorch 1.6: a zip of a pickle and storages; TorchScript too.

Of a TorchScript archive, as OpenAI publishes CLIP, names and tensors are read; its code is not.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.models.checkpoints import foreign, pickle_rules, pickles
from neulig_fl.models.checkpoints.contents import UNREADABLE, Contents, unusable
from neulig_fl.models.checkpoints.pickle_rules import Refused
from neulig_fl.models.checkpoints.state_dicts import contents, damaged, refused
from neulig_fl.models.checkpoints.storages import Malformed, Storage, from_file

_MOST_PICKLE = 64 * 2**20
_LOCAL_HEADER = 30


def recognises(path: Path, start: bytes) -> bool:  # noqa: ARG001 (every format is asked the same)
    """Whether the file begins as a zip does."""
    return start.startswith(b"PK\x03\x04")


def read(path: Path) -> Contents:
    """The tensors of a torch file; each is read when it is asked for.

    Raises:
        CheckpointError: it is no torch file, is damaged, or asks to run code.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            if not any(name.endswith("/data.pkl") for name in opened.namelist()):
                fault, advice = foreign.zipped(opened.namelist())
                raise unusable(path, f"cannot be read: it {fault}", advice, UNREADABLE)
            archive = _Archive(path, opened)
            held = archive.held()
            kind = "PyTorch file"
            if archive.has("constants.pkl"):
                kind = "TorchScript archive (its code is not run)"
        return contents(path, held, kind)
    except Refused as refusal:
        raise refused(path, refusal) from refusal
    except (Malformed, zipfile.BadZipFile, OSError, struct.error) as error:
        raise damaged(path, error) from error


@dataclass
class _Archive:
    """An opened torch file."""

    path: Path
    opened: zipfile.ZipFile

    def __post_init__(self) -> None:
        names = [name for name in self.opened.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1 or names[0].count("/") != 1:
            raise Malformed(f"a zip with {names[0]}, where torch.save writes one folder")
        self._root = names[0].removesuffix("data.pkl")

    def has(self, name: str) -> bool:
        return self._root + name in self.opened.NameToInfo

    def held(self) -> Any:
        """What the pickle says."""
        if self.has("byteorder") and self._bytes("byteorder", 16) != b"little":
            raise Malformed("its numbers are big-endian")
        stream = io.BytesIO(self._bytes("data.pkl", _MOST_PICKLE))
        return pickles.read(stream, self._storage, pickles.none_inside)

    def _bytes(self, name: str, most: int) -> bytes:
        start, size = self._place(name)
        if size > most:
            raise Malformed(f"{name} has {size:,} bytes")
        return bytes(from_file(self.path, start)(0, size))

    def _place(self, name: str) -> tuple[int, int]:
        """Where a part of the archive begins in the file, and how many bytes it has."""
        info = self.opened.NameToInfo.get(self._root + name)
        if info is None:
            raise Malformed(f"{name} is not there")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise Malformed(f"{name} is compressed or encrypted, which torch.save never does")
        header = from_file(self.path, info.header_offset)(0, _LOCAL_HEADER)
        names, extra = struct.unpack("<HH", header[26:30])
        start = info.header_offset + _LOCAL_HEADER + names + extra
        if start + info.file_size > self.path.stat().st_size:
            raise Malformed(f"the file ends within {name}")
        return start, info.file_size

    def _storage(self, reference: Any) -> Storage:
        """The storage that a persistent id means: ('storage', type, key, device, count)."""
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise Malformed("a reference that is no storage")
        _, kind, key, _, count = reference[:5]
        if not isinstance(key, str) or type(count) is not int:
            raise Malformed("a storage without a name or a size")
        dtype = pickle_rules.stored_type(kind)
        start, size = self._place(f"data/{key}")
        if count < 0 or count * dtype.itemsize > size:
            raise Malformed(f"data/{key} has {size:,} bytes, too few for {count:,} numbers")
        return Storage(dtype, count, from_file(self.path, start))
