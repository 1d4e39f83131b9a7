"""Files that hold secrets: owner-only from the moment they are made, and the same for everyone.

A party's keys lie in one folder as PEM (PKCS 8), so a key of one's own can be put there, made with
`openssl genpkey -algorithm ed25519`. What is missing is made at first use.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from neulig_fl.core import strict_json
from neulig_fl.core.errors import InputError, RunError
from neulig_fl.core.files import PRIVATE, part, sweep, sync_folder, write_atomically
from neulig_fl.core.private_folders import ENTER, WRITE, make_way, require_private
from neulig_fl.privacy.keys import HandOver, Identity

SIGNING_FILE, AGREEMENT_FILE = "signing.pem", "agreement.pem"
HAND_OVERS_FILE, LOCK_FILE = "hand-overs.json", "lock"
NEXT = "next-"
"""What the names of a successor's files begin with until it has taken over."""

SECRET_BYTES = 32
_LONGEST = 16_384

PrivateKey = Ed25519PrivateKey | X25519PrivateKey


def identity(folder: Path) -> Identity:
    """The keys of a folder; those that are not there are made.

    Args:
        folder: made, for its owner alone, when it is not there.

    Raises:
        InputError: others can read or replace a key, or a file is not what it should be.
        RunError: a key cannot be written.
    """
    sweep(folder)
    if (folder / f"{NEXT}{SIGNING_FILE}").exists():
        with locked(folder, key_folder):
            _finish(folder)  # a process was killed while it rotated
    return _identity(folder, "", _hand_overs(folder))


def rotate(folder: Path) -> Identity:
    """Make new keys, have the old ones hand over to them, and put them in their place.

    The old private keys are lost. A ledger that they signed stays valid, because the hand-over,
    which `hand-overs.json` in the folder keeps, leads from the old key to the new one. Rotate
    between runs: within one, the server knows the old key only.

    Args:
        folder: of `identity`.

    Returns:
        The new keys.
    """
    identity(folder)
    with locked(folder, key_folder):
        old = _identity(folder, "", _hand_overs(folder))
        new = _identity(folder, NEXT)
        text = json.dumps([*old.hand_overs, old.hand_over(new)], indent=1)
        write_atomically(folder / HAND_OVERS_FILE, text, PRIVATE)
        _finish(folder)
    return identity(folder)


def _finish(folder: Path) -> None:
    """Put a successor in its place if the old key handed over to it; else it never was one."""
    names = (AGREEMENT_FILE, SIGNING_FILE)
    if not (folder / f"{NEXT}{SIGNING_FILE}").exists():
        return
    steps = _hand_overs(folder)
    named = bool(steps) and steps[-1].get("new") == _identity(folder, NEXT).key
    with _writing(folder):
        for name in names:
            waiting = folder / f"{NEXT}{name}"
            if named and waiting.exists():
                waiting.replace(folder / name)
            waiting.unlink(missing_ok=True)
        sync_folder(folder)


def _hand_overs(folder: Path) -> tuple[HandOver, ...]:
    path = folder / HAND_OVERS_FILE
    if not path.exists():
        return ()
    try:
        steps = strict_json.parsed(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as JSON; put the backup back, or begin anew with new keys",
            public_reason="its hand-overs cannot be read",
        ) from error
    return tuple(steps) if isinstance(steps, list) else ()


def _identity(folder: Path, prefix: str, hand_overs: tuple[HandOver, ...] = ()) -> Identity:
    signing = _key(folder / f"{prefix}{SIGNING_FILE}", Ed25519PrivateKey.generate)
    agreement = _key(folder / f"{prefix}{AGREEMENT_FILE}", X25519PrivateKey.generate)
    if not isinstance(signing, Ed25519PrivateKey):
        raise _unusable(folder / f"{prefix}{SIGNING_FILE}", "Ed25519")
    if not isinstance(agreement, X25519PrivateKey):
        raise _unusable(folder / f"{prefix}{AGREEMENT_FILE}", "X25519")
    return Identity(signing, agreement, hand_overs)


