"""Which units of an image encoder are exchangeable, and where they stand in its entries.

The units of a layer can be put in another order, if every entry that makes or reads them follows:
the network computes the same. Known are OpenCLIP's `VisionTransformer` and `ModifiedResNet`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neulig_fl.core.errors import InputError
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Given
from neulig_fl.merging.running_statistics import RUNNING

if TYPE_CHECKING:
    from torch import Tensor

Orders = Mapping[str, "Tensor"]
"""By a set's name, which unit comes to each place, int64 (units,)."""

STREAM = "stream"
NORM = ("weight", "bias", *RUNNING)


@dataclass(frozen=True)
class Axis:
    """An axis of an entry along which units stand.

    Args:
        number: of the axis.
        sets: whose units stand there, one set after the other, equally many of each.
        makes: whether the entry makes the units, or adds to them; else it reads them.
    """

    number: int
    sets: tuple[str, ...]
    makes: bool


@dataclass(frozen=True)
class Bundle:
    """Sets of units that are put in order together.

    Args:
        sets: one set; or those of an attention: first the units of its queries and keys (the same
            unit of both is multiplied, so they stay together), then the units of its values.
        heads: of the attention. Whole heads can change places, and units inside of a head.
        attention: the module; None where it is none.
    """

    sets: tuple[str, ...]
    heads: int = 1
    attention: str | None = None


@dataclass(frozen=True)
class Units:
    """The exchangeable units of one architecture.

    Args:
        sizes: units in each set.
        axes: of every entry, those along which units stand. No set stands on two axes of one entry.
        bundles: every set, in one bundle.
        seen_by: for every set outside attentions, the modules whose inputs are its units.
    """

    sizes: Mapping[str, int]
    axes: Mapping[str, tuple[Axis, ...]]
    bundles: tuple[Bundle, ...]
    seen_by: Mapping[str, tuple[str, ...]]


def units_of(given: Given) -> Units:
    """The units of the model that a method is given.

    Raises:
        InputError: it is neither a plain vision transformer nor a ResNet of CLIP's.
    """
    problem = unfit(given.method, given.entries)
    if problem is not None:
        raise InputError(problem)
    network = given.network()
    found = _found(given.entries, lambda module: int(network.get_submodule(module).num_heads))  # type: ignore[arg-type]
    axes = {name: found.axes[name] for name in given.entries}
    return Units(_sizes(found), axes, tuple(found.bundles), found.seen_by)


