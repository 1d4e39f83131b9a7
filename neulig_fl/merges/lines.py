"""LiNeS: the sum of the task vectors, scaled up linearly with depth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from neulig_fl.merges import Entries, Given, Needs
from neulig_fl.merges._statistics import parameters, with_statistics
from neulig_fl.scenario_values import Number

SOURCE = "arXiv:2410.17146"
NEEDS = Needs(sums=("parameters",), start=True)
AGREES = False  # deep blocks are scaled beyond the mean

Alpha = Annotated[
    Number | None,
    Field(description="Weight in the first block; null for one over the number of experts."),
]
Beta = Annotated[Number, Field(description="What the last block's weight has above the first's.")]

_BLOCK = re.compile(r"(?:^|\.)(?:layer(\d+)|(?:stages\.(\d+)\.)?(?:res)?blocks)\.(\d+)\.")


def merge(given: Given, *, alpha: Alpha = None, beta: Beta = 0.5) -> Entries:
    """Scale by depth: theta = theta_0 + (alpha + beta * l / (L - 1)) * sum_t tau_t in block l of L.

    The sum of the task vectors is T times the difference of the experts' mean to theta_0, so sums
    of parameters are enough. Blocks are counted from 0 by the entries' names: `resblocks.N.` or
    `blocks.N.` of a ViT, in order of N; `layerS.N.` of the CLIP ResNet (`stages.S.blocks.N.` of
    others), in order of S and then N, which the paper does not speak of. Every entry outside of the
    blocks, before or after them, has depth 0, as in the paper's code: embeddings, the stem, the
    last norm, the projection, attention pooling. BatchNorm's running statistics are averaged, not
    scaled.

    alpha is 1/T as in the paper. The paper chooses beta on validation data, from 0.1 to 1; 0.5 is
    the middle.

    Args:
        given: the mean of every entry, and theta_0.
        alpha: weight in the first block and outside of the blocks; None for 1/T.
        beta: what is added to it in the last block.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2410.17146, sections 3 and 4; github.com/wang-kee/LiNeS.
    """
    yield from with_statistics(given, _scaled(parameters(given), alpha, beta))


def extension(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """How the rule is extended to a model with these entries; None where it is the paper's."""
    blocks = _blocks(entries)
    if len(set(blocks.values())) < 2:
        return "no blocks are known by their names, so that every entry has alpha's weight"
    staged = any(stage for stage, _ in blocks.values())
    return "the blocks of a ResNet take the place of a transformer's" if staged else None


def depths(entries: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Depth of every entry: from 0 in the first block to 1 in the last, and 0 outside of them.

    Example:
        >>> depths({"layer1.0.w": (), "layer1.1.w": (), "layer2.0.w": (), "proj": ()})
        {'layer1.0.w': 0.0, 'layer1.1.w': 0.5, 'layer2.0.w': 1.0, 'proj': 0.0}
    """
    blocks = _blocks(entries)
    order = {block: i for i, block in enumerate(sorted(set(blocks.values())))}
    last = max(1, len(order) - 1)
    return {name: order[blocks[name]] / last if name in blocks else 0.0 for name in entries}


def _scaled(given: Given, alpha: float | None, beta: float) -> Entries:
    count = len(given.experts)
    first = 1 / count if alpha is None else alpha
    depth = depths(given.entries)
    for name in given.entries:
        start = given.start(name)
        weight = (first + beta * depth[name]) * count
        yield name, start + weight * (given.mean(name) - start)


def _blocks(entries: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    """The stage and the number of the block that an entry is in, where it is in one."""
    found = {name: _BLOCK.search(name) for name in entries}
    return {
        name: (int(match[1] or match[2] or 0), int(match[3]))
        for name, match in found.items()
        if match
    }
