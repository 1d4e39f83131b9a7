"""Runs an unmodified model in which every parameter is a mixture."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neulig_fl.merging.inference import operations
from neulig_fl.merging.inference.batch_norm import layers, statistics
from neulig_fl.merging.inference.mixture import Evaluation, Mixture, NotCovered
from neulig_fl.merging.inference.stack import ExpertStack


@dataclass(frozen=True)
class Merging:
    """How merged models are run; it changes nothing but time and memory.

    Args:
        method: `batched` (all samples at once) or `one-at-a-time` (a network each).
        buffer_mib: the most that mixed weights may take at a time, MiB.
    """

    method: Literal["batched", "one-at-a-time"] = "batched"
    buffer_mib: int = 256


AS_IT_IS = Merging()
"""Exact, in the usual memory."""


def superposed(
    encoder: nn.Module,
    stack: ExpertStack,
    coopvecs: Tensor,
    inputs: Tensor,
    merging: Merging = AS_IT_IS,
) -> Tensor:
    """f(sum_t beta_t theta_t, x) for every sample of a batch, each with its own CoopVec.

    Differentiable in the CoopVecs and the inputs.

    Args:
        encoder: any module with the experts' architecture, in eval mode; its values do not matter.
        stack: the experts.
        coopvecs: (samples, experts that are here).
        inputs: (samples, ...).
        merging: how much memory mixed weights may take.

    Returns:
        (samples, ...), in the encoder's dtype.

    Raises:
        NotCovered: the model does something with a parameter that is not covered; names the
            module, the operation and the way out.
    """
    return images_superposed(encoder, stack, coopvecs, inputs[:, None], merging)[0][:, 0]


def images_superposed(
    encoder: nn.Module,
    stack: ExpertStack,
    coopvecs: Tensor,
    inputs: Tensor,
    merging: Merging,
    given: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The same for several images of a sample, which share its merged network.

    Args:
        encoder: in eval mode, but for BatchNorm layers whose statistics are to be estimated.
        stack: the experts.
        coopvecs: (samples, experts that are here).
        inputs: (samples, images, ...).
        merging: how much memory mixed weights may take.
        given: values to take for some entries, (samples, *shape), instead of mixtures.

    Returns:
        (samples, images, ...), and estimated statistics by entry, (samples, channels).
    """
    given = dict(given or {})
    coopvecs = stack.over_all(coopvecs.to(inputs.device))
    evaluation = Evaluation(len(inputs), merging.buffer_mib * 2**20, coopvecs)
    mixtures = _mixtures(encoder, stack, evaluation, given)

    def one(
        coopvec: Tensor, images: Tensor, given: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        evaluation.coopvec = coopvec
        with _standing_in(encoder, {**mixtures, **given}):
            found: Tensor = encoder(images)
        return found, dict(evaluation.statistics)

    with _explained(encoder), _no_fallback(), operations.Unweighted():
        found: tuple[Tensor, dict[str, Tensor]] = torch.vmap(one)(coopvecs, inputs, given)
    return found


def _mixtures(
    encoder: nn.Module, stack: ExpertStack, evaluation: Evaluation, given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Every entry as a mixture, or as it is where all experts have the same.

    Equal values keep their value under weights that sum to 1, and only under those; and they have
    no gradient in the weights.
    """
    coopvecs = evaluation.coopvec
    convex = bool(((coopvecs.detach().sum(dim=1) - 1.0).abs() < 1e-5).all())
    alike = stack.alike() if convex and not coopvecs.requires_grad else {}
    first = stack.experts.index(stack.present[0])
    own, tied = encoder.state_dict(), shared_names(encoder)
    estimated = statistics(name for name, layer in layers(encoder).items() if layer.training)
    stacked = stack.stacked()
    found: dict[str, Tensor] = {}
    for name in stacked:
        if name in given:
            continue
        experts = stacked[tied[name]]
        dtype, device = own[name].dtype, evaluation.coopvec.device
        if alike.get(name) and name not in estimated:
            found[name] = stack.entry(name, experts[first]).to(device, dtype)
        else:
            found[name] = Mixture(name, experts, stack.shapes[name], dtype, evaluation)
    return found


def shared_names(encoder: nn.Module) -> dict[str, str]:
    """For every entry the name that counts: of several names of one parameter it is the last.

    That is the one whose value `load_state_dict` leaves in the parameter.
    """
    held = encoder.state_dict(keep_vars=True)
    last = {id(value): name for name, value in held.items()}
    return {name: last[id(value)] for name, value in held.items()}


@contextmanager
def _standing_in(encoder: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Put other tensors in the place of parameters and buffers; they are put back."""
    before: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, value in values.items():
            owner, _, leaf = name.rpartition(".")
            module = encoder.get_submodule(owner)
            held: dict[str, Any] = (
                module._parameters if leaf in module._parameters else module._buffers
            )
            before.append((held, leaf, held[leaf]))
            held[leaf] = value
        yield
    finally:
        for held, leaf, value in reversed(before):
            held[leaf] = value


@contextmanager
def _no_fallback() -> Iterator[None]:
    """Torch would run an operation that `vmap` does not know sample by sample, and only warn.

    The fused layers of `nn.MultiheadAttention` are such an operation; without them it calls
    `multi_head_attention_forward`.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*not yet implemented the batching rule")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def _explained(encoder: nn.Module) -> Iterator[None]:
    """Say in which module of the model something is not covered, and what to do."""
    try:
        yield
    except (NotCovered, RuntimeError, UserWarning) as error:
        vmap = (
            isinstance(error, NotCovered) or "vmap" in str(error) or "batching rule" in str(error)
        )
        if not vmap:
            raise
        what = str(error).strip().splitlines()[0]
        raise NotCovered(
            "batched merged inference does not cover what "
            f"{_module(encoder, error.__traceback__)} does: {what}; "
            "write merging.method: one-at-a-time to run this model"
        ) from error


def _module(encoder: nn.Module, trace: TracebackType | None) -> str:
    """The innermost module of the encoder that was running."""
    names = {id(module): name for name, module in encoder.named_modules()}
    found = "the model"
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and id(module) in names:
            name, kind = names[id(module)], type(module).__name__
            found = f"module {name} ({kind})" if name else f"the model ({kind})"
        trace = trace.tb_next
    return found
