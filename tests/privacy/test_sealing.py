"""Sealing: one recipient, one purpose, once; and nothing of a payload where anything is wrong."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.core.errors import BadReply, InputError
from neulig_fl.privacy import sealing
from neulig_fl.privacy.keys import AGREEMENT, Identity, encoded, public_bytes
from neulig_fl.privacy.sealing import OVERHEAD, Seen, binding, open_sealed, seal
from neulig_fl.records.kinds import Dimensions, layout

MINE, OTHER = Identity.new(), Identity.new()
SIZES = Dimensions(dim=2, classes=3, image_size=32, entries={"w": (2, 3)})


def _said(**changes: Any) -> dict[str, Any]:
    said = {
        "run": "ab" * 16,
        "stage": "outputs",
        "client": "ada",
        "recipient": "server",
        "group": "A",
        "kind": "features",
        "queries": "pool",
        "fraction": 1.0,
        "shapes": layout("features", 12, SIZES),
    }
    return said | changes


BOUND = binding(**_said())


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_what_is_sealed_opens_and_is_as_long_as_the_plan_says(payload: bytes, bound: bytes) -> None:
    """Without it `plan` would announce other bytes than leave, or a record be lost."""
    sealed = seal(payload, MINE.agreement, bound)
    assert type(sealed) is bytes
    assert len(sealed) == len(payload) + OVERHEAD
    for form in (sealed, bytearray(sealed), memoryview(sealed)):
        assert open_sealed(form, MINE.agreement_key, bound) == payload
    assert open_sealed(seal(memoryview(payload), MINE.agreement, b""), MINE.agreement_key, b"") == (
        payload
    )


def test_each_sealing_is_another(tmp_path: Path) -> None:
    """Without it equal records could be recognised, and a key stream be used twice."""
    made = {seal(b"same" * 9, MINE.agreement, BOUND) for _ in range(20)}
    assert len(made) == 20
    tails = {sealed[-40:] for sealed in made}
    assert len(tails) == 20
    assert not [sealed for sealed in made if b"same" in sealed]


def test_any_changed_byte_is_found() -> None:
    """Without it whoever carries a record could change what it says."""
    sealed = seal(b"payload", MINE.agreement, BOUND)
    for at in range(len(sealed)):
        for bit in (1, 0x80):
            changed = sealed[:at] + bytes([sealed[at] ^ bit]) + sealed[at + 1 :]
            with pytest.raises(BadReply, match=r"does not open|is not sealed"):
                open_sealed(changed, MINE.agreement_key, BOUND)
        with pytest.raises(BadReply, match=r"does not open|is not sealed"):
            open_sealed(sealed[:at], MINE.agreement_key, BOUND)
    with pytest.raises(BadReply, match="does not open"):
        open_sealed(sealed + b"x", MINE.agreement_key, BOUND)


def test_only_the_recipient_opens_it() -> None:
    """Without it the party that carries the messages could read them."""
    with pytest.raises(BadReply, match="sealed to another key"):
        open_sealed(seal(b"payload", MINE.agreement, BOUND), OTHER.agreement_key, BOUND)


SWAPS: dict[str, Any] = {
    "run": "cd" * 16,
    "stage": "merging",
    "client": "bob",
    "recipient": "bob",
    "group": "B",
    "kind": "logits",
    "queries": "evaluation",
    "fraction": 0.5,
    "shapes": layout("features", 11, SIZES),
}


@pytest.mark.parametrize("what", SWAPS)
def test_a_record_does_not_open_in_anothers_place(what: str) -> None:
    """Without it a relay could give one client's features for another's, or an old stage's."""
    assert set(SWAPS) == set(_said())
    sealed = seal(b"payload", MINE.agreement, BOUND)
    with pytest.raises(BadReply, match="another run, stage, client, kind or shape"):
        open_sealed(sealed, MINE.agreement_key, binding(**_said(**{what: SWAPS[what]})))


