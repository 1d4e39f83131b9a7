"""An expert's account: what a client signs, what a server and an auditor make of it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.ledger import expert_account
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge

NOISE = {"noise_multiplier": 2.0, "delta": 1e-5, "adjacency": "replace one client's model"}
RUN, OTHER = "aa" * 16, "bb" * 16


def _entry(noise: float | None = 2.0, **more: Any) -> dict[str, Any]:
    said = {"event": "release", "expert": "e", "kind": "features", "run": RUN}
    noised = {} if noise is None else {**NOISE, "noise_multiplier": noise}
    return {**said, **noised, **more}


def _book(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    """A client's ledger: each entry that leaves with the account of what was before it."""
    book: list[dict[str, Any]] = []
    for each in entries:
        leaves = each["event"] in expert_account.LEFT
        found = {"account": expert_account.account(book, each)} if leaves else {}
        book.append({**each, **found})
    return book


def _epsilon(*noise: float) -> float:
    return accountant.spent([Charge("any", each) for each in noise], 1e-5).epsilon


def test_an_account_is_of_all_that_left_of_the_expert() -> None:
    """Without it what a client signs would forget a run, a kind, or noise that was drawn anew."""
    found = _book(
        _entry(run=OTHER),
        _entry(1.0, expert="f"),
        _entry(),
        _entry(event="repeat"),
        {"event": "refusal", "expert": "e", "kind": "logits", "run": RUN},
        _entry(1.5),
    )[-1]["account"]
    assert found["noise"] == [[1.5, 1], [2.0, 2]]
    assert found["epsilon"] == pytest.approx(_epsilon(1.5, 2.0, 2.0))
    assert (found["delta"], found["adjacency"]) == (1e-5, NOISE["adjacency"])
    assert (found["unprotected"], found["runs"], found["earlier_runs"]) == ([], [OTHER], 1)


def test_what_had_no_noise_makes_it_infinite_before_and_after() -> None:
    """Without it an un-noised record of an earlier run would be outside of the account."""
    bare = _entry(None, kind="offset-sum", run=OTHER)
    first, noised, after = (e["account"] for e in _book(bare, _entry(), _entry(None)))
    assert first is None
    assert (noised["epsilon"], noised["unprotected"]) == ("inf", ["offset-sum"])
    assert (after["epsilon"], after["unprotected"]) == ("inf", ["offset-sum", "features"])
    assert after["noise"] == [[2.0, 1]]


def test_an_entry_that_names_no_expert_counts_for_every_one() -> None:
    """Without it what a version without tags released would be forgotten."""
    old = {k: v for k, v in _entry(None, kind="logits").items() if k != "expert"}
    assert _book(old, _entry())[-1]["account"]["unprotected"] == ["logits"]


def test_many_runs_are_counted_and_the_latest_named() -> None:
    """Without it an account would grow with every run until no server reads it."""
    runs = [f"{number:032x}" for number in range(30)]
    found = _book(*(_entry(run=run) for run in runs))[-1]["account"]
    assert found["earlier_runs"] == 29
    assert found["runs"] == runs[9:29]
    assert len(found["runs"]) == expert_account.MOST_RUNS


@given(
    st.lists(
        st.builds(
            _entry,
            st.sampled_from([None, 1.5, 2.0]),
            expert=st.sampled_from("ef"),
            kind=st.sampled_from(["features", "logits"]),
            run=st.sampled_from([RUN, OTHER]),
            event=st.sampled_from(["release", "release", "repeat"]),
        ),
        max_size=12,
    )
)
def test_an_honest_account_is_believed_and_any_other_figure_is_not(
    entries: list[dict[str, Any]],
) -> None:
    """Without it honest clients would be turned away, or a server believe any figure."""
    sent: list[dict[str, Any]] = []  # a repeat is of something that left
    for each in entries:
        same = [{k: v for k, v in e.items() if k not in ("event", "run")} for e in sent]
        mine = {k: v for k, v in each.items() if k not in ("event", "run")}
        sent.append(each if mine in same else {**each, "event": "release"})
    book = _book(*sent)
    assert expert_account.fault(book) is None
    received: list[dict[str, Any]] = []
    for entry in book:
        if entry["run"] != RUN:
            continue
        assert expert_account.problem(entry, received) is None
        account = entry["account"]
        if account is not None:
            claimed = 0.1 if account["epsilon"] == "inf" else account["epsilon"] * 0.99
            forged = {**entry, "account": {**account, "epsilon": claimed}}
            told = expert_account.problem(forged, received)
            assert told is not None
            assert told.startswith("claims an epsilon of ")
        received.append(entry)


