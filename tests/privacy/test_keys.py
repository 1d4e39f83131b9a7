"""Keys: made once, owner-only from the first moment, proven to others, rotated without a gap."""

from __future__ import annotations

import base64
import multiprocessing
import os
import pickle
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.core.errors import BadReply, InputError, NeuligError, RunError
from neulig_fl.ledger import key_store
from neulig_fl.privacy import keys
from neulig_fl.privacy.keys import AGREEMENT, SIGNING, Identity, PublicIdentity

# ---------------------------------------------------------------- texts and signatures


@given(st.binary(min_size=32, max_size=32), st.integers(0, 42), st.characters())
def test_a_key_has_one_text(raw: bytes, at: int, letter: str) -> None:
    """Without it two texts would name one key, and a pin could be written past a comparison."""
    text = f"{SIGNING}:{keys.encoded(raw)}"
    assert keys.public_bytes(text, SIGNING) == raw
    assert keys.public_bytes(text, AGREEMENT) is None
    start = len(SIGNING) + 1 + at
    changed = text[:start] + letter + text[start + 1 :]
    assert changed == text or keys.public_bytes(changed, SIGNING) != raw
    for other in (text + "=", text + "A", text[:-1], " " + text, text.upper(), text + "\n"):
        assert keys.public_bytes(other, SIGNING) is None


@pytest.mark.parametrize("value", [None, 7, b"ed25519:", "", "ed25519:", "ed25519:ü", ["ed25519"]])
def test_what_is_no_key_and_no_signature_is_never_an_error(value: Any) -> None:
    """Without it a strange message would end a run with a traceback."""
    mine = Identity.new()
    assert keys.public_bytes(value, SIGNING) is None
    assert not keys.signed_by(value, "p", b"m", mine.sign("p", b"m"))
    assert not keys.signed_by(mine.key, "p", b"m", value)


def test_a_signature_is_for_one_key_one_purpose_and_one_message() -> None:
    """Without it a signed client hello could be shown as a ledger's entry."""
    mine = Identity.new()
    signature = mine.sign("purpose", b"message")
    assert keys.signed_by(mine.key, "purpose", b"message", signature)
    assert not keys.signed_by(mine.key, "other", b"message", signature)
    assert not keys.signed_by(mine.key, "purpose", b"messagf", signature)
    assert not keys.signed_by(Identity.new().key, "purpose", b"message", signature)
    for at in range(len(signature)):
        letter = "A" if signature[at] != "A" else "B"
        changed = signature[:at] + letter + signature[at + 1 :]
        assert not keys.signed_by(mine.key, "purpose", b"message", changed)


def test_fingerprints_tell_keys_apart() -> None:
    """Without it two people could not compare keys over the telephone."""
    one, two = (keys.fingerprint(Identity.new().key) for _ in range(2))
    assert one != two
    assert [len(group) for group in one.split(" ")] == [4] * 8


# ---------------------------------------------------------------- what others know


def test_a_public_identity_travels_and_is_checked_again() -> None:
    """Without it records could be sealed to a key that nobody vouched for."""
    mine, other = Identity.new(), Identity.new()
    record = mine.public.record()
    assert PublicIdentity.read(record) == mine.public
    assert PublicIdentity.read(record).lineage == (mine.key,)
    for name in ("key", "agreement", "proof"):
        with pytest.raises(BadReply, match="that the first one signed"):
            PublicIdentity.read({**record, name: other.public.record()[name]})
        with pytest.raises(BadReply, match="that the first one signed"):
            PublicIdentity.read({**record, name: None})
    for wrong in (None, [], {}, {**record, "more": 1}, {k: record[k] for k in ("key", "proof")}):
        with pytest.raises(BadReply, match="did not say its keys"):
            PublicIdentity.read(wrong)
    for steps in ("x", {}, [{}] * 65):
        with pytest.raises(BadReply, match="hand-overs are not a list of at most 64"):
            PublicIdentity.read({**record, "hand_overs": steps})


# ---------------------------------------------------------------- files


def test_keys_are_made_once_and_loaded_again(tmp_path: Path) -> None:
    """Without it every message's process would be another client."""
    first = key_store.identity(tmp_path / "keys")
    again = key_store.identity(tmp_path / "keys")
    assert (again.key, again.agreement) == (first.key, first.agreement)
    assert key_store.identity(tmp_path / "other").key != first.key
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == [
        "agreement.pem", "signing.pem"
    ]  # fmt: skip


