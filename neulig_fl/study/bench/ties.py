"""TIES over five experts, beside `torch.kthvalue` over the same task vectors.

TIES keeps the largest numbers of each whole task vector. `kthvalue` finds the least of them in a
flat copy of the vector; that is what the comparison is with, flattening left out. The merge finds
it by streaming, without a flat copy, and does all the rest as well. The entries are those of
ViT-B-32's image encoder with fewer blocks; both go by turns, on one thread, whose own seconds (CPU
time) count, so that other work on the machine does not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from neulig_fl.merging import methods
from neulig_fl.merging.methods import Given, StateDicts
from neulig_fl.study.bench import Measurement

REPEATS = 3
EXPERTS = 5
BLOCKS = 3
WIDTH = 768
GOAL = 1.5
METHOD = "ties"


def measure(repeats: int = REPEATS, blocks: int = BLOCKS, width: int = WIDTH) -> Measurement:
    """Merge, and find the thresholds alone, in turn.

    Args:
        repeats: of each; the median of the ratios counts. One more goes before them to warm up.
        blocks: of the encoder.
        width: of the encoder.
    """
    source = experts(blocks, width)
    with _one_thread():
        pairs = [(_merge(source), _thresholds(source)) for _ in range(repeats + 1)][1:]
    ratios = [merge / kth for merge, kth in pairs]
    figure = statistics.median(ratios)
    numbers = sum(value.numel() for value in source.models["expert-0"].values())
    return Measurement(
        name="ties",
        what=f"TIES over {EXPERTS} experts",
        figure=figure,
        unit="of torch.kthvalue over the same task vectors",
        goal=f"under {GOAL:g}",
        met=figure < GOAL,
        values=ratios,
        details={
            "million numbers of an expert": numbers / 1e6,
            "seconds of TIES": statistics.median(merge for merge, _ in pairs),
            "seconds of kthvalue": statistics.median(kth for _, kth in pairs),
        },
    )


def shapes(blocks: int, width: int) -> dict[str, tuple[int, ...]]:
    """The entries of a ViT like ViT-B-32's, with so many blocks."""
    found: dict[str, tuple[int, ...]] = {
        "positional_embedding": (50, width),
        "proj": (width, 512),
        "conv1.weight": (width, 3, 32, 32),
    }
    for number in range(blocks):
        block = f"transformer.resblocks.{number}"
        found |= {
            f"{block}.ln_1.weight": (width,),
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.out_proj.weight": (width, width),
            f"{block}.mlp.c_fc.weight": (4 * width, width),
            f"{block}.mlp.c_proj.weight": (width, 4 * width),
        }
    return found


def experts(blocks: int, width: int) -> StateDicts:
    """Random experts around a random checkpoint."""
    generator = torch.Generator().manual_seed(0)
    start = {
        name: 0.02 * torch.randn(shape, generator=generator)
        for name, shape in shapes(blocks, width).items()
    }
    models = {
        f"expert-{number}": {
            name: value + 1e-3 * torch.randn(value.shape, generator=generator)
            for name, value in start.items()
        }
        for number in range(EXPERTS)
    }
    return StateDicts(models, checkpoint=start)


def _merge(source: StateDicts) -> float:
    """Seconds of the merge; what comes out is dropped, entry by entry."""
    module = methods.load(METHOD)
    given = Given(source, module.NEEDS, METHOD)
    options = methods.arguments(module.merge, methods.settings(module, {}))
    start = time.thread_time()
    for _ in module.merge(given, **options):
        pass
    return time.thread_time() - start


def _thresholds(source: StateDicts) -> float:
    """Seconds of kthvalue, of every expert's flat task vector."""
    density, seconds = methods.settings(methods.load(METHOD), {})["density"], 0.0
    for model in source.models.values():
        flat = _flat(model, source).abs_()
        rank = len(flat) - int(density * len(flat))
        start = time.thread_time()
        flat.kthvalue(rank)
        seconds += time.thread_time() - start
    return seconds


def _flat(model: Mapping[str, Tensor], source: StateDicts) -> Tensor:
    return torch.cat([(model[name] - source.start(name)).flatten() for name in source.entries])


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
