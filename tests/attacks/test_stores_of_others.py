"""Attacks from another account of the machine: stores and keys that somebody else has a hand in."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import InputError
from neulig_fl.ledger import key_store

STRANGER = 54_321

Use = Callable[[Path], object]
USES: dict[str, Use] = {
    "its keys": lambda root: ClientStore(root).identity,
    "its tags": lambda root: ClientStore(root).tag("expert", "x"),
    "a refusal": lambda root: ClientStore(root, keys=root.parent / "k").note_refusal({}, "no"),
    "a kept sum": lambda root: ClientStore(root).keep_sum(b"state"),
    "its lock": lambda root: ClientStore(root).exclusive().__enter__(),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that has been used, with keys and a ledger."""
    ClientStore(tmp_path / "ada").note_refusal({"client": "ada"}, "never features")
    return tmp_path / "ada"


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Gives something to another user; without the right to do that, this becomes another one."""

    def given(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, STRANGER, -1, follow_symlinks=False)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: STRANGER)

    return given


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o755, 0o750, 0o711])
def test_a_store_that_others_can_enter_is_refused(use: str, mode: int, store: Path) -> None:
    """Without it another user reads releases, or puts a ledger that forgot them in place."""
    before = sorted(p.name for p in store.iterdir())
    store.chmod(mode)
    with pytest.raises(InputError, match=rf"\(mode {mode:04o}\); allowed: 0700; .*chmod 700") as e:
        USES[use](store)
    assert e.value.public_reason in ("others can enter its store", "others can write to its store")
    assert sorted(p.name for p in store.iterdir()) == before
    store.chmod(0o700)
    USES[use](store)


@pytest.mark.parametrize("use", USES)
def test_a_store_of_another_user_is_refused(
    use: str, store: Path, give: Callable[[Path], None]
) -> None:
    """Without it whoever prepared the folder owns what the client believes of itself."""
    give(store)
    with pytest.raises(InputError, match=r"belongs to user .* and this runs as user") as caught:
        USES[use](store)
    assert caught.value.public_reason == "its store belongs to another user"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a single file away")
@pytest.mark.parametrize("name", ["ledger.jsonl", "server.json", "sum.state", "releases", "keys"])
def test_what_another_user_left_in_a_store_is_refused(
    name: str, store: Path, give: Callable[[Path], None]
) -> None:
    """Without it what was planted while a folder stood open goes on to be believed."""
    (store / name).touch()
    give(store / name)
    with pytest.raises(InputError, match=f"{name} in it belongs to user {STRANGER}"):
        ClientStore(store).note_refusal({}, "no")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
@pytest.mark.parametrize("where", ["the store", "above it", "behind another link"])
def test_another_users_link_to_a_store_is_refused(
    where: str, store: Path, give: Callable[[Path], None]
) -> None:
    """Without it another user points a client at an older store, which forgot what it released."""
    link = store.parent / "link"
    link.symlink_to(store.parent if where == "above it" else store)
    give(link)
    asked = link / "ada" if where == "above it" else link
    if where == "behind another link":
        asked = store.parent / "own"
        asked.symlink_to("link")
    with pytest.raises(InputError, match=rf"link .*link belongs to user {STRANGER}"):
        ClientStore(asked).note_refusal({}, "no")


def test_a_link_of_ones_own_is_followed_into_ones_own_folder(store: Path) -> None:
    """Without it a store on another disk, behind a link, could not be used."""
    (store.parent / "own").symlink_to(store)
    ClientStore(store.parent / "own").note_refusal({"client": "ada"}, "again")
    assert len(ClientStore(store).entries()) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_a_link_of_ones_own_into_anothers_folder_is_refused(
    store: Path, give: Callable[[Path], None]
) -> None:
    """Without it the owner of the folder behind the link reads and rewrites the store."""
    (store.parent / "own").symlink_to(store)
    give(store)
    with pytest.raises(InputError, match="belongs to user"):
        ClientStore(store.parent / "own").note_refusal({}, "no")


def test_a_folder_above_that_anybody_can_write_to_is_refused(store: Path) -> None:
    """Without it anybody moves the store aside, and the client begins its limits anew."""
    store.parent.chmod(0o777)
    with pytest.raises(InputError, match=r"anybody can put another in its place, .*mode 0777") as e:
        ClientStore(store).note_refusal({}, "no")
    assert e.value.public_reason == "anybody can replace its store"
    store.parent.chmod(0o1777)  # as /tmp: nobody can move what is another's
    ClientStore(store).note_refusal({}, "no")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o1777])
def test_a_key_folder_that_others_can_write_to_is_refused(mode: int, tmp_path: Path) -> None:
    """Without it another user puts a key of theirs in the place of the client's."""
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    keys.chmod(mode)
    with pytest.raises(InputError, match=r"key folder .*others can write to it"):
        key_store.identity(keys)
    assert list(keys.iterdir()) == []
    keys.chmod(0o755)
    key_store.identity(keys)
    keys.chmod(mode)
    for use in (key_store.identity, key_store.rotate):
        with pytest.raises(InputError, match=r"key folder .*others can write to it"):
            use(keys)


@pytest.mark.parametrize("name", ["", "signing.pem", "agreement.pem"])
def test_keys_of_another_user_are_refused(
    name: str, tmp_path: Path, give: Callable[[Path], None]
) -> None:
    """Without it the owner of the file signs in the client's name."""
    key_store.identity(tmp_path / "keys")
    give(tmp_path / "keys" / name)
    with pytest.raises(InputError, match=r"belongs to user .*, and this runs as user") as caught:
        key_store.identity(tmp_path / "keys")
    assert "belongs to another user" in str(caught.value.public_reason)


@pytest.mark.parametrize("action", ["hello", "prepare", "release", "sum"])
def test_a_client_with_an_open_store_answers_nothing(
    action: str, data: Path, tmp_path: Path
) -> None:
    """Without it a planted `server.json` names the attacker as the pinned server's successor."""
    scenario: Scenario = tiny.scenario(tmp_path, data)
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada").chmod(0o777)
    party = ClientHandler(scenario, scenario.seed, "ada", tmp_path / "ada")
    with pytest.raises(InputError, match="others can write to it") as caught:
        party.answer(action, {"run": "ab" * 16, "group": "A"}, b"")
    assert str(tmp_path) not in str(caught.value.public_reason)
    assert list((tmp_path / "ada").iterdir()) == []


def test_a_new_store_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    """Without it a careless umask leaves a store open from the first moment."""
    before = os.umask(0)
    try:
        ClientStore(tmp_path / "a" / "b").note_refusal({"client": "ada"}, "no")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