def test_files_are_owner_only_from_the_moment_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it another user could read a key in the moment before its mode is set."""
    modes: list[int] = []
    honest = os.open

    def watched(path: Any, flags: int, mode: int = 0o777) -> int:
        handle = honest(path, flags, mode)
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL or Path(path).name == "lock"
            modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
            modes.append(stat.S_IMODE(Path(path).parent.stat().st_mode))
        return handle

    before = os.umask(0)
    try:
        monkeypatch.setattr(os, "open", watched)
        key_store.identity(tmp_path / "keys")
        key_store.secret(tmp_path / "keys" / "store.key")
        key_store.rotate(tmp_path / "keys")
    finally:
        os.umask(before)
    assert len(modes) >= 10
    assert set(modes) == {0o600, 0o700}
    secret = [p for p in (tmp_path / "keys").iterdir() if p.name != "hand-overs.json"]
    assert {stat.S_IMODE(p.stat().st_mode) for p in secret} == {0o600}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o620])
def test_a_key_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    """Without it a key that is no secret any more would go on signing."""
    key_store.identity(tmp_path / "keys")
    file = tmp_path / "keys" / "signing.pem"
    file.chmod(mode)
    with pytest.raises(
        InputError, match=rf"others can .* \(mode {mode:04o}\); .*chmod 600"
    ) as caught:
        key_store.identity(tmp_path / "keys")
    assert caught.value.public_reason == "others can read its key file"
    assert str(tmp_path) not in str(caught.value.public_reason)


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    """Without it another user could put a key of theirs in its place."""
    key_store.identity(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o777)
    with pytest.raises(InputError, match=r"others can write to it \(mode 0777\); .*chmod 700"):
        key_store.identity(tmp_path / "keys")


WRONG: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "words": lambda: b"secret words that are no key",
    "an X25519 key": lambda: _pem(key_store.X25519PrivateKey.generate()),
    "a key of another kind": lambda: _pem(generate_private_key(SECP256R1())),
    "a key with a password": lambda: _pem(
        key_store.Ed25519PrivateKey.generate(), serialization.BestAvailableEncryption(b"word")
    ),
}


def _pem(key: Any, how: Any = None) -> bytes:
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(*formats, how or serialization.NoEncryption())  # type: ignore[no-any-return]


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_is_no_such_key_is_told_without_its_content(what: str, tmp_path: Path) -> None:
    """Without it a wrong file would be a traceback, or its secret would be in one."""
    content = WRONG[what]()
    key_store.private_folder(tmp_path / "keys")
    key_store.write_privately(tmp_path / "keys" / "signing.pem", content)
    with pytest.raises(InputError, match="is not an Ed25519 private key in PEM") as caught:
        key_store.identity(tmp_path / "keys")
    error: BaseException | None = caught.value
    while error is not None:
        assert not content or content.decode().splitlines()[0] not in str(error)
        error = error.__cause__
    assert caught.value.__cause__ is None
    assert caught.value.public_reason == "its key file cannot be used"


def test_a_secret_that_was_cut_is_told(tmp_path: Path) -> None:
    """Without it half a secret, or none, would protect the tags."""
    assert len(key_store.secret(tmp_path / "store.key")) == 32
    (tmp_path / "store.key").write_bytes(b"")
    with pytest.raises(InputError, match="holds 0 bytes instead of 32"):
        key_store.secret(tmp_path / "store.key")


def test_a_key_made_by_openssl_can_be_given(tmp_path: Path) -> None:
    """Without it a party could not bring the key that its partners know."""
    key_store.private_folder(tmp_path / "keys")
    file = tmp_path / "keys" / "signing.pem"
    try:
        made = subprocess.run(
            ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True
        ).stdout
    except FileNotFoundError:
        pytest.skip("there is no openssl here")
    key_store.write_privately(file, made)
    public = subprocess.run(
        ["openssl", "pkey", "-in", file, "-pubout", "-outform", "DER"],
        capture_output=True,
        check=True,
    ).stdout
    found = key_store.identity(tmp_path / "keys")
    assert keys.public_bytes(found.key, SIGNING) == public[-32:]


def _made(folder: Path, queue: Any) -> None:
    mine = key_store.identity(folder)
    queue.put((mine.key, mine.agreement))


def test_processes_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    """Without it two messages at a client's first moment would sign as two clients."""
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    processes = [spawn.Process(target=_made, args=(tmp_path / "keys", queue)) for _ in range(4)]
    for process in processes:
        process.start()
    found = {queue.get(timeout=600) for _ in processes}
    for process in processes:
        process.join()
    mine = key_store.identity(tmp_path / "keys")
    assert found == {(mine.key, mine.agreement)}


