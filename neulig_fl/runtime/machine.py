"""What a run needs of the machine that it is started on, looked at before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from neulig_fl.core import cache_folder
from neulig_fl.core.errors import InputError

if TYPE_CHECKING:
    from neulig_fl.config.schema import Resources


def require(resources: Resources, name: str) -> None:
    """See that a run can have what it needs of this machine.

    Args:
        resources: of the scenario.
        name: the scenario's file, for errors.

    Raises:
        InputError: every problem, a line each.
    """
    found = [*_cache(), *(f"{name}: {problem}" for problem in _gpus(resources))]
    if found:
        raise InputError("\n".join(found))


def _cache() -> Iterator[str]:
    try:
        cache_folder.require_writable()
    except InputError as error:
        yield str(error)


def _gpus(resources: Resources) -> Iterator[str]:
    """Whether there is a GPU for one client at least; the others wait for it."""
    wanted = resources.client_gpus
    if wanted > 0 and wanted > (there := gpus()):
        has = f"has {there}" if there else "has none"
        yield (
            f"resources.client_gpus: a client is to have {wanted:g} GPU, but this machine {has} "
            "that PyTorch can use (CUDA_VISIBLE_DEVICES hides those that it does not name); "
            "set it to 0 to run without (`--set resources.client_gpus=0`)"
        )


def cores() -> int:
    """Count the CPU cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> int:
    """Count the GPUs that PyTorch can use here; loads it."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
