"""The state dict in what a torch file holds: itself, one within a dict, or one of a whole model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neulig_fl.core.errors import CheckpointError, plain
from neulig_fl.models.checkpoints.contents import (
    NO_STATE_DICT,
    RUNS_CODE,
    UNREADABLE,
    Contents,
    StoredTensor,
    unusable,
)
from neulig_fl.models.checkpoints.pickle_rules import Refused, StandIn
from neulig_fl.models.checkpoints.storages import Malformed

KEYS = ("state_dict", "model_state_dict", "model", "image_encoder", "visual", "net", "module")
"""Where training programs put a model's state dict among other things, in this order."""

_MOST_ENTRIES = 100_000
_MOST_DEPTH = 100
_MOST_NESTED = 3


@dataclass
class _Found:
    entries: dict[str, StoredTensor] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    objects: int = 0


def contents(path: Path, held: Any, kind: str) -> Contents:
    """The tensors by name in what was read from a torch file.

    Args:
        path: for the error.
        held: what `pickles.read` gave.
        kind: what the file is, in words.

    Raises:
        CheckpointError: there is no state dict in it.
    """
    notes: list[str] = []
    names, beside = _side_by_side(held)
    if len(names) > 1:
        words = f"holds {len(names)} state dicts: {', '.join(names)}"
        return Contents(beside.entries, kind, (words,), _activation(beside.kinds))
    inner = _within(held, notes)
    if isinstance(inner, StandIn):
        found = _Found()
        _collect(inner, "", 0, found)
        if found.entries:
            words = f"{kind} of a whole model ({plain(inner.kind, 200)})"
            return Contents(found.entries, words, tuple(notes), _activation(found.kinds))
    if _is_state_dict(inner):
        return Contents({str(k): v for k, v in inner.items()}, kind, tuple(notes))
    raise unusable(
        path,
        f"holds {_what(held)}, not names and tensors",
        "save model.state_dict()",
        NO_STATE_DICT,
    )


def _within(held: Any, notes: list[str]) -> Any:
    """Go down to the state dict or the model, at most three levels."""
    for _ in range(_MOST_NESTED):
        if not isinstance(held, dict) or _is_state_dict(held):
            break
        key = next((k for k in KEYS if isinstance(held.get(k), dict | StandIn)), None)
        if key is None:
            break
        notes.append(f"taken from under {key!r}")
        held = held[key]
    return held


def _places(held: Any) -> Iterator[tuple[str, Any]]:
    """State dicts and models within dicts and lists, with the keys that lead to them.

    Deep down, and where parts are numbered, as an optimiser's are, only what has names of modules
    in modules counts.

    Raises:
        Malformed: dicts within dicts without end.
    """
    waiting: list[tuple[str, Any, bool]] = [("", held, True)]
    for _ in range(_MOST_ENTRIES):
        if not waiting:
            return
        at, outer, plain_keys = waiting.pop()
        below = []
        for key, inner in _items(outer):
            place, named = f"{at}{key}.", plain_keys and isinstance(key, str)
            if isinstance(inner, StandIn) or _is_state_dict(inner):
                near = named and place.count(".") <= _MOST_NESTED
                if near or (isinstance(inner, dict) and any("." in str(name) for name in inner)):
                    yield place, inner
            elif place.count(".") < _MOST_DEPTH:
                below.append((place, inner, named))
        waiting += reversed(below)
    raise Malformed("dicts within dicts without end")


def _items(held: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(held, dict):
        return held.items()
    return enumerate(held) if isinstance(held, list | tuple) else ()


def _side_by_side(held: Any) -> tuple[list[str], _Found]:
    """State dicts and models beside one another, and the entries of all, each under its key.

    Training programs keep an average, a teacher or a momentum encoder beside the model. Which is
    meant is not known here, so that all of them are handed on.
    """
    names, all_found = [], _Found()
    for at, inner in _places(held):
        found = (
            _Found({str(k): v for k, v in inner.items()}) if isinstance(inner, dict) else _Found()
        )
        if isinstance(inner, StandIn):
            _collect(inner, "", 0, found)
        if found.entries:
            names.append(at.rstrip("."))
            all_found.entries |= {at + name: entry for name, entry in found.entries.items()}
            all_found.kinds |= found.kinds
    return names, all_found


def _is_state_dict(held: Any) -> bool:
    return (
        isinstance(held, dict)
        and bool(held)
        and all(isinstance(v, StoredTensor) for v in held.values())
    )


def _collect(module: StandIn, prefix: str, depth: int, found: _Found) -> None:
    """What `state_dict()` of a module would give, from the module's attributes.

    Raises:
        Malformed: modules within modules without end.
    """
    found.objects += 1
    if depth > _MOST_DEPTH or found.objects > _MOST_ENTRIES or len(found.entries) > _MOST_ENTRIES:
        raise Malformed("modules within modules without end")
    found.kinds.add(module.kind)
    for name, value in _attributes(module):
        if isinstance(value, StoredTensor):
            found.entries[prefix + name] = value
        elif isinstance(value, StandIn):
            _collect(value, f"{prefix}{name}.", depth + 1, found)


def _attributes(module: StandIn) -> Iterator[tuple[str, Any]]:
    """Parameters, buffers and submodules; a TorchScript object has them side by side."""
    state = module.state
    if "_modules" not in state:
        yield from ((str(name), value) for name, value in state.items())
        return
    passing = state.get("_non_persistent_buffers_set")
    passing = passing if isinstance(passing, list | tuple) else ()
    for part in ("_parameters", "_buffers", "_modules"):
        held = state.get(part)
        for name, value in held.items() if isinstance(held, dict) else ():
            if part != "_buffers" or name not in passing:
                yield str(name), value


def _activation(kinds: set[str]) -> str | None:
    """The activation that a model's classes name, as OpenCLIP's, OpenAI's and Hugging Face's do."""
    names = {kind.rpartition(".")[2] for kind in kinds}
    if names & {"QuickGELU", "QuickGELUActivation"}:
        return "quick_gelu"
    return "gelu" if names & {"GELU", "GELUActivation"} else None


def _what(held: Any) -> str:
    if isinstance(held, StoredTensor):
        return "one tensor"
    if isinstance(held, StandIn):
        return f"an object {plain(held.kind, 200)}".rstrip()
    if isinstance(held, dict):
        names = [plain(k, 60) for k in held][:6]
        return f"a dict ({', '.join(names)})" if names else "an empty dict"
    return type(held).__name__


def refused(path: Path, refusal: Refused) -> CheckpointError:
    """The error about a pickle that names what weights do not need."""
    return unusable(
        path,
        f"asks for {plain(refusal, 200)}, which weights do not need",
        "nothing of it was run; do not load this file elsewhere either, and ask its maker for "
        "safetensors",
        RUNS_CODE,
    )


def damaged(path: Path, fault: object) -> CheckpointError:
    """The error about a file that breaks off or contradicts itself."""
    return unusable(
        path,
        f"cannot be read: it is truncated or damaged ({plain(fault, 200)})",
        "copy or download it again",
        UNREADABLE,
    )