def test_a_key_that_another_process_made_first_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the slower of two processes would overwrite the key that the other one used."""
    honest, file = os.link, tmp_path / "keys" / "store.key"

    def late(source: Any, target: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", honest)
            key_store.write_privately(file, b"first".ljust(32))
        honest(source, target)

    monkeypatch.setattr(os, "link", late)
    assert key_store.secret(file) == b"first".ljust(32)
    assert [p.name for p in file.parent.iterdir()] == ["store.key"]


def test_a_disk_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it half a key would be left, or a traceback with a path in it."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device") as caught:
        key_store.identity(tmp_path / "keys")
    assert caught.value.public_reason == "it cannot write to its disk"
    assert list((tmp_path / "keys").iterdir()) == []


# ---------------------------------------------------------------- rotation


def test_a_rotated_key_was_handed_over_to(tmp_path: Path) -> None:
    """Without it whoever pinned the old key would have to take a new one on trust."""
    folder = tmp_path / "keys"
    before = [key_store.identity(folder).key]
    for _ in range(3):
        before.append(key_store.rotate(folder).key)
    now = key_store.identity(folder)
    assert now.key == before[-1]
    assert now.public.lineage == tuple(before)
    assert len(set(before)) == 4
    assert PublicIdentity.read(now.public.record()) == now.public
    names = {"agreement.pem", "signing.pem", "hand-overs.json", "lock"}
    assert {p.name for p in folder.iterdir()} == names


def test_a_hand_over_needs_both_signatures_and_no_gap() -> None:
    """Without it a thief of one key could make it the successor of another."""
    one, two, three = (Identity.new() for _ in range(3))
    steps = [one.hand_over(two), two.hand_over(three)]
    assert keys.lineage(steps, three.key) == (one.key, two.key, three.key)
    assert keys.lineage([], one.key) == (one.key,)
    wrong: list[tuple[list[Any], str]] = [
        (steps, two.key),
        (steps[:1], three.key),
        (steps[1:] + steps[:1], three.key),
        ([steps[0], one.hand_over(three)], three.key),
        ([one.hand_over(two), two.hand_over(one)], one.key),
        ([{**steps[0], "by_old": steps[0]["by_new"]}, steps[1]], three.key),
        ([{**steps[0], "by_new": one.sign("take-over", b"")}, steps[1]], three.key),
        ([{**steps[0], "new": three.key}], three.key),
        ([{**steps[0], "more": ""}, steps[1]], three.key),
        ([None], one.key),
    ]
    for given_steps, key in wrong:
        assert keys.lineage(given_steps, key) is None


@pytest.mark.parametrize("killed_at", ["the hand-over", "the first replacement", "the second"])
def test_a_rotation_that_was_killed_is_finished_or_never_was(
    killed_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a crash would leave a key that nothing leads to."""
    folder = tmp_path / "keys"
    old = key_store.identity(folder).key
    count = {"the hand-over": 0, "the first replacement": 0, "the second": 1}[killed_at]

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    honest, calls = Path.replace, iter(range(9))

    def replace(self: Path, target: Any) -> Path:
        if self.name.startswith("next-") and next(calls) == count:
            raise Killed
        return honest(self, target)

    with monkeypatch.context() as patch:
        if killed_at == "the hand-over":
            patch.setattr(key_store, "write_atomically", killed)
        else:
            patch.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            key_store.rotate(folder)
    now = key_store.identity(folder)
    wanted = (old,) if killed_at == "the hand-over" else (old, now.key)
    assert now.public.lineage == wanted
    assert not [p for p in folder.iterdir() if p.name.startswith("next-")]
    assert key_store.rotate(folder).public.lineage[:-1] == wanted


def test_hand_overs_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """Without it a damaged file would look like a key without a past."""
    key_store.rotate(tmp_path / "keys")
    (tmp_path / "keys" / "hand-overs.json").write_text("[{")
    with pytest.raises(InputError, match="cannot be read as JSON; put the backup back"):
        key_store.identity(tmp_path / "keys")
    (tmp_path / "keys" / "hand-overs.json").write_text("[{}]")
    with pytest.raises(NeuligError, match="hand-overs do not lead to its key"):
        _ = key_store.identity(tmp_path / "keys").public


# ---------------------------------------------------------------- nothing secret is shown


def test_no_private_byte_is_in_a_repr_and_nothing_can_be_pickled(tmp_path: Path) -> None:
    """Without it a log or a crash report could hold a key."""
    mine = key_store.rotate(tmp_path / "keys")
    for name in ("signing.pem", "agreement.pem"):
        content = (tmp_path / "keys" / name).read_bytes()
        key: Any = serialization.load_pem_private_key(content, None)
        raw = key.private_bytes_raw()
        shown = f"{mine!r} {mine} {mine.public!r} {mine.hand_overs!r}"
        for text in (raw.hex(), base64.b64encode(raw).decode(), keys.encoded(raw), repr(raw)[2:-1]):
            assert text not in shown
    assert mine.key in repr(mine)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(mine)
