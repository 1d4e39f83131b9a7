"""Attacks on what leverage says of a run: counted again, from the receipts alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import forged
import pytest
import tiny

from neulig_fl.client.store import ClientStore
from neulig_fl.ledger import chain, key_store, manifest
from neulig_fl.ledger.chain import Entry
from neulig_fl.study import runs
from neulig_fl.verification import leverage_check
from neulig_fl.verification.whole_run import verify

NAMES = ("ada", "bob", "cyd", "dan")
ALL = dict.fromkeys(NAMES, 0.25)
LIMITS = dict.fromkeys(NAMES, 0.5)


def _receipt(
    client: str, number: str, leverage: float, *rows: dict[str, float], **more: Any
) -> Entry:
    sums = [{"of": more.get("of", "model"), "weights": row} for row in rows]
    entry = {
        "event": chain.RELEASE,
        "expert": f"{client}'s",
        "group": "A",
        "round": number,
        "leverage": leverage,
        "sums": sums,
        **more,
    }
    return {"client": client, "entry": entry}


def _round(number: str, leverage: float, row: dict[str, float], **more: Any) -> list[Entry]:
    """The receipts of one sum of all whose weight is in the row."""
    return [_receipt(name, number, leverage, row, **more) for name in row]


def _faults(receipts: list[Entry], **more: Any) -> list[str]:
    found = leverage_check.check(receipts, more.get("outcomes", {}), more.get("limits", LIMITS))
    return [f"{fault.index}: {fault.what}" for fault in found.faults]


def test_an_honest_history_holds() -> None:
    """Without it every attack here would be found for the wrong reason."""
    uneven = {"ada": 0.4, "bob": 0.3, "cyd": 0.2, "dan": 0.1}
    both = leverage_check.posterior.leverages([ALL, uneven])
    later = [_receipt(name, "2", round(both[name], 12), uneven) for name in NAMES]
    receipts = [*_round("1", 0.25, ALL), *later]
    found = leverage_check.check(receipts, {}, dict.fromkeys(NAMES, 0.75))
    assert (found.entries, found.faults, found.more) == (8, [], [])


def test_a_leverage_that_is_signed_too_low_is_found() -> None:
    """The attacker, a client whose code counts wrongly, would seem to be within its limit."""
    receipts = [*_round("1", 0.25, ALL), *_round("2", 0.25, {**ALL, "dan": 0.3})]
    assert _faults(receipts, limits=dict.fromkeys(NAMES, 1.0)) == [
        f"{4 + at}: the entry that client {name!r} signed says a leverage of 0.25 where its own "
        f"rows come to {value}"
        for at, (name, value) in enumerate(
            zip(NAMES, ("0.333333", "0.333333", "0.333333", "1"), strict=True)
        )
    ]


def test_more_leverage_than_the_receipts_come_to_is_told() -> None:
    """Without it a client with a history of other runs would be called a forger, or nobody told."""
    found = leverage_check.check(_round("1", 0.4, ALL), {}, LIMITS)
    assert (found.faults, found.more) == ([], [*NAMES])


def test_sums_in_another_order_single_nobody_out_unseen() -> None:
    """The attacker, the server, would ask without dan first: no client's own rows show it."""
    without = dict.fromkeys(NAMES[:3], 1 / 3)
    others = [_receipt(name, "2", 0.3333333333, ALL) for name in NAMES[:3]]
    receipts = [*_round("1", 0.3333333333, without), *others, _receipt("dan", "2", 0.25, ALL)]
    assert _faults(receipts) == [
        "6: together the sums over model tell 1 of client 'dan', above its max_leverage 0.5"
    ]


def test_three_sums_that_no_client_saw_all_of_are_put_together() -> None:
    """The attacker, the server, would have each client see rows that look harmless."""
    rows = [
        {"ada": 1.0, "bob": 1.0, "cyd": 1.0},
        {"ada": 1.0, "bob": 1.0, "dan": 1.0},
        {"ada": 1.0, "cyd": 1.0, "dan": 1.0},
    ]
    receipts = [e for i, row in enumerate(rows) for e in _round(str(i), 1.0, row)]
    assert _faults(receipts) == [
        f"8: together the sums over model tell 0.857143 of client {name!r}, above its "
        "max_leverage 0.5"
        for name in NAMES[1:]
    ]


def _alone(client: str, kind: str = "parameters", **more: Any) -> Entry:
    """The receipt of a record that left in no sum."""
    entry = {"event": chain.RELEASE, "expert": f"{client}'s", "group": "A", "kind": kind}
    return {"client": client, "entry": {**entry, "protection": "none", "fraction": 1.0, **more}}


@pytest.mark.parametrize(
    ("left", "of", "found"),
    [
        ({}, "model", True),
        ({"kind": "trimmed-task-vector", "fraction": 0.1}, "model", True),
        ({"protection": "gaussian", "noise_multiplier": 1e-6}, "model", True),
        ({"event": chain.REPEAT}, "model", True),
        ({"kind": "labels", "images": ["x"]}, "outputs x", True),
        ({}, "outputs x", True),
        ({"kind": "labels", "images": ["y"]}, "outputs x", False),
        ({"kind": "offset-sum"}, "model", False),
        ({"group": "B"}, "model", False),
    ],
)
def test_what_others_released_alone_before_a_sum_is_counted(
    left: dict[str, Any], of: str, found: bool
) -> None:
    """The attackers, clients whose code does not count what others released, would pass."""
    kind = "parameters" if of == "model" else "features"
    mean = _round("1", 0.25, ALL, of=of, kind=kind)
    others = [_alone(name, **left) for name in NAMES[1:]]
    faults = _faults([*others, *mean])
    assert bool(faults) == found
    if found:
        assert (
            f"6: the sums over {of} and what others released alone before tell 1 of client 'ada', "
            "above its max_leverage 0.5"
        ) in faults
    assert _faults([*mean, *others]) == [], "what leaves later nobody could know"
    own = [_alone(name, kind, images=["x"]) for name in NAMES]
    assert _faults([*own, *others, *mean]) == [], "who gave the same guards nothing"