def unfit(method: str, entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why a method cannot exchange the units of a model with these entries; None where it can."""
    found = _found(entries, lambda _: 1)
    for name in entries:
        if name not in found.axes:
            known = "OpenCLIP's VisionTransformer (plain blocks) and ModifiedResNet"
            what = f"{method} cannot tell which units the entry {name!r} belongs to"
            return f"{what}; it knows {known}; take a method that mixes entry by entry"
    return None


def _found(entries: Mapping[str, tuple[int, ...]], heads: Callable[[str], int]) -> _Found:
    found = _Found(dict(entries), heads)
    if "class_embedding" in entries:
        _vision_transformer(found)
    elif "attnpool.c_proj.weight" in entries:
        _resnet(found)
    return found


def reordered(value: Tensor, axes: tuple[Axis, ...], orders: Orders) -> Tensor:
    """An entry with its units in another order.

    Args:
        value: the entry.
        axes: its axes.
        orders: of sets; what is missing stays as it is.

    Example:
        >>> weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> reordered(weight, (Axis(0, ("hidden",), True),), {"hidden": torch.tensor([1, 0])})
        tensor([[3., 4.],
                [1., 2.]])
    """
    for axis in axes:
        if any(name in orders for name in axis.sets):
            size = value.shape[axis.number] // len(axis.sets)
            kept = torch.arange(size)
            places = [i * size + orders.get(name, kept) for i, name in enumerate(axis.sets)]
            value = value.index_select(axis.number, torch.cat(places))
    return value


class _Found:
    """What has been found of a model's units so far.

    Args:
        entries: shape of every entry of the model.
        heads: how many heads an attention has, by the module's name.
    """

    def __init__(self, entries: Mapping[str, tuple[int, ...]], heads: Callable[[str], int]) -> None:
        self.entries = entries
        self.heads = heads
        self.axes: dict[str, tuple[Axis, ...]] = {}
        self.bundles: list[Bundle] = []
        self.seen_by: dict[str, tuple[str, ...]] = {}

    def add(self, name: str, *modules: str) -> str:
        """A set of its own, and the modules whose inputs are its units."""
        self.bundles.append(Bundle((name,)))
        self.seen_by[name] = modules
        return name

    def attention(self, module: str) -> tuple[str, str]:
        """The two sets of an attention: of its queries and keys, and of its values."""
        sets = (f"{module}.queries", f"{module}.values")
        self.bundles.append(Bundle(sets, self.heads(module), module))
        return sets

    def entry(self, name: str, *axes: Axis) -> None:
        """Where the units stand in an entry, if the model has it."""
        if name in self.entries:
            self.axes[name] = axes

    def layer(self, name: str, makes: tuple[str, ...], reads: str | None) -> None:
        """A linear layer or a convolution; `makes` is empty where its outputs are fixed."""
        out = (Axis(0, makes, True),) if makes else ()
        into = (Axis(1, (reads,), False),) if reads is not None else ()
        self.entry(f"{name}weight", *out, *into)
        self.entry(f"{name}bias", *out)

    def norm(self, module: str, units: str) -> None:
        """A LayerNorm or a BatchNorm."""
        for name in NORM:
            self.entry(f"{module}.{name}", Axis(0, (units,), True))

    def numbers(self, pattern: str) -> list[int]:
        """Which numbers stand where `pattern` has its group, in ascending order."""
        matches = (re.match(pattern, name) for name in self.entries)
        return sorted({int(match[1]) for match in matches if match})


def _vision_transformer(found: _Found) -> None:
    blocks = [
        f"transformer.resblocks.{i}" for i in found.numbers(r"transformer\.resblocks\.(\d+)\.")
    ]
    stream = found.add(STREAM, *blocks, "ln_post")
    found.entry("class_embedding", Axis(0, (stream,), True))
    found.entry("positional_embedding", Axis(1, (stream,), True))
    found.layer("conv1.", (stream,), None)
    found.norm("ln_pre", stream)
    for block in blocks:
        _transformer_block(found, block, stream)
    found.norm("ln_post", stream)
    found.entry("proj", Axis(0, (stream,), False))


def _transformer_block(found: _Found, block: str, stream: str) -> None:
    queries, values = found.attention(f"{block}.attn")
    hidden = found.add(f"{block}.hidden", f"{block}.mlp.c_proj")
    for norm in ("ln_1", "ln_2"):
        found.norm(f"{block}.{norm}", stream)
    for scale in ("ls_1", "ls_2"):
        found.entry(f"{block}.{scale}.gamma", Axis(0, (stream,), True))
    found.layer(f"{block}.attn.in_proj_", (queries, queries, values), stream)
    found.layer(f"{block}.attn.out_proj.", (stream,), values)
    found.layer(f"{block}.mlp.c_fc.", (hidden,), stream)
    found.layer(f"{block}.mlp.c_proj.", (stream,), hidden)


def _resnet(found: _Found) -> None:
    stages = [f"layer{i}" for i in found.numbers(r"layer(\d+)\.")]
    readers = [*(f"{stage}.0.conv1" for stage in stages), "attnpool"]
    stem = (found.add("stem.1", "conv2"), found.add("stem.2", "conv3"))
    stream = found.add("stem.stream", readers[0])
    for i, (makes, reads) in enumerate(((stem[0], None), (stem[1], stem[0]), (stream, stem[1]))):
        found.layer(f"conv{i + 1}.", (makes,), reads)
        found.norm(f"bn{i + 1}", makes)
    for stage, reader in zip(stages, readers[1:], strict=True):
        before, stream = stream, found.add(f"{stage}.stream", reader)
        for i in found.numbers(rf"{stage}\.(\d+)\."):
            _bottleneck(found, f"{stage}.{i}", before if i == 0 else stream, stream)
    _attention_pool(found, stream)


def _bottleneck(found: _Found, block: str, before: str, after: str) -> None:
    """A block; the skip path makes its inputs' units its outputs', but where it has a layer."""
    first = found.add(f"{block}.first", f"{block}.conv2")
    second = found.add(f"{block}.second", f"{block}.conv3")
    layers = (("1", first, before), ("2", second, first), ("3", after, second))
    for number, makes, reads in layers:
        found.layer(f"{block}.conv{number}.", (makes,), reads)
        found.norm(f"{block}.bn{number}", makes)
    found.layer(f"{block}.downsample.0.", (after,), before)
    found.norm(f"{block}.downsample.1", after)


def _attention_pool(found: _Found, stream: str) -> None:
    queries, values = found.attention("attnpool")
    found.entry("attnpool.positional_embedding", Axis(1, (stream,), True))
    for name, makes in (("q_proj", queries), ("k_proj", queries), ("v_proj", values)):
        found.layer(f"attnpool.{name}.", (makes,), stream)
    found.layer("attnpool.c_proj.", (), values)


def _sizes(found: _Found) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, axes in found.axes.items():
        for axis in axes:
            size = found.entries[name][axis.number] // len(axis.sets)
            for units in axis.sets:
                if sizes.setdefault(units, size) != size:
                    other = f"entry {name!r} has {size} units where others have {sizes[units]}"
                    raise InputError(f"{other} ({units}); give the state dict of one encoder")
    return sizes
