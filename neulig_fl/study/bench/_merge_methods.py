"""The ways to get outputs that `bench merge` compares, from one forward pass to a network each.

Each is a function of the subject and of how many of its samples, the first ones, it is to do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from neulig_fl.merging.inference import superposed
from neulig_fl.merging.portland import mix
from neulig_fl.study.bench._merge_subject import Subject, expert_outputs

VMAP_BYTES = 4 * 2**30
"""Most memory that the merged networks of one `vmap` call take; more samples are left out."""

RELEASED_SAMPLES = 4
"""The released procedure takes so long that a few samples have to do."""

Call = Callable[[Subject, int], Tensor]


def plain_batch(subject: Subject, samples: int) -> Tensor:
    """One model on all samples at once, (samples, dim)."""
    found: Tensor = subject.encoder(subject.inputs[:samples])
    return found


def plain_one_by_one(subject: Subject, samples: int) -> Tensor:
    """One model on a sample at a time, (samples, dim)."""
    return torch.cat([subject.encoder(each) for each in subject.inputs[:samples].split(1)])


def ensemble(subject: Subject, samples: int) -> Tensor:
    """Every expert on all samples, (samples, experts, dim)."""
    return expert_outputs(subject.encoder, subject.states, subject.inputs[:samples])


def batched(subject: Subject, samples: int) -> Tensor:
    """Batched merged inference: each sample under its own merged parameters, (samples, dim)."""
    coopvecs, inputs = subject.coopvecs[:samples], subject.inputs[:samples]
    return superposed(subject.encoder, subject.stack, coopvecs, inputs)


def one_at_a_time(subject: Subject, samples: int) -> Tensor:
    """Mix a whole network for a sample, in the same memory each time, and run it by itself."""
    found = []
    for coopvec, image in _each(subject, samples):
        (flat,) = torch.matmul(coopvec, subject.plain, out=subject.buffer)
        found.append(functional_call(subject.encoder, subject.named(flat), (image,)))
    return torch.cat(found)


def vmapped(subject: Subject, samples: int) -> Tensor:
    """Mix whole networks for all samples, and run them with `torch.func.vmap`."""
    coopvecs = subject.coopvecs[:samples]
    states = {
        name: torch.tensordot(coopvecs, experts, dims=1)
        for name, experts in subject.named(subject.plain).items()
    }

    def one(state: dict[str, Tensor], image: Tensor) -> Tensor:
        found: Tensor = functional_call(subject.encoder, state, (image[None],))[0]
        return found

    with _attention_for_vmap(subject.inputs.device):
        found: Tensor = torch.vmap(one)(states, subject.inputs[:samples])
    return found


def released(subject: Subject, samples: int) -> Tensor:
    """As the paper's released code merges, but for every sample and in eval mode.

    A new network, the experts' state dicts summed entry by entry, then loaded into it.
    """
    found = []
    for coopvec, image in _each(subject, samples):
        network, merged = copy.deepcopy(subject.encoder), {}
        for name in subject.states[0]:
            merged[name] = torch.zeros_like(subject.states[0][name])
            for weight, state in zip(coopvec[0], subject.states, strict=True):
                merged[name] = merged[name] + weight * state[name]
        network.load_state_dict(merged, strict=False)  # counters of batches are no one's to merge
        found.append(network(image))
    return torch.cat(found)


def stage(subject: Subject, samples: int) -> Tensor:
    """All that a stage evaluates: experts' outputs, CoopVecs, ensemble and merged model.

    Returns:
        The ensemble's and the merged models' outputs, (2, samples, dim).
    """
    outputs = ensemble(subject, samples)
    coopvecs = subject.portland.coopvecs(outputs)
    merged = superposed(subject.encoder, subject.stack, coopvecs, subject.inputs[:samples])
    return torch.stack([mix(coopvecs, outputs), merged])


@dataclass(frozen=True)
class Method:
    """A way to get outputs.

    Args:
        call: what it runs, on the first so many samples.
        most: samples that it does in one call.
        merges: whether it gives the outputs of every sample's own merged network.
        may_fail: whether it is left out where torch cannot do it.
    """

    call: Call
    most: Callable[[Subject], int] = lambda subject: len(subject.inputs)
    merges: bool = False
    may_fail: bool = False

    def samples(self, subject: Subject) -> int:
        """How many of the subject's samples it does in one call."""
        return max(1, min(len(subject.inputs), self.most(subject)))


METHODS = {
    "plain-batch": Method(plain_batch),
    "plain-one-by-one": Method(plain_one_by_one),
    "batched": Method(batched, merges=True),
    "ensemble": Method(ensemble),
    "stage": Method(stage),
    "one-at-a-time": Method(one_at_a_time, merges=True),
    "released": Method(released, lambda subject: RELEASED_SAMPLES, merges=True),
    "vmap": Method(vmapped, lambda subject: VMAP_BYTES // (4 * subject.entries), True, True),
}
"""By name; in the order of the memory that they take, which is that of the first round."""

SINGLE = ("plain-batch", "plain-one-by-one")
"""Two ways to run one model; the faster is what everything is compared with."""


def _each(subject: Subject, samples: int) -> Iterator[tuple[Tensor, Tensor]]:
    """CoopVec (1, experts) and image (1, ...) of every sample."""
    coopvecs, inputs = subject.coopvecs[:samples], subject.inputs[:samples]
    yield from zip(coopvecs.split(1), inputs.split(1), strict=True)


@contextmanager
def _attention_for_vmap(where: torch.device) -> Iterator[None]:
    """On a CPU `vmap` cannot batch the fused kernels of attention; plain ones are faster there."""
    if where.type != "cpu":
        yield
        return
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
