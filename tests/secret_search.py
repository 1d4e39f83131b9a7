"""A search for secrets: what a run must keep to itself, and whether it stands anywhere else.

Secrets are read from the clients' stores with the project's own readers, and noted while a run
makes them. Each is looked for as raw bytes, as hex, as base64 in both alphabets at any alignment,
as a JSON list of its bytes or of its numbers, and as Python shows bytes.
"""

from __future__ import annotations

import base64
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from numpy.typing import NDArray

import neulig_fl
from neulig_fl.client.secagg.state import SumInProgress
from neulig_fl.core.errors import NeuligError
from neulig_fl.privacy import discrete_gaussian, sealing
from neulig_fl.privacy.secagg import ClientState, shares
from neulig_fl.records import kinds

WINDOW = 24
"""Bytes of a longer secret that are looked for together: no two secrets share them by chance."""

DISTINCT = 12
"""Different bytes that a window must have: zeros and ones stand everywhere."""

PRIVATE = frozenset({"keys", "releases"})
"""Folders of a client's store that hold secrets, and may."""

STATE_FILES = frozenset({"sum.state"})
"""Files of a client's store that hold the state of a secure sum."""

BLANKS = b" \t\r\n"
"""What may stand within a text that was wrapped or indented."""

_HEAD = 8
"""Bytes of a needle by which it is looked up."""


@dataclass(frozen=True)
class Secret:
    """Bytes that may stand nowhere else.

    Args:
        name: what they are.
        content: all of them.
        dtype: of the numbers that they are, if they are numbers.
    """

    name: str
    content: bytes = field(repr=False)
    dtype: str = "|u1"


# ---------------------------------------------------------------- what is looked for


