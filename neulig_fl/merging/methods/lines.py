"""LiNeS: the sum of the task vectors, scaled up linearly with depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from neulig_fl.config.values import Number
from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._depths import KNOWN, blocks, depths
from neulig_fl.merging.methods._statistics import parameters, with_statistics

SOURCE = "arXiv:2410.17146"
NEEDS = Needs(sums=("parameters",), start=True)
AGREES = False  # deep blocks are scaled beyond the mean

Alpha = Annotated[
    Number | None,
    Field(description="Weight in the first block; null for one over the number of experts."),
]
Beta = Annotated[Number, Field(description="What the last block's weight has above the first's.")]


def merge(given: Given, *, alpha: Alpha = None, beta: Beta = 0.5) -> Entries:
    """Scale by depth: theta = theta_0 + (alpha + beta * l / (L - 1)) * sum_t tau_t in block l of L.

    The sum of the task vectors is T times the difference of the experts' mean to theta_0, so sums
    of parameters are enough. Blocks are counted from 0 in the order in which they run, which is
    read from the entries' names: `resblocks.N.`, `blocks.N.`, `encoder.layer.N.`, `h.N.` and so on
    of a transformer, whose parts can be numbered within a block (`layers.N.0.` and `layers.N.1.`);
    `layers.S.blocks.N.` of a Swin, `layerS.N.` or `stages.S.blocks.N.` of a convolutional network
    in order of S and then N, which the paper does not speak of; downsampling between blocks counts
    to a block beside it. A model whose blocks are not known by their names, or stand in several
    places (a text tower beside an image tower), is refused. Every entry outside of the blocks,
    before or after them, has depth 0, as in the paper's code: embeddings, the stem, the last norm,
    the projection, attention pooling. BatchNorm's running statistics are averaged, not scaled.

    alpha is 1/T as in the paper. The paper chooses beta on validation data, from 0.1 to 1; 0.5 is
    the middle.

    Args:
        given: the mean of every entry, and theta_0.
        alpha: weight in the first block and outside of the blocks; None for 1/T.
        beta: what is added to it in the last block.

    Yields:
        Every entry of the merged model.

    Raises:
        InputError: the model's blocks, or their order, are not known.

    Source: arXiv:2410.17146, sections 3 and 4; github.com/wang-kee/LiNeS.
    """
    yield from with_statistics(given, _scaled(parameters(given), alpha, beta))


def extension(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """How the rule is extended to a model with these entries; None where it is the paper's."""
    if unfit(entries) is not None:
        return None
    staged = any(block.stage >= 0 for block in blocks(entries).values())
    return (
        "blocks in stages, as a ResNet has, take the place of a transformer's" if staged else None
    )


def unfit(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why the rule does not know a model with these entries; None where it does."""
    try:
        blocks(entries)
    except InputError as error:
        next_step = "take task-arithmetic, which has one weight for all entries"
        return f"lines scales a model by depth, and {error}; known are {KNOWN}; {next_step}"
    return None


def _scaled(given: Given, alpha: float | None, beta: float) -> Entries:
    problem = unfit(given.entries)
    if problem is not None:
        raise InputError(problem)
    count = len(given.experts)
    first = 1 / count if alpha is None else alpha
    depth = depths(given.entries)
    for name in given.entries:
        start = given.start(name)
        weight = (first + beta * depth[name]) * count
        yield name, start + weight * (given.mean(name) - start)
