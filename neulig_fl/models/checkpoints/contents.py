"""What a checkpoint holds: named tensors that are read one at a time, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from neulig_fl.core.errors import CheckpointError, plain
from neulig_fl.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

MISSING = "its checkpoint file is missing"
UNREADABLE = "its checkpoint file cannot be read"
NO_STATE_DICT = "its checkpoint file is not a state dict"
RUNS_CODE = "its checkpoint file asks to run code"
MISFIT = "its checkpoint does not fit the scenario's model"
NOT_FINITE = "its checkpoint holds values that are not finite"


def floats() -> tuple[torch.dtype, ...]:
    """What weights may be stored as; they are cast to float32 when they are loaded."""
    return torch.float16, torch.bfloat16, torch.float32, torch.float64


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint, not yet read.

    Args:
        shape: its sizes.
        dtype: as it is stored.
        read: gives the tensor, a copy of its own.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor] = field(compare=False, repr=False)

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Contents:
    """What one file holds.

    Args:
        entries: tensors by name, in the file's order.
        kind: what the file is, in words.
        notes: what was done to find the names, a sentence each.
        activation: `gelu` or `quick_gelu` where the file says which; shapes cannot tell.
        heads: attention heads of the image encoder where the file says how many.
    """

    entries: Mapping[str, StoredTensor]
    kind: str
    notes: tuple[str, ...] = ()
    activation: str | None = None
    heads: int | None = None


@dataclass(frozen=True)
class Checkpoint(Contents):
    """What a checkpoint holds, under OpenCLIP's names where these are known.

    Args:
        path: the file or folder that was asked for.
        files: the files that hold its weights.
        naming: whose names the file has, in words.
    """

    path: Path = Path()
    files: tuple[Path, ...] = ()
    naming: str = ""


def unusable(path: Path, fault: str, advice: str, public_reason: str) -> CheckpointError:
    """The error about a file: what is wrong with it, and what to do."""
    return CheckpointError(
        f"checkpoint {plain(path)}: {fault}; {advice}", public_reason=public_reason
    )
