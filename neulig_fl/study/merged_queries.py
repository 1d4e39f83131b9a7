"""Portland's training queries through their merged models, for `objective_on: merge` and `both`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from neulig_fl.merging.inference import ExpertStack, Merging, superposed
from neulig_fl.merging.inference.by_hand import BatchNormByHand
from neulig_fl.merging.portland import MergedLogits, to_logits
from neulig_fl.models.families import Family, device
from neulig_fl.server.released_records import Questions, ReleasedRecords

INPUT_BYTES = 4 * 2**20
"""Inputs of merged models whose activations are kept at a time; those are many times as much."""


@dataclass(frozen=True)
class MergedQueries:
    """Merged models of the experts that Portland reads; exact, whatever `merging.tolerance` says.

    Args:
        family: the model.
        encoder: its architecture, in eval mode, where the merged models run.
        stack: the parameters that were released; those of other experts too.
        experts: whose CoopVec entries there are, in order.
        merging: how merged models are run.
        on_rows: called with the number of queries done since the last call.
    """

    family: Family
    encoder: nn.Module
    stack: ExpertStack
    experts: tuple[str, ...]
    merging: Merging
    on_rows: Callable[[int], object]

    def logits(self, question: Questions, head: Tensor) -> MergedLogits:
        """The merged models' logits of a block's queries, as a function for `portland.train`.

        Merged models give features, whatever Portland reads; the head gives them logits.

        Args:
            question: the queries' images.
            head: of the classes that compete, (classes, dim).
        """

        def merged(rows: Tensor, coopvecs: Tensor) -> Tensor:
            at_once = self._at_once
            wide, features = self.stack.over_present(coopvecs, self.experts), []
            for some, beta in zip(rows.split(at_once), wide.split(at_once), strict=True):
                run = partial(self._features, question, some)
                features.append(run(beta) if len(rows) <= at_once else _made_again(run, beta))
                self.on_rows(len(some))
            return to_logits(torch.cat(features), head, None)

        return merged

    @property
    def _at_once(self) -> int:
        if self.merging.method == "one-at-a-time":
            return 1
        return max(1, INPUT_BYTES // (4 * 3 * self.family.image_size**2))

    def _features(self, question: Questions, rows: Tensor, coopvecs: Tensor) -> Tensor:
        """(queries, dim), float32, on the CPU."""
        where = next(self.encoder.parameters()).device
        inputs = self.family.normalise(question.images[rows.numpy()]).to(where)
        if self.merging.method == "one-at-a-time":
            found = self._one_network(inputs, coopvecs)
        else:
            found = superposed(self.encoder, self.stack, coopvecs, inputs, self.merging)
        return found.float().cpu()

    def _one_network(self, inputs: Tensor, coopvec: Tensor) -> Tensor:
        """One query's output, its merged network written out; coopvec is (1, experts present)."""
        own = self.encoder.state_dict()
        entries = self.stack.entries(self.stack.mixtures(coopvec)[0])
        state = {name: v.to(inputs.device, own[name].dtype) for name, v in entries.items()}
        with BatchNormByHand():
            found: Tensor = functional_call(self.encoder, state, (inputs,))
        return found


def _made_again(run: Callable[[Tensor], Tensor], coopvecs: Tensor) -> Tensor:
    """Run without keeping activations: for the gradients they are computed once more."""
    found: Tensor = checkpoint(run, coopvecs, use_reentrant=True, preserve_rng_state=False)
    return found


def open_merged(
    released: ReleasedRecords,
    group: str,
    experts: tuple[str, ...],
    on_rows: Callable[[int], object] = lambda rows: None,
) -> MergedQueries:
    """The merged models of a group's experts.

    Args:
        released: the records; the parameters of all `experts` are among it.
        group: whose experts.
        experts: those that Portland reads, in order.
        on_rows: called with the number of queries done since the last call.
    """
    family, options = released.setting.family, released.setting.scenario.merging
    merging = Merging(options.method, buffer_mib=options.buffer_mib)
    encoder = family.encoder().to(device())
    return MergedQueries(family, encoder, released.stacks[group], experts, merging, on_rows)