FORGED: list[tuple[dict[str, Any] | None, str]] = [
    (None, "has no account of the noise that left"),
    ({"noise": [[2.0, 1]]}, "accounts for less noise than has been released"),
    ({"noise": [[3.0, 2]]}, "accounts for less noise than has been released"),
    ({"unprotected": []}, "does not account for logits, which left without noise"),
    ({"epsilon": 1.0}, "claims an epsilon of 1.0 for what comes to inf"),
    ({"epsilon": math.nan}, "has an account that is none"),
    ({"epsilon": True}, "has an account that is none"),
    ({"delta": 0}, "has an account that is none"),
    ({"delta": 1.0}, "has an account that is none"),
    ({"noise": []}, "has an account that is none"),
    ({"noise": [[2.0, 2], [2.0, 2]]}, "has an account that is none"),
    ({"noise": [[2.0, True]]}, "has an account that is none"),
    ({"noise": [[2.0, 10**400]]}, "has an account that is none"),
    ({"noise": [[1e-300, 2]]}, "has an account that is none"),
    ({"noise": [["2.0", 2]]}, "has an account that is none"),
    ({"unprotected": "logits"}, "has an account that is none"),
    ({"unprotected": [["logits"]]}, "has an account that is none"),
    ({"earlier_runs": -1}, "has an account that is none"),
    ({"more": 1}, "has an account that is none"),
]


@pytest.mark.parametrize(("forged", "told"), FORGED, ids=[str(i) for i in range(len(FORGED))])
def test_an_account_that_cannot_be_true_is_not_believed(
    forged: dict[str, Any] | None, told: str
) -> None:
    """Without it a client could sign less than the server itself received from it."""
    *earlier, entry = _book(_entry(), _entry(None, kind="logits"), _entry())
    assert expert_account.problem(entry, earlier) is None
    found = None if forged is None else {**copy.deepcopy(entry["account"]), **forged}
    assert expert_account.problem({**entry, "account": found}, earlier) == told
    assert expert_account.fault([*earlier, {**entry, "account": found}]) is not None


def test_an_account_never_shrinks() -> None:
    """Without it a client could tell of its earlier runs once, and forget them in the next stage."""
    before = _entry(run=OTHER), _entry(None, kind="logits", run=OTHER)
    first, second = _book(*before, _entry(1.5), _entry(1.5))[2:]
    assert expert_account.problem(second, [first]) is None
    for shorter in (before[:1], before[1:], ()):
        forgotten = _book(*shorter, _entry(1.5), _entry(1.5))[-1]
        assert expert_account.problem(forgotten, [first]) is not None
    bare = {**_entry(None), "account": None}
    assert expert_account.problem(bare, [first]) == "has no account of the noise that left"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_ledger_whose_accounts_are_others_is_found(at: int) -> None:
    """Without it an auditor with the whole ledger would believe a figure that it does not bear."""
    book = _book(_entry(run=OTHER), _entry(), _entry(event="repeat"))
    assert expert_account.fault(book) is None
    book[at] = {**book[at], "account": {**book[at]["account"], "earlier_runs": 7}}
    found = expert_account.fault(book)
    assert found is not None
    assert (found.index, "not what the ledger comes to" in found.what) == (at, True)


@pytest.mark.parametrize("lie", [{"delta": 0.9}, {"adjacency": "nothing at all"}])
def test_an_account_is_at_the_delta_and_adjacency_of_its_noise(lie: dict[str, Any]) -> None:
    """Attack: one client's account at delta 0.9 makes epsilon 0 for all, under any words."""
    first, bare = _book(_entry(), _entry(None, kind="logits"))
    for entry, earlier in ((first, []), (bare, [first])):
        account = {**entry["account"], **lie}
        said = accountant.spent(expert_account.charged([account]), account["delta"]).epsilon
        told = {**entry, "account": {**account, "epsilon": expert_account.json_number(said)}}
        found = expert_account.problem(told, earlier)
        assert found == "accounts at another delta or adjacency than its noise has"
        assert expert_account.problem(entry, earlier) is None
