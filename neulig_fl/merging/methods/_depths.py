"""How deep in a network every entry stands: its blocks are found by the names of the entries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from neulig_fl.core.errors import InputError

_WHERE = r"^(?P<where>(?:[^.]*[^.\d][^.]*\.)*?)"  # no segment of it is a number
_STAGED = tuple(
    re.compile(_WHERE + pattern)
    for pattern in (
        r"(?:stages|layers|blocks)\.(?P<stage>\d+)\.(?:(?:blocks|layers)\.)?(?P<block>\d+)\.",
        r"layer(?P<stage>\d+)\.(?P<block>\d+)\.",
    )
)
_PLAIN = re.compile(
    _WHERE + r"(?:(?:resblocks|blocks|block|layers|layer|h)\.|encoder_layer_)(?P<block>\d+)\."
)
_PARTS = re.compile(_WHERE + r"(?:blocks|layers)\.(?P<block>\d+)\.(?P<part>\d+)\.(?P<rest>.+)")
_STAGE = re.compile(_WHERE + r"(?:stages|layers|blocks)\.(?P<stage>\d+)\.")
_BRANCHES = re.compile(r"(?:^|\.)blocks\.\d+\.blocks\.\d+\.\d+\.")
_OTHERS = re.compile(_WHERE + r"(?P<list>\w+_blocks(?:_\w+)?|blocks_\w+)\.\d+\.")
_EMBEDDING = re.compile(r"(?:^|\.)patch_embed\.")

KNOWN = (
    "resblocks.N, blocks.N, block.N, layers.N, layer.N, h.N, encoder_layer_N, layers.N.P, "
    "layerS.N, stages.S.N, stages.S.blocks.N, stages.S.layers.N, layers.S.blocks.N, blocks.S.N"
)
"""The names of blocks that are known; S counts stages, P parts within a block."""


@dataclass(frozen=True, order=True)
class Block:
    """One block of a network, in the order in which blocks run.

    Args:
        stage: its number; -1 where the blocks are not in stages.
        number: in its stage.
    """

    stage: int
    number: int


def blocks(entries: Iterable[str]) -> dict[str, Block]:
    """The block of every entry that is in one.

    What is in a stage and in none of its blocks (mostly downsampling) counts to the stage's first
    block; to its last one where the first stage has such entries and the last stage has none, so
    that they end stages. A stem of blocks inside of a patch embedding is an embedding.

    Args:
        entries: names of a model's entries.

    Raises:
        InputError: there are not two blocks that are known, or they are of several networks, whose
            order names do not tell.

    Example:
        >>> found = blocks(["stem.w", "layers.0.blocks.0.w", "layers.1.blocks.0.w", "layers.1.w"])
        >>> [(name, block.stage, block.number) for name, block in found.items()]
        [('layers.0.blocks.0.w', 0, 0), ('layers.1.blocks.0.w', 1, 0), ('layers.1.w', 1, 0)]
    """
    names = [name for name in entries if not _EMBEDDING.search(name)]
    matches = _matches(names)
    places: dict[str, str] = {}
    for name, match in matches.items():
        places.setdefault(match["where"], name)
    for name in names:
        if other := _OTHERS.match(name):
            places.setdefault(other["where"] + other["list"], name)  # CaiT's, XCiT's
    found = {name: _block(match) for name, match in matches.items()}
    if len(set(found.values())) < 2:
        raise InputError(f"no two blocks are known by the names of its entries: {_some(names)}")
    if len(places) > 1:
        raise InputError(
            "its blocks stand in several places, and names do not tell which of them runs first: "
            f"{_some(list(places.values()))}"
        )
    if branched := next(filter(_BRANCHES.search, names), None):  # CrossViT's
        raise InputError(f"its blocks hold branches, which run side by side: {branched}")
    if any(block.stage >= 0 for block in found.values()):
        found |= _between(names, found)
    return {name: found[name] for name in names if name in found}


def depths(entries: Iterable[str]) -> dict[str, float]:
    """Depth of every entry: from 0 in the first block to 1 in the last, and 0 outside of them.

    Raises:
        InputError: as for `blocks`.

    Example:
        >>> depths(["layer1.0.w", "layer1.1.w", "layer2.0.w", "proj"])
        {'layer1.0.w': 0.0, 'layer1.1.w': 0.5, 'layer2.0.w': 1.0, 'proj': 0.0}
    """
    names = list(entries)
    known = blocks(names)
    order = {block: place for place, block in enumerate(sorted(set(known.values())))}
    last = len(order) - 1
    return {name: order[known[name]] / last if name in known else 0.0 for name in names}


def _matches(names: list[str]) -> dict[str, re.Match[str]]:
    """Matches of the first of the patterns that has any."""
    staged = () if _are_parts(names) else _STAGED
    for pattern in (*staged, _PLAIN):
        found = {name: match for name in names if (match := pattern.match(name))}
        if found:
            return found
    return {}


def _are_parts(names: list[str]) -> bool:
    """Whether `layers.N.M.` is part M of block N (attention, MLP), and not block M of stage N.

    Of two parts of a block each has entries that the other lacks. Two blocks of a stage have the
    same entries, or one has some more, as of a downsampling.
    """
    held: dict[tuple[str, int], dict[int, set[str]]] = {}
    for match in filter(None, map(_PARTS.match, names)):
        parts = held.setdefault((match["where"], int(match["block"])), {})
        parts.setdefault(int(match["part"]), set()).add(match["rest"])
    sets = [list(parts.values()) for parts in held.values()]
    differ = all(not a <= b for parts in sets for a in parts for b in parts if a is not b)
    return differ and any(len(parts) > 1 for parts in sets)


def _block(match: re.Match[str]) -> Block:
    return Block(int(match.groupdict().get("stage") or -1), int(match["block"]))


def _between(names: list[str], inside: Mapping[str, Block]) -> dict[str, Block]:
    """The blocks to which entries of stages count that are in no block."""
    matches = {n: match for n in names if n not in inside and (match := _STAGE.match(n))}
    stage_of = {name: int(match["stage"]) for name, match in matches.items()}
    stages: dict[int, list[Block]] = {}
    for block in sorted(set(inside.values())):
        stages.setdefault(block.stage, []).append(block)
    loose = set(stage_of.values())
    place = -1 if min(stages) in loose and max(stages) not in loose else 0
    return {n: stages[stage][place] for n, stage in stage_of.items() if stage in stages}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
