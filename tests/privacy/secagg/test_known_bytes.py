"""Messages with fixed fields have the bytes that they always had, so that versions can be mixed."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import sum_round

from neulig_fl.privacy.secagg.messages import Advert, Delivery, Roster, Shares
from neulig_fl.privacy.secagg.shares import SEALED_BYTES, SHARE_BYTES
from neulig_fl.privacy.secagg.unmasking import MASK, SELF, Confirmation, Outcome, Request, Reveal

DIGEST = sum_round.terms(4).digest


def _bytes(seed: str, size: int) -> bytes:
    """Bytes that stand for a key, a share or a signature."""
    return hashlib.shake_256(seed.encode()).digest(size)


def _advert(name: str, signature: int = 64) -> Advert:
    keys = (_bytes(f"{kind} {name}", 32) for kind in ("sealing", "mask", "said"))
    return Advert(name, *keys, _bytes(f"signature {name}", signature))


def _sealed(*names: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, _bytes(f"sealed {name}", SEALED_BYTES)) for name in names)


NAMES = ("c-000", "c-001", "g\u00e9nova", "z" * 255)
ROSTER = Roster(tuple(_advert(name) for name in NAMES))
OUTCOME = Outcome(NAMES[:3], NAMES[3:])
WORDS = tuple(Confirmation(name, _bytes(f"word {name}", 64)) for name in NAMES[:3])
REVEALED = tuple(
    (name, MASK if name == NAMES[3] else SELF, _bytes(f"share {name}", SHARE_BYTES))
    for name in NAMES
)
MESSAGES: dict[str, tuple[Any, str]] = {
    "advert": (
        _advert("c-000"),
        "514c10b4907eb9470ffa821d30b84f325949ade3b355d9c9018229d551d83ef2",
    ),
    "advert, unsigned": (
        Advert("c-001", _bytes("a", 32), _bytes("b", 32)),
        "5cfa54ba126018e88cf4e4c45573725c08d47921b1ba5f247a8ccf45167279b7",
    ),
    "advert, longest signature": (
        _advert("c-001", 1024),
        "969b673a82d878b13001b9724bfd3b6ce2da80308fb6b7bd94140f388653dd9f",
    ),
    "roster": (
        ROSTER,
        "f49b25c850846f70d0980b5b68d54ad40b3c274ad7cc2cf63268ace8d8bbc695",
    ),
    "roster of nobody": (
        Roster(()),
        "7e8bccbe7aa61a99c0c64167961b4d3566dfc563e183ad3a3b6f6116d196927b",
    ),
    "shares": (
        Shares("c-000", _bytes("check", 32), _sealed(*NAMES[1:])),
        "be8249affe412381497f962858de3c52dfcb7dab337cc38fdd3f22eceb9015c5",
    ),
    "delivery": (
        Delivery("c-001", _sealed(NAMES[0], *NAMES[2:])),
        "7005ae1f4467afe69773e96f4c10f1ce6856bff4ddab3432fc5b062d9185d0f8",
    ),
    "outcome": (
        OUTCOME,
        "00d1cde6e02bda3a463b976c6019e324860c7db9df10fbb4393ab10998679a94",
    ),
    "outcome, nobody dropped": (
        Outcome(NAMES, ()),
        "1529da30c0c9fa36c6b37792ea650a1978a53bf43c5a5e9e5b3295a927d55b62",
    ),
    "confirmation": (
        WORDS[0],
        "0c5820c7b2eb877f7ac7d798f879400e5173772cf831cd91c9891b922446c970",
    ),
    "confirmation, unsigned": (
        Confirmation("c-000", b""),
        "e7e7eb36462714ec341f4aebf2c2a384ef322792e1eefc7f943ea5a1288fe4b3",
    ),
    "request": (
        Request(OUTCOME, WORDS),
        "0059c51d43963bec03959cf1f12d3268f71b6e61fd46a9c0d8b8bd6ea470d4b4",
    ),
    "reveal": (
        Reveal("c-001", REVEALED),
        "a7fab17a91c3b82d1506e2ecc8af6303826f33b3042875595ba1cdbccf256f92",
    ),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_has_its_known_bytes(kind: str) -> None:
    """Without it an old client and a new server would refuse one another."""
    message, known = MESSAGES[kind]
    data = message.to_bytes(DIGEST)
    assert hashlib.sha256(data).hexdigest() == known
    assert type(message).read(data, DIGEST) == message


def test_what_is_signed_has_its_known_bytes() -> None:
    """Without it a signature of another version would count as wrong."""
    signed = {
        "75276c466ced0b9e33d873096966270e1b892a6895616343f1c838679ec7c19d": (
            _advert("c-000").signed(DIGEST)
        ),
        "eefffda6f17d1726c267e2cb8d4388e682c0bffd641415f648d249674ea10dae": (
            OUTCOME.signed(DIGEST, ROSTER.digest(DIGEST))
        ),
    }
    assert [hashlib.sha256(data).hexdigest() for data in signed.values()] == list(signed)


def test_no_two_messages_are_of_the_same_kind() -> None:
    """Without it one message could be read as another one."""
    kinds = {type(message) for message, _ in MESSAGES.values()}
    assert len({kind.KIND for kind in kinds} | {b"w"}) == len(kinds) + 1
    assert all(len(kind.KIND) == 1 for kind in kinds)
