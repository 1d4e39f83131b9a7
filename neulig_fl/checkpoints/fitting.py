"""Whether a checkpoint fits a model: names, shapes, dtypes, finite values; then its state dict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from safetensors import SafetensorError
from torch import Tensor

from neulig_fl.checkpoints.contents import FLOATS, MISFIT, NOT_FINITE, UNREADABLE, Entry
from neulig_fl.checkpoints.storages import Malformed
from neulig_fl.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]


def under(entries: Mapping[str, Entry], names: Iterable[str]) -> tuple[str, dict[str, Entry]]:
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


def differences(entries: Mapping[str, Entry], wanted: Shapes) -> list[str]:
    """What is missing, extra and misshapen, with the first names of each; [] when all fits."""
    missing = [name for name in wanted if name not in entries]
    extra = [name for name in entries if name not in wanted]
    shapes = [
        f"{name} {entries[name].shape} instead of {wanted[name]}"
        for name in wanted
        if name in entries and entries[name].shape != wanted[name]
    ]
    return [
        f"{label}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for label, names in (("missing", missing), ("extra", extra), ("wrong shape", shapes))
        if names
    ]


def load(
    entries: Mapping[str, Entry], dtypes: Mapping[str, torch.dtype], what: str
) -> dict[str, Tensor]:
    """The state dict, cast to the model's dtypes; one tensor is read at a time.

    Args:
        entries: the checkpoint's, of the model's names and shapes.
        dtypes: the model's, by name.
        what: whose checkpoint it is, for errors.

    Raises:
        CheckpointError: quantised entries, values that are not finite, a file that breaks off.
    """
    state, bad = {}, []
    for name, dtype in dtypes.items():
        _require_castable(name, entries[name].dtype, dtype, what)
        state[name] = value(entries[name], name, what).to(dtype)
        if dtype.is_floating_point and not torch.isfinite(state[name]).all():
            bad.append(name)
    if bad:
        raise CheckpointError(
            f"{what} holds values that are not finite: {', '.join(bad[:3])}",
            public_reason=NOT_FINITE,
        )
    return state


def value(entry: Entry, name: str, what: str) -> Tensor:
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
    whole = not wanted.is_floating_point and not stored.is_floating_point and not stored.is_complex
    if stored in FLOATS if wanted.is_floating_point else whole:
        return
    allowed = ", ".join(_short(each) for each in FLOATS) if wanted.is_floating_point else "integers"
    raise CheckpointError(
        f"{what} holds {name} as {_short(stored)}; allowed: {allowed}; of a quantised model, take "
        "the float weights that it was made from",
        public_reason=MISFIT,
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
