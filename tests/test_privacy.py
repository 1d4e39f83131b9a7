"""What a run cost each client: each record once, with the delta that covers them all."""

from __future__ import annotations

import math
from typing import Any

import pytest

from neulig_fl import accountant, privacy
from neulig_fl.accountant import Charge

STAGES = ("first", "second", "third")
ADJACENCY = "replace one client's model"


def _receipt(
    client: str = "ada",
    stage: str = "first",
    noise: float | None = 2.0,
    of: str | None = None,
    delta: float = 1e-5,
    kind: str = "features",
) -> dict[str, Any]:
    """A receipt with a client's signed entry, of a record that `of` identifies."""
    entry: dict[str, Any] = {"client": client, "kind": kind, "stage": stage}
    if of is not None:
        entry["fingerprint"] = of
    if noise is not None:
        entry |= {"noise_multiplier": noise, "delta": delta, "adjacency": ADJACENCY}
    return {"client": client, "entry": entry}


def _epsilon(*noise: float, delta: float = 1e-5) -> Any:
    """What fresh releases cost together, from the accountant."""
    return pytest.approx(accountant.spent([Charge("any", n) for n in noise], delta).epsilon)


def _of_clients(found: dict[str, Any]) -> dict[str, Any]:
    return {each["client"]: each["epsilon"] for each in found["clients"]}


def test_a_record_that_leaves_again_costs_nothing_again() -> None:
    """Without it repeating a stage would look like fresh noise, and cost more than it does."""
    again = [_receipt(of="x"), _receipt(of="x", stage="second"), _receipt(of="x", stage="third")]
    found = privacy.account(again, STAGES)
    assert found["epsilon"] == _epsilon(2.0)
    assert [s["so_far"] for s in found["stages"]] == [_epsilon(2.0)] * 3
    assert [s["epsilon"] for s in found["stages"]] == [_epsilon(2.0), None, None]


def test_every_other_record_costs_what_it_costs() -> None:
    """Without it records of one client, or clients of one record, would be counted once."""
    two = privacy.account([_receipt(of="x"), _receipt(of="y")], STAGES)
    assert two["epsilon"] == _epsilon(2.0, 2.0)
    unnamed = privacy.account([_receipt(), _receipt(), _receipt()], STAGES)
    assert unnamed["epsilon"] == _epsilon(2.0, 2.0, 2.0)
    shared = [_receipt("ada", of="x"), _receipt("bob", of="x"), _receipt("bob", of="y")]
    found = privacy.account(shared, STAGES)
    assert _of_clients(found) == {"ada": _epsilon(2.0), "bob": _epsilon(2.0, 2.0)}
    assert found["epsilon"] == _epsilon(2.0, 2.0)


@pytest.mark.parametrize("order", [1, -1])
def test_the_largest_delta_covers_all(order: int) -> None:
    """Without it the run's guarantee would be stated at a delta that one record does not keep."""
    receipts = [_receipt("ada", delta=1e-6, of="x"), _receipt("bob", noise=3.0, delta=1e-4)]
    found = privacy.account(receipts[::order], STAGES)
    assert found["delta"] == 1e-4
    expected = {"ada": _epsilon(2.0, delta=1e-4), "bob": _epsilon(3.0, delta=1e-4)}
    assert _of_clients(found) == expected
    assert found["epsilon"] == _epsilon(2.0, delta=1e-4)
    assert found["stages"][0]["epsilon"] == _epsilon(2.0, delta=1e-4)


def test_stages_add_up_for_each_client_and_the_largest_is_told() -> None:
    """Without it a stage's figure would mix clients, or forget what was spent before it."""
    receipts = [
        _receipt("ada", "first", 2.0),
        _receipt("bob", "first", 4.0),
        _receipt("bob", "second", 1.5),
    ]
    found = privacy.account(receipts, STAGES)
    assert [s["stage"] for s in found["stages"]] == list(STAGES)
    assert [s["epsilon"] for s in found["stages"]] == [_epsilon(2.0), _epsilon(1.5), None]
    so_far = [_epsilon(2.0), _epsilon(4.0, 1.5), _epsilon(4.0, 1.5)]
    assert [s["so_far"] for s in found["stages"]] == so_far
    assert (found["epsilon"], found["adjacency"]) == (_epsilon(4.0, 1.5), ADJACENCY)


def test_what_has_no_noise_makes_its_own_client_infinite() -> None:
    """Without it a record without noise would be free, or be charged to those who noise theirs."""
    receipts = [
        _receipt("ada", "first"),
        _receipt("bob", "second", None, kind="offset-sum"),
        _receipt("bob", "second", None, kind="logits"),
        _receipt("bob", "second", None, kind="offset-sum", of="other"),
    ]
    found = privacy.account(receipts, STAGES)
    assert found["clients"] == [
        {"client": "ada", "epsilon": _epsilon(2.0), "unprotected": []},
        {"client": "bob", "epsilon": "inf", "unprotected": ["offset-sum", "logits"]},
    ]
    assert found["epsilon"] == "inf"
    assert [s["epsilon"] for s in found["stages"]] == [_epsilon(2.0), "inf", None]
    assert [s["so_far"] for s in found["stages"]] == [_epsilon(2.0), "inf", "inf"]
    assert privacy.shown(math.inf) == "inf"


def test_without_noise_nothing_is_claimed() -> None:
    """Without it a plain run would have an epsilon that nobody promised."""
    receipts = [_receipt(noise=None), {"client": "ada", "refused": True}, {"entry": None}]
    assert privacy.account(receipts, STAGES) == {
        "epsilon": None,
        "delta": None,
        "adjacency": None,
        "clients": [],
        "stages": [],
    }
