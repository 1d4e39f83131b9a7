"""BatchNorm's running statistics, estimated again for a merged network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.func import functional_call

from neulig_fl.merging.running_statistics import RUNNING

BatchNorm = nn.modules.batchnorm._BatchNorm

CALIBRATION_QUERIES = 256
"""Pool queries, evenly from all tasks, on which running statistics are estimated again."""


def recalibrated(
    encoder: nn.Module, state: dict[str, Tensor], calibration: Tensor
) -> dict[str, Tensor]:
    """A state whose BatchNorm statistics are those of one batch of calibration inputs.

    Args:
        encoder: the architecture; left in eval mode.
        state: the merged network; not changed.
        calibration: inputs, two or more.
    """
    fresh = {**state, **{name: state[name].clone() for name in statistics(layers(encoder))}}
    with estimating(encoder):
        functional_call(encoder, fresh, (calibration,), tie_weights=False)
    return fresh


def layers(encoder: nn.Module) -> dict[str, BatchNorm]:
    """The layers of an encoder that keep running statistics, by name."""
    return {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, BatchNorm) and module.running_mean is not None
    }


def statistics(names: Iterable[str]) -> list[str]:
    """The entries that hold the running statistics of layers with these names."""
    return [f"{name}.{statistic}".lstrip(".") for name in names for statistic in RUNNING]


@contextmanager
def estimating(encoder: nn.Module) -> Iterator[None]:
    """BatchNorm layers normalise by the next batch, keep its statistics and count nothing."""
    changed = list(layers(encoder).values())
    before = [(layer.momentum, layer.num_batches_tracked) for layer in changed]
    try:
        for layer in changed:
            layer.train()
            layer.momentum, layer.num_batches_tracked = 1.0, None
        yield
    finally:
        for layer, (momentum, count) in zip(changed, before, strict=True):
            layer.eval()
            layer.momentum, layer.num_batches_tracked = momentum, count
