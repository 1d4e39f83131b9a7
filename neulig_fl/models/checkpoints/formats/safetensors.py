"""Safetensors: a header of names and shapes, then the numbers; read through the library."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from neulig_fl.models.checkpoints.contents import Contents, StoredTensor
from neulig_fl.models.checkpoints.state_dicts import damaged

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def recognises(path: Path, start: bytes) -> bool:  # noqa: ARG001 (every format is asked the same)
    """Whether the file begins with the length of a header, and then the header."""
    return len(start) > 8 and 0 < struct.unpack("<Q", start[:8])[0] < 2**40 and start[8] == ord("{")


def read(path: Path) -> Contents:
    """The tensors of a safetensors file; each is read when it is asked for.

    Raises:
        CheckpointError: the header or the length of the file is wrong.
    """
    try:
        opened: Any = safe_open(path, framework="pt")
        entries = {name: _entry(opened, name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise damaged(path, error) from error
    return Contents(entries, "safetensors")


def _entry(opened: Any, name: str) -> StoredTensor:
    part = opened.get_slice(name)
    dtype = _DTYPES.get(part.get_dtype(), torch.uint8)
    return StoredTensor(tuple(part.get_shape()), dtype, _reader(opened, name))


def _reader(opened: Any, name: str) -> Callable[[], Tensor]:
    return lambda: opened.get_tensor(name)
