"""How much memory tensors take while something runs: their storages, without what was there before.

What an operation needs for itself inside (a workspace of LAPACK's) is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive after each operation.

    Args:
        before: tensors that are not counted, nor are views of them.
    """

    def __init__(self, before: Sequence[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._before = {tensor.untyped_storage().data_ptr() for tensor in before}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked, and count."""
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._seen(leaf)
        self._alive = {key: each for key, each in self._alive.items() if not each[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return found

    def _seen(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._before:
            self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
