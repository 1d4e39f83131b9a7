"""What a client keeps of a sum: read as it was stored, or one clear error that shows none of it."""

from __future__ import annotations

import json

import pytest
from tiny_sums import CLIENTS, MEAN, RUN

from neulig_fl.client.secagg.state import SumInProgress
from neulig_fl.core.errors import RunError
from neulig_fl.privacy import secagg
from neulig_fl.privacy.secagg import Terms
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg.requests import Part, SumRequest

ASKED = SumRequest(
    Request("sums", "A", "parameters", protection="secure-aggregation"),
    "0f" * 16,
    (Part(None, MEAN),),
)
TERMS = Terms(b"context", CLIENTS, threshold=3, entries=9, clip=8.0)
SECRET = "a secret of the state"


def _kept(identities: dict[str, str] | None = None) -> SumInProgress:
    state, _ = secagg.advertise(TERMS, "ada")
    if identities is None:
        return SumInProgress(RUN, ASKED, state)
    return SumInProgress(RUN, ASKED, state, identities, {"first": "0f"}, {"ada": "e"})


@pytest.mark.parametrize("identities", [None, {}, {"bob": "ü" * 40_000, "cyd": SECRET}])
def test_a_sum_in_progress_is_read_as_it_was_stored(identities: dict[str, str] | None) -> None:
    """Without it the next message, which may reach a new process, would be of no sum."""
    kept = _kept(identities)
    again = SumInProgress.from_bytes(kept.to_bytes())
    assert again == kept
    assert (again.run, again.asked, again.state) == (RUN, ASKED, kept.state)
    assert again.identities == (identities or {})
    assert SECRET not in repr(kept)
    assert repr(kept.state) not in repr(kept)


def _with(said: object) -> bytes:
    """A stored sum with another text before the protocol's state."""
    text = json.dumps(said).encode()
    return len(text).to_bytes(4, "big") + text + _kept().state.to_bytes()


SAID = {
    "run": RUN,
    "asked": ASKED.to_body(),
    "identities": {},
    "images": {},
    "experts": {},
    "last": {},
}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\5{",
        _with([SECRET]),
        _with(SECRET),
        _with({**SAID, "asked": {"request": SECRET}}),
        *(_with({k: v for k, v in SAID.items() if k != key}) for key in SAID),
        _with(SAID)[:-1],
        _with(SAID) + b"x",
    ],
)
def test_a_damaged_sum_in_progress_is_one_clear_error(data: bytes) -> None:
    """Without it a damaged file would be a traceback, or would be shown to the server."""
    assert SumInProgress.from_bytes(_with(SAID)).run == RUN
    with pytest.raises(RunError, match="its stored state of a secure sum is damaged; leave") as it:
        SumInProgress.from_bytes(data)
    assert it.value.public_reason == "its stored state of a secure sum is damaged"
    assert SECRET not in str(it.value)
    assert it.value.__cause__ is None
