"""Merged inference on many queries: which run together, and in what batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from neulig_fl.merging.inference.batch_norm import estimating, layers, recalibrated
from neulig_fl.merging.inference.network import AS_IT_IS, Merging, images_superposed, shared_names
from neulig_fl.merging.inference.stack import ExpertStack

INPUT_BYTES = 32 * 2**20
"""Inputs of one batch of merged networks; activations are a few times as much."""
ONE_HOT = 1.0 - 2.0**-24
"""From here on the other experts' share is lost in float32's rounding."""

Inputs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Job:
    """What is run on many queries.

    Args:
        encoder: the architecture.
        stack: the experts.
        inputs: the encoder's inputs for given query positions.
        calibration: inputs to re-estimate BatchNorm's statistics on; None mixes them.
        merging: options of the engine.
        batch_size: most queries that are run at once.
    """

    encoder: nn.Module
    stack: ExpertStack
    inputs: Inputs
    calibration: Tensor | None
    merging: Merging
    batch_size: int

    @cached_property
    def at_once(self) -> int:
        """How many queries are run at once, so that their inputs take no more than their share."""
        one = self.inputs(torch.zeros(1, dtype=torch.int64))
        return max(1, min(self.batch_size, INPUT_BYTES // (one.element_size() * one.numel())))

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        entries: dict[str, Tensor] = self.encoder.state_dict()
        return next(iter(entries.values())).device


@torch.no_grad()
def merged_outputs(
    encoder: nn.Module,
    stack: ExpertStack,
    coopvecs: Tensor,
    inputs: Inputs,
    calibration: Tensor | None = None,
    on_rows: Callable[[int], None] = lambda rows: None,
    batch_size: int = 256,
    merging: Merging = AS_IT_IS,
) -> Tensor:
    """Every query's output under its own merged network.

    Queries with the same CoopVec are run together; where it names one expert alone, as that expert.

    Args:
        encoder: any module with the experts' architecture; its values do not matter.
        stack: the experts.
        coopvecs: (queries, experts present).
        inputs: the encoder's inputs for given query positions, (k,) -> (k, ...).
        calibration: inputs to re-estimate BatchNorm's statistics on; None mixes them.
        on_rows: called with the number of queries done since the last call.
        batch_size: most queries that are run at once.
        merging: options of the engine.

    Returns:
        (queries, dim), float32, on the CPU.

    Raises:
        NotCovered: batched merged inference cannot run this model.
    """
    encoder.eval()
    unique, group_of = torch.unique(coopvecs, dim=0, return_inverse=True)
    job = _Job(encoder, stack, inputs, calibration, merging, batch_size)
    outputs: Tensor | None = None
    for rows, found in _outputs(job, unique, group_of):
        if outputs is None:
            outputs = torch.zeros(len(coopvecs), *found.shape[1:])
        outputs[rows] = found.float().cpu()
        on_rows(len(rows))
    return torch.zeros(0, 0) if outputs is None else outputs


def _outputs(job: _Job, unique: Tensor, group_of: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(query positions, their outputs), batch by batch."""
    groups = [torch.nonzero(group_of == g).flatten() for g in range(len(unique))]
    for g, rows in enumerate(groups):
        if job.merging.method == "one-at-a-time" or _one_hot(unique[g]):
            yield from _one_network(job, unique[g], rows)
            groups[g] = rows[:0]
    for size in sorted({len(rows) for rows in groups} - {0}):
        alike = torch.tensor([g for g, rows in enumerate(groups) if len(rows) == size])
        for chosen in alike.split(max(1, job.at_once // size)):
            places = torch.stack([groups[g] for g in chosen.tolist()])
            yield from _many_networks(job, unique[chosen], places)


def _one_hot(coopvec: Tensor) -> bool:
    return float(coopvec.max()) >= ONE_HOT and float(coopvec.abs().sum()) < 2.0 - ONE_HOT


def _one_network(job: _Job, coopvec: Tensor, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """One merged network as it is, or one expert."""
    stack = job.stack
    if _one_hot(coopvec):
        entries = stack.of(stack.present[int(coopvec.argmax())])
    else:
        entries = stack.entries(stack.mixtures(coopvec[None])[0])
    own, tied = job.encoder.state_dict(), shared_names(job.encoder)
    state = {name: entries[tied[name]].to(job.device, own[name].dtype) for name in entries}
    if job.calibration is not None and layers(job.encoder):
        state = recalibrated(job.encoder, state, job.calibration.to(job.device))
    for part in rows.split(job.batch_size):
        inputs = (job.inputs(part).to(job.device),)
        yield part, functional_call(job.encoder, state, inputs, tie_weights=False)


def _many_networks(job: _Job, coopvecs: Tensor, places: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Merged networks side by side; `places` (networks, queries of each)."""
    given = _statistics(job, coopvecs)
    for part in places.split(job.at_once, dim=1):
        rows = part.flatten()
        images = job.inputs(rows).to(job.device).unflatten(0, part.shape)
        found, _ = images_superposed(job.encoder, job.stack, coopvecs, images, job.merging, given)
        yield rows, found.flatten(0, 1)


def _statistics(job: _Job, coopvecs: Tensor) -> dict[str, Tensor]:
    """BatchNorm's statistics of every network, (networks, channels), if they are estimated."""
    if job.calibration is None or not layers(job.encoder):
        return {}
    images = job.calibration.to(job.device)[None]
    found = []
    with estimating(job.encoder):
        for each in coopvecs.split(1):
            _, statistics = images_superposed(job.encoder, job.stack, each, images, job.merging)
            found.append(statistics)
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}
