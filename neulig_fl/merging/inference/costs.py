"""Which way a layer goes, and in what blocks: by its shape, from measured costs.

Measured on two cores with AVX-512, five experts and 16 samples, each in milliseconds, mixing
included; `plain` is the same layer with one weight for all.

    convolution                 plain  grouped  single  columns
    64 -> 64,   3x3, 56x56       18.3     22.6    25.2    161.3
    128 -> 128, 3x3, 28x28       18.9     22.8    24.3     89.1
    256 -> 256, 3x3, 14x14       16.1     36.8    28.1     44.2
    512 -> 512, 3x3, 7x7         20.4     63.4    62.3     46.3
    2048 -> 512, 1x1, 7x7         8.9     31.2    23.6     16.6
    96 -> 96,   7x7, depthwise    6.0     18.0    29.4        -
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neulig_fl.merging.inference.kernels import Convolution

CACHE_BYTES = 18 * 2**20
"""Mixed weights that are made before they are multiplied; more of them leave the cache."""
BLOCK_ENTRIES = 768 * 384
"""Entries of the block of a linear layer, or of a convolution's `columns`, mixed at a time."""
LEAST_INPUTS = 64
"""Inputs of a block at least: products with fewer spend their time on the output."""
FEW_POSITIONS = 64
"""Up to here the columns of a convolution are small beside its weights."""
LARGE_WEIGHT = 2**19
"""Entries from which a grouped convolution loses more than one call for each sample costs."""
SMALL_WEIGHT = 2**15
"""Entries up to which a grouped convolution is fastest on the smallest maps as well."""


def samples_at_once(entries: int, most: int) -> int:
    """Samples whose mixed weights, `entries` each, are made at a time."""
    return max(1, min(CACHE_BYTES, most) // (4 * entries))


def inputs_at_once(outputs: int, inputs: int) -> int:
    """Inputs of a linear layer whose weights are mixed at a time, for all its outputs."""
    return min(inputs, max(LEAST_INPUTS, BLOCK_ENTRIES // outputs))


def channels_at_once(each: int, outputs: int) -> int:
    """Output channels of `each` entries that are mixed at a time."""
    return max(16, min(outputs, BLOCK_ENTRIES // each))


def way(layer: Convolution, positions: int, cuda: bool) -> str:
    """How a convolution goes.

    Args:
        layer: the convolution.
        positions: output positions of one sample, all its images together.
        cuda: whether it runs on a GPU, where many small calls cost more.

    Returns:
        `columns` (a matrix product), `grouped` (one convolution of all samples), or `single` (one
        convolution a sample).
    """
    plane = len(layer.shape) == 4
    if layer.groups == 1 and (layer.pointwise or (plane and layer.stride == layer.shape[2:])):
        return "columns"
    if layer.groups > 1 or layer.entries <= SMALL_WEIGHT:
        return "grouped"
    if plane and positions <= FEW_POSITIONS:
        return "columns"
    return "single" if layer.entries >= LARGE_WEIGHT and not cuda else "grouped"
