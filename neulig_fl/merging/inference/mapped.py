"""Where the experts' parameters lie: in memory, or in a file that is mapped into it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neulig_fl.core import files
from neulig_fl.core.errors import RunError

SHARE = 0.5
"""Of the machine's memory; a larger stack lies in a file."""


def zeros(rows: int, entries: int, folder: Path, most: int | None = None) -> Tensor:
    """A float32 matrix of zeros for an `ExpertStack`, (rows, entries).

    Beyond `most` bytes it is a file without a name, which the system reads and writes page by page
    as the engine goes through it. The file is gone with the process, however that ends.

    Args:
        rows: experts.
        entries: of one expert.
        folder: of the file; made if need be.
        most: bytes that may lie in memory; half of the machine's if not given.

    Raises:
        RunError: the file's disk has too little room.
    """
    size = 4 * rows * entries
    if size <= (memory_share() if most is None else most):
        return in_memory(rows, entries)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.part(folder / "experts.stack") as file:
            _take_room(file, size)
            flat = torch.from_file(str(file), shared=True, size=rows * entries, dtype=torch.float32)
    except OSError as error:
        raise RunError(
            f"the parameters of {rows} experts take {size:,} bytes, more than the memory they may "
            f"take, and {folder} has no room for them ({error.strerror}); free some there, set "
            "NEULIG_CACHE to a folder on another disk, or raise merging.stack_mib"
        ) from error
    return flat.view(rows, entries)


def _take_room(file: Path, size: int) -> None:
    """Make a file of some bytes: a full disk found later would kill the process without a word."""
    with files.open_privately(file, "wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, size)


def in_memory(rows: int, entries: int) -> Tensor:
    """A float32 matrix of zeros, (rows, entries), by NumPy: it asks the system for huge pages.

    With these the experts are read 10 to 20 % faster.
    """
    matrix = np.empty((rows, entries), dtype=np.float32)
    matrix.fill(0.0)
    return torch.from_numpy(matrix)


def memory_share() -> int:
    """Bytes that the parameters may take in memory."""
    return int(SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