def test_a_binding_is_one_text_for_what_it_says() -> None:
    """Without it two sides that mean the same would not open each other's records."""
    assert binding(**_said(fraction=1)) == BOUND
    again = [(n, d, tuple(s)) for n, d, s in json.loads(BOUND)["shapes"]]
    assert binding(**_said(shapes=again)) == BOUND
    assert binding(**_said(queries=None)) != binding(**_said(queries="None"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        binding(**_said(fraction=float("nan")))


def test_the_same_record_does_not_open_twice() -> None:
    """Without it a record that was sent once could be counted twice."""
    seen = Seen()
    first, second = (seal(b"payload", MINE.agreement, BOUND) for _ in range(2))
    assert seen.open(first, MINE.agreement_key, BOUND) == b"payload"
    with pytest.raises(BadReply, match="was received before"):
        seen.open(first, MINE.agreement_key, BOUND)
    assert seen.open(second, MINE.agreement_key, BOUND) == b"payload"


def test_a_record_that_did_not_open_does_not_stand_in_the_way() -> None:
    """Without it a relay could keep a record out by sending a broken copy first."""
    seen, sealed = Seen(), seal(b"payload", MINE.agreement, BOUND)
    with pytest.raises(BadReply, match="does not open"):
        seen.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), MINE.agreement_key, BOUND)
    assert seen.open(sealed, MINE.agreement_key, BOUND) == b"payload"


@pytest.mark.parametrize("sealed", [b"", b"x", b"NLFS\x01", b"NLFS\x02" + bytes(80), bytes(200)])
def test_what_is_not_sealed_is_told(sealed: bytes) -> None:
    """Without it a client that did not seal would be a traceback."""
    with pytest.raises(BadReply, match="is not sealed as version 1"):
        open_sealed(sealed, MINE.agreement_key, BOUND)


LOW = [f"{AGREEMENT}:{encoded(bytes([n]) + bytes(31))}" for n in (0, 1)]


@pytest.mark.parametrize(
    "key",
    ["", "x25519:", MINE.key, MINE.agreement[:-1], None, *LOW],
    ids=["empty", "no bytes", "of another use", "cut", "none", "low order 0", "low order 1"],
)
def test_nothing_is_sealed_to_what_is_no_key(key: Any) -> None:
    """Without it a wrong or a weak public key would let others read the record."""
    with pytest.raises(InputError, match=r"is no X25519 public key|is a point of low order"):
        seal(b"payload", key, BOUND)


def test_a_sender_cannot_choose_the_shared_secret() -> None:
    """Without it a record could be made that opens for everyone."""
    fresh = public_bytes(LOW[0], AGREEMENT)
    assert fresh is not None
    with pytest.raises(BadReply, match="does not open"):
        open_sealed(b"NLFS\x01" + fresh + bytes(40), MINE.agreement_key, BOUND)


def test_a_payload_that_the_cipher_cannot_take_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a model of more than 2 GiB would be a traceback."""
    monkeypatch.setattr(sealing, "MOST_BYTES", 8)
    assert seal(bytes(8), MINE.agreement, BOUND)
    with pytest.raises(InputError, match="9 bytes cannot be sealed; at most 8 can"):
        seal(bytes(9), MINE.agreement, BOUND)


def test_an_error_tells_nothing_of_the_payload() -> None:
    """Without it what the gate kept in could leave in an error."""
    sealed = seal(b"SECRET-PAYLOAD", MINE.agreement, BOUND)
    with pytest.raises(BadReply) as caught:
        open_sealed(sealed, MINE.agreement_key, b"other")
    told = f"{caught.value!r} {caught.value.public_reason} {caught.value.__cause__!r}"
    assert "SECRET" not in told
    assert "SECRET" not in repr(dataclasses.asdict(SIZES))


MEASURED = """
import sys
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import open_sealed, seal

def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))

def grown(do):
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    made = do()
    return made, (peak() - before) * 1024

size = 64 * 2**20
me = Identity.new()
payload = b"x" * size
sealed, one = grown(lambda: seal(payload, me.agreement, b""))
opened, two = grown(lambda: open_sealed(memoryview(sealed), me.agreement_key, b""))
assert opened == payload
print(one / size, two / size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sealing_holds_the_payload_and_the_result_and_no_more() -> None:
    """Without it a client with 350 MB of parameters would need three times that."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True
    )
    assert all(float(figure) < 1.1 for figure in done.stdout.split()), done.stdout
