"""Merged inference: f(sum_t beta_t(x) theta_t, x), exactly, on unmodified models.

Queries with the same CoopVec are run together; every other query gets a network of its own. Running
statistics of BatchNorm are mixed like parameters, or estimated again on calibration inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

if TYPE_CHECKING:
    from collections.abc import Iterator

MIXED_AT_ONCE, MIXED_BYTES = 4, 64 * 2**20
"""Merged networks are made four at a time in one buffer: measured fastest, since the experts are
read once for all four and the buffer stays in the cache. One at a time beyond these bytes."""


class ExpertStack:
    """The experts' parameters as one matrix, (experts, entries); no copy of any is kept elsewhere.

    Args:
        shapes: shape of every floating state-dict entry, in order.
        experts: the clients' names; each has a row, zero until `put`.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], experts: tuple[str, ...]) -> None:
        self.shapes = dict(shapes)
        self.experts = experts
        self._sizes = [int(torch.Size(s).numel()) for s in self.shapes.values()]
        self.matrix = torch.zeros(len(experts), sum(self._sizes))
        self._there: set[str] = set()

    @property
    def present(self) -> tuple[str, ...]:
        """The experts whose parameters are here, in order."""
        return tuple(name for name in self.experts if name in self._there)

    def put(self, expert: str, entries: Mapping[str, Tensor | NDArray[np.generic]]) -> None:
        """Copy one expert's entries into its row; arrays that are views stay views until then."""
        row = self.matrix[self.experts.index(expert)]
        for part, name in zip(row.split(self._sizes), self.shapes, strict=True):
            np.copyto(part.numpy(), np.asarray(entries[name]).reshape(-1))
        self._there.add(expert)

    def entries(self, flat: Tensor) -> dict[str, Tensor]:
        """A flat vector as named entries; views, no copies."""
        parts = zip(flat.split(self._sizes), self.shapes.items(), strict=True)
        return {name: part.view(shape) for part, (name, shape) in parts}

    def mixtures(self, coopvecs: Tensor, out: Tensor | None = None) -> Tensor:
        """sum_t beta_t theta_t for every row of CoopVecs.

        Args:
            coopvecs: (rows, experts present).
            out: (rows, entries) to write into, so that no new memory is touched.

        Returns:
            (rows, entries).
        """
        weights = torch.zeros(len(coopvecs), len(self.experts))
        weights[:, [self.experts.index(name) for name in self.present]] = coopvecs.float()
        return torch.matmul(weights, self.matrix, out=out)


@torch.inference_mode()
def merged_outputs(
    encoder: nn.Module,
    stack: ExpertStack,
    coopvecs: Tensor,
    inputs: Callable[[Tensor], Tensor],
    calibration: Tensor | None = None,
    on_rows: Callable[[int], None] = lambda rows: None,
    batch_size: int = 256,
) -> Tensor:
    """Every query's output under its own merged network.

    Args:
        encoder: any module with the experts' architecture; its values do not matter.
        stack: the experts.
        coopvecs: (queries, experts present).
        inputs: the encoder's inputs for given query positions, (k,) -> (k, ...).
        calibration: inputs to re-estimate BatchNorm's statistics on; None mixes them.
        on_rows: called with the number of queries done since the last call.
        batch_size: most queries that are run at once.

    Returns:
        (queries, dim), float32, on the CPU.
    """
    encoder.eval()
    where = next(encoder.parameters()).device
    unique, group_of = torch.unique(coopvecs, dim=0, return_inverse=True)
    outputs: Tensor | None = None
    entries = stack.matrix.shape[1]
    at_once = max(1, min(MIXED_AT_ONCE, len(unique), MIXED_BYTES // (4 * max(1, entries))))
    buffer = torch.empty(at_once, entries)
    for first in range(0, len(unique), at_once):
        chosen = unique[first : first + at_once]
        for offset, flat in enumerate(stack.mixtures(chosen, buffer[: len(chosen)])):
            state = stack.entries(flat.to(where))
            if calibration is not None:
                state = recalibrated(encoder, state, calibration.to(where))
            for rows in torch.nonzero(group_of == first + offset).flatten().split(batch_size):
                part = functional_call(encoder, state, (inputs(rows).to(where),)).float().cpu()
                if outputs is None:
                    outputs = torch.zeros(len(coopvecs), *part.shape[1:])
                outputs[rows] = part
                on_rows(len(rows))
    return torch.zeros(0, 0) if outputs is None else outputs


def recalibrated(
    encoder: nn.Module, state: dict[str, Tensor], calibration: Tensor
) -> dict[str, Tensor]:
    """A state whose BatchNorm statistics are those of one batch of calibration inputs.

    Args:
        encoder: the architecture; left in eval mode.
        state: the merged network; not changed.
        calibration: inputs, two or more.
    """
    names = [
        f"{name}.{statistic}"
        for name in _statistics(encoder)
        for statistic in ("running_mean", "running_var")
    ]
    fresh = {**state, **{name: state[name].clone() for name in names}}
    # The layers count their batches in place; the encoder must stay as it is.
    counters = {
        f"{name}.num_batches_tracked": layer.num_batches_tracked.clone()
        for name, layer in _statistics(encoder).items()
        if layer.num_batches_tracked is not None
    }
    with _estimating(encoder):
        functional_call(encoder, {**fresh, **counters}, (calibration,))
    return fresh


BatchNorm = nn.modules.batchnorm._BatchNorm


def _statistics(encoder: nn.Module) -> dict[str, BatchNorm]:
    """The layers of an encoder that keep running statistics, by name."""
    return {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, BatchNorm) and module.running_mean is not None
    }


@contextmanager
def _estimating(encoder: nn.Module) -> Iterator[None]:
    """BatchNorm layers take the statistics of the next batch as they are."""
    layers = list(_statistics(encoder).values())
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.train()
            layer.momentum = 1.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.eval()
            layer.momentum = momentum