def _key(path: Path, make: Callable[[], PrivateKey]) -> object:
    """The key in a file, made if there is none; None when the file holds no key.

    The library's own error is dropped: nobody promised that it is free of the file's content.
    """
    content = obtained(path, lambda: _pem(make()))
    try:
        return serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _unusable(path: Path, name: str) -> InputError:
    return InputError(
        f"key file {path}: is not an {name} private key in PEM without a password; make one with "
        f"`openssl genpkey -algorithm {name.lower()}`, or remove it to have one made",
        public_reason="its key file cannot be used",
    )


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def secret(path: Path) -> bytes:
    """A file's 32 secret bytes; made by the operating system's generator when it is not there.

    Raises:
        InputError: others can read or replace it, or it is not 32 bytes.
        RunError: it cannot be written.
    """
    content = obtained(path, lambda: secrets.token_bytes(SECRET_BYTES))
    if len(content) != SECRET_BYTES:
        raise InputError(
            f"secret file {path}: holds {len(content)} bytes instead of {SECRET_BYTES}; put the "
            "backup back, or remove the whole store",
            public_reason="its secret file cannot be used",
        )
    return content


def obtained(path: Path, make: Callable[[], bytes]) -> bytes:
    """A secret file's content; made first when it is not there.

    Two processes that make it at once both return the one that came first.

    Args:
        path: the file.
        make: its content, if it has to be made.

    Raises:
        InputError: others can read or replace it.
        RunError: it cannot be written.
    """
    if not path.exists():
        _make(path, make())
    return _read(path)


def _make(path: Path, content: bytes) -> None:
    key_folder(path.parent)
    with _writing(path), part(path) as temporary:
        write_privately(temporary, content)
        with contextlib.suppress(FileExistsError):  # another process was first: its file counts
            os.link(temporary, path)
        sync_folder(path.parent)


def private_folder(folder: Path, what: str = "store", forbidden: int = ENTER) -> None:
    """Make a folder that only its owner can enter; one that is there must be that already.

    Args:
        folder: its missing parents are made, too.
        what: it is called in an error.
        forbidden: bits that its mode must not have.

    Raises:
        InputError: others own it, have a hand in it, or can replace it.
        RunError: it cannot be made.
    """
    with _writing(folder):
        make_way(folder)
        folder.mkdir(mode=0o700, exist_ok=True)
        require_private(folder, what, forbidden)


def key_folder(folder: Path) -> None:
    """As `private_folder`, for keys: others may look into it, because the files are private."""
    private_folder(folder, "key folder", WRITE)


@contextmanager
def locked(folder: Path, make: Callable[[Path], None] = private_folder) -> Iterator[None]:
    """Keep other processes, and other holders in this one, out of a folder's files for a while.

    The lock ends with the process, however that ends.

    Args:
        folder: made, for its owner alone, when it is not there.
        make: makes it, and refuses one that others have a hand in.
    """
    make(folder)
    with _writing(folder):
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_privately(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, and sync it.

    Raises:
        FileExistsError: there is one.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"key file {path}: cannot be read ({error.strerror}); it must belong to the user who "
            "runs this",
            public_reason="its key file cannot be read",
        ) from error
    with os.fdopen(handle, "rb") as file:
        _require_private(path, os.fstat(file.fileno()))
        return file.read(_LONGEST)


def _require_private(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise InputError(
            f"key file {path}: others can read or write it (mode {mode:04o}); allowed: 0600 and "
            f"less; run `chmod 600 {path}`, and make new keys if others may have read these",
            public_reason="others can read its key file",
        )
    if found.st_uid not in (0, os.geteuid()):
        raise InputError(
            f"key file {path}: belongs to user {found.st_uid}, and this runs as user "
            f"{os.geteuid()}; its owner knows the key: choose a key of your own",
            public_reason="its key file belongs to another user",
        )
    require_private(path.parent, "key folder", WRITE)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}); free space there, or choose "
            "another folder, then run again",
            public_reason="it cannot write to its disk",
        ) from error