def needles(secret: Secret) -> Iterator[bytes]:
    """Every text by which a part of a secret would show."""
    for window in _windows(secret.content):
        yield window
        yield window.hex().encode()
        yield window.hex().upper().encode()
        for start in range(3):
            whole = window[start : start + (len(window) - start) // 3 * 3]
            yield base64.b64encode(whole)
            yield base64.urlsafe_b64encode(whole)
        yield from _listed([str(byte) for byte in window])
        shown = repr(window)[2:-1]
        yield from (shown.encode(), json.dumps(shown)[1:-1].encode())
        if secret.dtype != "|u1":
            yield from _numbers(np.frombuffer(window, secret.dtype))


def _windows(content: bytes) -> Iterator[bytes]:
    """The first, a middle and the last part that could not be there by chance."""
    if len(content) <= WINDOW:
        if len(set(content)) > len(content) // 2:
            yield content
        return
    last = (len(content) - WINDOW) // 8 * 8
    middle = min(len(content) // 16 * 8, last)
    for places in (range(0, last + 1, 8), range(middle, last + 1, 8), range(last, -1, -8)):
        for at in places:
            window = content[at : at + WINDOW]
            if len(set(window)) >= DISTINCT:
                yield window
                break


def _numbers(values: NDArray[Any]) -> Iterator[bytes]:
    """As JSON writes them: each in full, or as short as its type allows."""
    yield from _listed([repr(each) for each in values.tolist()])
    if values.dtype.kind == "f":
        yield from _listed([str(each) for each in values])


def _listed(words: list[str]) -> Iterator[bytes]:
    yield ",".join(words).encode()  # blanks are taken out of what is searched


# ---------------------------------------------------------------- where


def found(secrets: Iterable[Secret], places: Mapping[str, bytes]) -> list[str]:
    """Every secret that stands in one of the places, one line each: its name and the place's."""
    wanted: dict[int, list[tuple[bytes, str]]] = {}
    for secret in secrets:
        for needle in needles(secret):
            wanted.setdefault(_head(needle), []).append((needle, secret.name))
    heads = np.array(sorted(wanted), np.uint64)
    lines: dict[str, None] = {}
    for place, text in places.items():
        for each in (text, text.translate(None, BLANKS)):
            for at, head in _candidates(each, heads):
                for needle, name in wanted[head]:
                    if each.startswith(needle, at):
                        lines[f"{name} in {place}"] = None
    return list(lines)


def _head(needle: bytes) -> int:
    assert len(needle) >= _HEAD, "a secret that is this short cannot be told from chance"
    return int.from_bytes(needle[:_HEAD], "little")


def _candidates(text: bytes, heads: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Where in a text one of the heads stands."""
    if len(text) < _HEAD or not heads.size:
        return
    octets = np.lib.stride_tricks.sliding_window_view(np.frombuffer(text, np.uint8), _HEAD)
    words = np.ascontiguousarray(octets).view("<u8")[:, 0]
    at = np.minimum(np.searchsorted(heads, words), len(heads) - 1)
    for index in np.flatnonzero(heads[at] == words):
        yield int(index), int(words[index])


def files(run: Path, state_files: Iterable[str] = ()) -> dict[str, bytes]:
    """Every file of a run's folder but those in which secrets belong."""
    kept = frozenset(state_files)
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and not PRIVATE & set(path.parent.parts) and path.name not in kept
    }


# ---------------------------------------------------------------- secrets that lie on the disk


def stored(run: Path) -> list[Secret]:
    """The private keys, the plain records and the state of a sum in every client's store."""
    found = []
    for path in sorted(run.rglob("keys/*")):
        if path.suffix in (".pem", ".key"):
            found.append(Secret(path.relative_to(run).as_posix(), _key(path)))
    for path in sorted(run.rglob("releases/*.bin")):
        name = f"record {path.parent.parent.name}/{path.stem[:8]}"
        found.append(Secret(name, path.read_bytes(), "<f4"))
    for path in sorted(run.rglob("*")):
        if path.name in STATE_FILES:
            found += of_state(SumInProgress.from_bytes(path.read_bytes()).state)
    return found


def _key(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".key":
        return content
    key: Any = load_pem_private_key(content, None)
    return bytes(key.private_bytes_raw())


def of_state(state: ClientState) -> list[Secret]:
    """What a client keeps to itself of a secure sum: keys, seeds, shares."""
    said = {
        "sealing key": state.sealing_key, "mask seed": state.mask_seed,
        "self seed": state.self_seed,
    }  # fmt: skip
    said |= {f"share of {owner}": pair for owner, pair in state.held}
    return [Secret(f"{state.client}'s {name}", each) for name, each in said.items() if each]


# ---------------------------------------------------------------- secrets while they are made


@dataclass
class Watch:
    """Notes what a run makes: secrets, and all that is said of them in reprs and errors.

    Args:
        secrets: keys, seeds, shares, noise, and records before they are protected.
        said: the reprs of all dataclasses of the library, as they are made; the errors' texts.
    """

    secrets: list[Secret] = field(default_factory=list)
    said: dict[str, set[str]] = field(default_factory=dict)

    def note(self, name: str, made: Any) -> None:
        """Note one secret: bytes, several of them, or an array."""
        if isinstance(made, bytes):
            self.secrets.append(Secret(name, made))
        elif isinstance(made, np.ndarray):
            whole = made.dtype == np.int64  # noise: small whole numbers, mostly zero bytes
            content = np.ascontiguousarray(made, np.int32 if whole else made.dtype)
            self.secrets.append(Secret(name, content.tobytes(), content.dtype.str))
        else:
            parts = made.items() if isinstance(made, dict) else enumerate(made)
            for part, each in parts:
                self.note(f"{name} {part}", each)

    def say(self, place: str, text: str) -> None:
        """Note what was said."""
        self.said.setdefault(place, set()).add(text)

    @property
    def places(self) -> dict[str, bytes]:
        """What was said, to be searched."""
        return {place: "\n".join(sorted(texts)).encode() for place, texts in self.said.items()}


MADE: tuple[tuple[ModuleType, str, str], ...] = (
    (kinds, "build", "record"),
    (discrete_gaussian, "sample", "noise"),
    (sealing, "_derived", "sealing key and nonce"),
    (shares, "new_seed", "seed"),
    (shares, "new_key", "key of a sum"),
    (shares, "mask_key", "mask key"),
    (shares, "self_mask", "self mask"),
    (shares, "pair_mask", "pair mask"),
    (shares, "split", "share"),
)
"""Functions whose results are secret."""


def watch(patch: pytest.MonkeyPatch) -> Watch:
    """From now on note every secret that is made, every dataclass's repr, and every error."""
    watching = Watch()
    for module, name, what in MADE:
        patch.setattr(module, name, _noting(watching, getattr(module, name), what))
    for owner in _dataclasses():
        patch.setattr(owner, "__init__", _showing(watching, owner))
    patch.setattr(NeuligError, "__init__", _telling(watching))
    return watching


def _noting(watching: Watch, make: Callable[..., Any], what: str) -> Callable[..., Any]:
    def made(*args: Any, **more: Any) -> Any:
        result = make(*args, **more)
        watching.note(what, result)
        return result

    return made


def _showing(watching: Watch, owner: type) -> Callable[..., None]:
    begin: Callable[..., None] = owner.__init__  # type: ignore[misc]

    def init(self: Any, *args: Any, **more: Any) -> None:
        begin(self, *args, **more)
        if isinstance(self, ClientState):
            watching.secrets += of_state(self)
        watching.say(f"repr of {owner.__name__}", repr(self))

    return init


def _telling(watching: Watch) -> Callable[..., None]:
    begin = NeuligError.__init__

    def init(self: NeuligError, message: str, *, public_reason: str | None = None) -> None:
        begin(self, message, public_reason=public_reason)
        watching.say("an error", f"{message}\n{public_reason}")

    return init


def modules() -> list[str]:
    """Every module of the library, by dotted name."""
    walked = pkgutil.walk_packages(neulig_fl.__path__, "neulig_fl.")
    return [each.name for each in walked if not each.name.endswith("__main__")]


def _dataclasses() -> Iterator[type]:
    """Every dataclass of the library."""
    for module in modules():
        for each in vars(importlib.import_module(module)).values():
            if isinstance(each, type) and is_dataclass(each) and each.__module__ == module:
                yield each
