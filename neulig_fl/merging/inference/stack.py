"""The experts' parameters in one place, in memory or in a file that is mapped into it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neulig_fl.merging.inference import mapped
from neulig_fl.merging.inference.layout import laid_out


class ExpertStack:
    """The experts' parameters as one matrix, (experts, entries); no copy of any is kept elsewhere.

    Each entry lies in the row as `layout` has it.

    Args:
        shapes: shape of every floating state-dict entry, in order.
        experts: the clients' names; each has a row, zero until `put`.
        matrix: float32 zeros (experts, entries) to fill, such as `mapped.zeros`; in memory if not
            given.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        experts: tuple[str, ...],
        matrix: Tensor | None = None,
    ) -> None:
        self.shapes = dict(shapes)
        self.experts = experts
        self._sizes = [int(torch.Size(s).numel()) for s in self.shapes.values()]
        size = (len(experts), sum(self._sizes))
        self.matrix = mapped.in_memory(*size) if matrix is None else matrix
        self._there: set[str] = set()
        self._alike: dict[str, bool] = {}

    @property
    def present(self) -> tuple[str, ...]:
        """The experts whose parameters are here, in order."""
        return tuple(name for name in self.experts if name in self._there)

    def put(self, expert: str, entries: Mapping[str, Tensor | NDArray[np.generic]]) -> None:
        """Copy one expert's entries into its row; arrays that are views stay views until then."""
        row = self.matrix[self.experts.index(expert)]
        for part, (name, shape) in zip(row.split(self._sizes), self.shapes.items(), strict=True):
            value = np.require(np.asarray(entries[name]).reshape(shape), requirements="W")
            laid_out(part, shape).copy_(torch.from_numpy(value))
        self._there.add(expert)
        self._alike.clear()

    def entries(self, flat: Tensor) -> dict[str, Tensor]:
        """A row, or a mixture of rows, (entries,), as named entries; views where they can be."""
        parts = zip(self.shapes, flat.split(self._sizes), strict=True)
        return {name: self.entry(name, part) for name, part in parts}

    def entry(self, name: str, flat: Tensor) -> Tensor:
        """One entry's part of a row, (numel,), in its own shape and order; else a view."""
        return laid_out(flat, self.shapes[name]).contiguous()

    def of(self, expert: str) -> dict[str, Tensor]:
        """One expert's entries; views where they can be."""
        return self.entries(self.matrix[self.experts.index(expert)])

    def stacked(self) -> dict[str, Tensor]:
        """Every entry of all experts, absent ones too, (experts, numel); views, no copies."""
        return dict(zip(self.shapes, self.matrix.split(self._sizes, dim=1), strict=True))

    def alike(self) -> dict[str, bool]:
        """Whether an entry is the same in every expert that is here, by name."""
        if not self._alike:
            rows = [self.experts.index(name) for name in self.present]
            self._alike = {
                name: all(torch.equal(entry[rows[0]], entry[row]) for row in rows[1:])
                for name, entry in self.stacked().items()
            }
        return self._alike

    def over_present(self, coopvecs: Tensor, experts: tuple[str, ...]) -> Tensor:
        """CoopVecs over some experts that are here, (rows, experts), as ones over all of these."""
        places = [self.present.index(name) for name in experts]
        where = torch.tensor(places, device=coopvecs.device)
        wide = coopvecs.new_zeros(len(coopvecs), len(self.present))
        return wide.index_copy(1, where, coopvecs).float()

    def over_all(self, coopvecs: Tensor) -> Tensor:
        """CoopVecs over the experts that are here, (rows, present), as ones over all of them."""
        if self.present == self.experts:
            return coopvecs.float()
        places = torch.zeros(len(self.present), len(self.experts), device=coopvecs.device)
        for row, name in enumerate(self.present):
            places[row, self.experts.index(name)] = 1.0
        return coopvecs.float() @ places

    def mixtures(self, coopvecs: Tensor) -> Tensor:
        """sum_t beta_t theta_t for every row of CoopVecs.

        Args:
            coopvecs: (rows, experts present).

        Returns:
            (rows, entries).
        """
        return self.over_all(coopvecs) @ self.matrix
