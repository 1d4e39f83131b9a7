"""Whether a checkpoint fits a model: names, shapes, dtypes, finite values; then its state dict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from safetensors import SafetensorError
from torch import Tensor

from neulig_fl.core.errors import CheckpointError
from neulig_fl.models.checkpoints.contents import (
    MISFIT,
    NOT_FINITE,
    UNREADABLE,
    StoredTensor,
    floats,
)
from neulig_fl.models.checkpoints.storages import Malformed

Shapes = Mapping[str, tuple[int, ...]]

VISUAL = "visual."
"""Where a CLIP has its image encoder."""

COUNTER = "num_batches_tracked"
"""What BatchNorm calls the number of batches that it has seen."""


def under(
    entries: Mapping[str, StoredTensor], names: Iterable[str]
) -> tuple[str, dict[str, StoredTensor]]:
    """The part of a checkpoint that holds a model, whatever it was wrapped in.

    The prefix is the one under which most of the model's names are found; of several, the shortest.

    Args:
        entries: the checkpoint's.
        names: the model's.

    Returns:
        The prefix, and the entries below it without the prefix.

    Example:
        >>> held = dict.fromkeys(["module.visual.proj", "module.visual.conv1.weight", "module.x"])
        >>> under(held, ["proj", "conv1.weight"])[0]
        'module.visual.'
    """
    wanted = frozenset(names)
    found: Counter[str] = Counter()
    for name in entries:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in wanted:
                found["".join(f"{part}." for part in parts[:i])] += 1
    prefix = min(found, key=lambda p: (-found[p], len(p)), default="")
    below = {k.removeprefix(prefix): v for k, v in entries.items() if k.startswith(prefix)}
    return prefix, below


def whole(entries: Mapping[str, StoredTensor], wanted: Shapes) -> list[str]:
    """Every prefix under which all of a model's names stand with their shapes, in the file's order.

    Args:
        entries: the checkpoint's.
        wanted: the model's.

    Example:
        >>> one = StoredTensor((2,), torch.float32, Tensor)
        >>> held = {f"{at}.w": one for at in ("student", "teacher")}
        >>> whole(held, {"w": (2,)})
        ['student.', 'teacher.']
    """
    found: Counter[str] = Counter()
    for name, entry in entries.items():
        parts = name.split(".")
        for i in range(len(parts)):
            if wanted.get(".".join(parts[i:])) == entry.shape:
                found["".join(f"{part}." for part in parts[:i])] += 1
    return [prefix for prefix, count in found.items() if count == len(wanted)]


def chosen(
    entries: Mapping[str, StoredTensor], wanted: Shapes, what: str, prefix: str | None = None
) -> tuple[str, dict[str, StoredTensor]]:
    """The part of a checkpoint that is the model; of several different ones, the user's choice.

    Args:
        entries: the checkpoint's.
        wanted: the model's.
        what: whose checkpoint it is, for errors.
        prefix: with what the names begin of the part that is meant, as `student`; None: not said.

    Returns:
        The prefix, and the entries below it without the prefix.

    Raises:
        CheckpointError: several whole encoders of different weights, or none of that prefix.
    """
    kept = beginning(entries, prefix, what)
    found = [p for p in whole(kept, wanted) if prefix is None or _begins(p, prefix)]
    start = "" if not prefix else f"{prefix.rstrip('.')}."
    for own in (start, f"{start}{VISUAL}"):
        if prefix is not None and own in found:
            found = [own]
    if len(found) > 1 and not _alike(kept, wanted, found):
        raise several(found, what)
    return _part(entries, found[0], wanted) if found else under(kept, wanted)


def clip_around(
    entries: Mapping[str, StoredTensor], at: str, wanted: Shapes
) -> dict[str, StoredTensor]:
    """The entries of the CLIP whose image encoder stands under a prefix, without other encoders'.

    Args:
        entries: the checkpoint's.
        at: the image encoder's prefix.
        wanted: the image encoder's entries.

    Example:
        >>> one = StoredTensor((2,), torch.float32, Tensor)
        >>> held = dict.fromkeys(["clip.visual.w", "clip.logit_scale", "clip.ema.w", "ema.w"], one)
        >>> list(clip_around(held, "clip.visual.", {"w": (2,)}))
        ['clip.visual.w', 'clip.logit_scale']
    """
    top = at.removesuffix(VISUAL)
    others = {p: p.removesuffix(VISUAL) for p in whole(entries, wanted) if p != at}
    apart = tuple(o if top.startswith(outer) else outer for o, outer in others.items())
    return {
        name: entry
        for name, entry in entries.items()
        if name.startswith(top) and not (apart and name.startswith(apart))
    }


def plainest(
    entries: Mapping[str, StoredTensor], wanted: Shapes
) -> tuple[str, dict[str, StoredTensor]]:
    """As `chosen`, but of several encoders the first: to tell what a checkpoint could be."""
    found = whole(entries, wanted)
    return _part(entries, found[0], wanted) if found else under(entries, wanted)


def _part(
    entries: Mapping[str, StoredTensor], at: str, wanted: Shapes
) -> tuple[str, dict[str, StoredTensor]]:
    """What stands under a prefix, without other whole encoders that stand within it."""
    others = tuple(p for p in whole(entries, wanted) if p != at and p.startswith(at))
    below = {
        name.removeprefix(at): entry
        for name, entry in entries.items()
        if name.startswith(at) and not (others and name.startswith(others))
    }
    return at, below


def standing(
    entries: Mapping[str, StoredTensor], names: Sequence[str]
) -> list[dict[str, StoredTensor]]:
    """What stands under each prefix at which all of some names are found."""
    at = [k.removesuffix(names[0]) for k in entries if k == names[0] or k.endswith(f".{names[0]}")]
    found = [{k.removeprefix(p): v for k, v in entries.items() if k.startswith(p)} for p in at]
    return [below for below in found if all(name in below for name in names)]


def beginning(
    entries: Mapping[str, StoredTensor], prefix: str | None, what: str
) -> Mapping[str, StoredTensor]:
    """The entries whose names begin with a prefix, in whole parts; all where it is None.

    Raises:
        CheckpointError: there is none.
    """
    kept = entries if prefix is None else {k: v for k, v in entries.items() if _begins(k, prefix)}
    if entries and not kept:
        tops = list(dict.fromkeys(name.partition(".")[0] for name in entries))
        raise CheckpointError(
            f"{what} has no names that begin with {prefix!r}; they begin with: {some(tops, 8)}",
            public_reason=MISFIT,
        )
    return kept


def several(prefixes: Sequence[str], what: str) -> CheckpointError:
    """The error about a checkpoint that holds more than one whole encoder."""
    names = [prefix.rstrip(".") for prefix in prefixes]
    return CheckpointError(
        f"{what} holds {len(names)} whole encoders of different weights, under "
        f"{' and '.join(repr(name) for name in names)}; say which is meant: write prefix: "
        f"{names[0] or repr('')} (or {' or '.join(name or repr('') for name in names[1:])}) beside "
        "the checkpoint",
        public_reason="its checkpoint holds several encoders",
    )


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of some names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _begins(name: str, prefix: str) -> bool:
    start = prefix.rstrip(".")
    return not start or name.startswith(f"{start}.")


def _alike(
    entries: Mapping[str, StoredTensor], names: Iterable[str], prefixes: Sequence[str]
) -> bool:
    """Whether a model was saved twice, as of a module that is registered under two names."""
    first, *others = prefixes
    return all(
        torch.equal(value(entries[first + name], name, "it"), value(entries[at + name], name, "it"))
        for name in names
        for at in others
    )


def differences(entries: Mapping[str, StoredTensor], wanted: Shapes) -> list[str]:
    """What is missing, extra and misshapen, with the first names of each; [] when all fits."""
    missing = [name for name in wanted if name not in entries]
    extra = [name for name in entries if name not in wanted]
    shapes = [
        f"{name} {entries[name].shape} instead of {wanted[name]}"
        for name in wanted
        if name in entries and entries[name].shape != wanted[name]
    ]
    return [
        f"{label}: {some(names)}"
        for label, names in (("missing", missing), ("extra", extra), ("wrong shape", shapes))
        if names
    ]


def load(
    entries: Mapping[str, StoredTensor], dtypes: Mapping[str, torch.dtype], what: str
) -> dict[str, Tensor]:
    """The state dict, cast to the model's dtypes; one tensor is read at a time.

    Args:
        entries: the checkpoint's, of the model's names and shapes.
        dtypes: the model's, by name.
        what: whose checkpoint it is, for errors.

    Raises:
        CheckpointError: quantised entries, values that are not finite, a file that breaks off.
    """
    state = {name: cast(entries[name], name, dtype, what) for name, dtype in dtypes.items()}
    _require_finite([name for name, held in state.items() if not _finite(held)], what)
    return state


def require_usable(entries: Mapping[str, StoredTensor], what: str) -> None:
    """What `load` requires of an encoder's entries, whatever model they are; keeps none of them.

    Raises:
        CheckpointError: as `load`.
    """
    dtypes = {n: torch.int64 if n.endswith(COUNTER) else torch.float32 for n in entries}
    bad = [n for n, e in entries.items() if not _finite(cast(e, n, dtypes[n], what))]
    _require_finite(bad, what)


def cast(entry: StoredTensor, name: str, dtype: torch.dtype, what: str) -> Tensor:
    """One tensor in the model's dtype. Averaged counters of BatchNorm are rounded.

    Nothing that a model computes depends on how many batches it has seen, and the mean of several
    checkpoints' counters is no whole number.

    Raises:
        CheckpointError: it is quantised or complex, or cannot be read.
    """
    _require_castable(name, entry.dtype, dtype, what)
    held = value(entry, name, what)
    if held.is_floating_point() and not dtype.is_floating_point:
        _require_finite([] if _finite(held) else [name], what)
        held = held.double().round()
    return held.to(dtype)


def _finite(held: Tensor) -> bool:
    return not held.is_floating_point() or bool(torch.isfinite(held).all())


def _require_finite(bad: Sequence[str], what: str) -> None:
    if bad:
        raise CheckpointError(
            f"{what} holds values that are not finite: {some(bad)}", public_reason=NOT_FINITE
        )


def value(entry: StoredTensor, name: str, what: str) -> Tensor:
    """One tensor.

    Raises:
        CheckpointError: the file cannot be read any more.
    """
    try:
        return entry.read()
    except (Malformed, OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{what} cannot be read at {name} ({error}); copy or download it again",
            public_reason=UNREADABLE,
        ) from error


def _require_castable(name: str, stored: torch.dtype, wanted: torch.dtype, what: str) -> None:
    if stored in floats():
        fits = wanted.is_floating_point or name.endswith(COUNTER)
    else:
        counts = not stored.is_floating_point and not stored.is_complex
        fits = counts and not wanted.is_floating_point
    if fits:
        return
    allowed = (
        ", ".join(_short(each) for each in floats()) if wanted.is_floating_point else "integers"
    )
    raise CheckpointError(
        f"{what} holds {name} as {_short(stored)}; allowed: {allowed}; of a quantised model, take "
        "the float weights that it was made from",
        public_reason=MISFIT,
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