def test_a_client_that_fell_silent_is_no_forgery() -> None:
    """Without it one lost message would make an honest run fail, or an attack pass."""
    three = dict.fromkeys(NAMES[:3], 0.25)
    lost = [_receipt(name, "1", 0.25, ALL) for name in NAMES[:3]]  # dan's vector did not arrive
    as_asked = [_receipt(name, "2", 0.25, ALL) for name in NAMES]
    after = leverage_check.posterior.leverages([three, ALL])
    as_survived = [_receipt(name, "2", round(after[name], 12), ALL) for name in NAMES[:3]]
    limits = dict.fromkeys(NAMES, 1.0)
    assert _faults([*lost, *as_asked], limits=limits) == []
    assert _faults([*lost, *as_survived], limits=limits) == []
    confirmed = {name: {"1": [*NAMES[:3]]} for name in NAMES}
    assert _faults([*lost, *as_survived], limits=limits, outcomes=confirmed) == []
    assert len(_faults([*lost, *as_asked], limits=limits, outcomes=confirmed)) == 3
    found = _faults([*lost, *as_survived], outcomes=confirmed)
    assert found == [
        "5: together the sums over model tell 1 of client 'dan', above its max_leverage 0.5"
    ]


def test_statistics_and_experts_have_their_own_rows() -> None:
    """Without it sums of other vectors would be held against a client."""
    without = dict.fromkeys(NAMES[:3], 1 / 3)
    for of in ("outputs x", "outputs y"):
        other = [*_round("1", 1 / 3, without, of="outputs x"), *_round("2", 0.25, ALL, of=of)]
        assert (_faults(other) == []) is (of == "outputs y")
    grouped = [*_round("1", 1 / 3, without, group="B", expert="b"), *_round("2", 0.25, ALL)]
    assert _faults(grouped) == []


def test_a_model_counts_for_all_its_answers() -> None:
    """The attacker, the server, would ask for answers without dan, then for models with him."""
    without = dict.fromkeys(NAMES[:3], 1 / 3)
    receipts = [*_round("1", 1 / 3, without, of="outputs x"), *_round("2", 0.25, ALL)]
    found = _faults(receipts)
    assert len(found) == 4
    assert found[0] == (
        "3: the entry that client 'ada' signed says a leverage of 0.25 where its own rows come to "
        "0.333333"
    )
    assert found[-1].startswith("6: together the sums over outputs x tell 1 of client 'dan'")


@pytest.mark.parametrize(
    "change",
    [
        {"leverage": None}, {"leverage": True}, {"leverage": float("nan")}, {"round": 7},
        {"sums": 7}, {"sums": [7]}, {"sums": [{"of": 7, "weights": {}}]}, {"sums": [{"of": "x"}]},
        {"sums": [{"of": "x", "weights": {"ada": "1"}}]},
        {"sums": [{"of": "x", "weights": {"ada": float("inf")}}]},
    ],
)  # fmt: skip
def test_rows_that_are_none_are_found(change: dict[str, Any]) -> None:
    """The attacker would leave out what can be counted, or end the check with a traceback."""
    receipt = _receipt("ada", "1", 0.25, ALL)
    receipt["entry"] |= change
    (fault,) = _faults([receipt])
    assert fault.startswith("0: names sums")


# ---------------------------------------------------------------- a whole run


SUMS: dict[str, Any] = {
    "clients": [
        {"name": name, "task": task}
        for name, task in zip(tiny.CLIENTS, ("first", "second", "first"), strict=True)
    ],
    "on_refusal": "continue",
    "stages": [
        {
            "name": "sums",
            "share": [
                {"kind": "features", "queries": ["evaluation"], "protection": "secure-aggregation"},
                {"kind": "parameters", "protection": "secure-aggregation"},
            ],
            "run": ["merge"],
        }
    ],
}


def test_a_run_whose_client_signs_too_little_leverage_does_not_verify(
    data: Path, tmp_path: Path
) -> None:
    """The attacker, a client and its server, would hide that a policy was overstepped."""
    keys, out = tmp_path / "server", tmp_path / "out"
    runs.run(tiny.write(tmp_path, data, **SUMS), engine="local", out=out, server_keys=keys)
    (found,) = verify(out)
    assert found.failures == ()
    assert any(each.startswith("leverage: counted again for 6 entries") for each in found.checked)
    ada = ClientStore(out / "clients" / "ada").identity
    own = [
        {**e, "leverage": 0.1} if e["event"] == chain.RELEASE else e
        for e in forged.entries(out / "clients" / "ada" / "ledger.jsonl")
    ]
    (out / "clients" / "ada" / "ledger.jsonl").write_bytes(forged.chained(own, ada))
    signed = forged.entries(out / "clients" / "ada" / "ledger.jsonl")
    kept = [
        {**e, "entry": signed[e["entry"]["index"]]} if e["client"] == "ada" else e
        for e in forged.entries(out / manifest.RECEIPTS)
    ]
    forged.receipts(out, kept)
    shutil.rmtree(out / "clients")
    made = manifest.parsed((out / manifest.FILE).read_bytes())
    closings = {**made.clients, "ada": {"reason": "missing: it rains"}}
    forged.signed(out, key_store.identity(keys), clients=closings)
    (found,) = verify(out)
    (failure,) = found.failures
    assert failure.file == out / manifest.RECEIPTS
    assert "'ada' signed says a leverage of 0.1 where its own rows come to 0.333333" in failure.what
