"""What a run cost each client: all that it signed, each fresh noise once, at one delta."""

from __future__ import annotations

from typing import Any

import pytest

from neulig_fl.ledger import expert_account, privacy_cost
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge

STAGES = ("first", "second", "third")
ADJACENCY = "replace one client's model"
RUN = "cc" * 16


def _entry(
    client: str = "ada",
    stage: str = "first",
    noise: float | None = 2.0,
    delta: float = 1e-5,
    **more: Any,
) -> dict[str, Any]:
    """What a client enters of one record, without its account."""
    entry: dict[str, Any] = {"client": client, "kind": "features", "stage": stage, "run": RUN}
    entry |= {"event": "release", "expert": f"{client}'s"}
    if noise is not None:
        entry |= {"noise_multiplier": noise, "delta": delta, "adjacency": ADJACENCY}
    return {**entry, **more}


def _receipts(*entries: dict[str, Any], before: tuple[dict[str, Any], ...] = ()) -> list[Any]:
    """A server's receipts of entries, each with its client's account, as a store makes it."""
    books: dict[str, list[dict[str, Any]]] = {}
    for each in before:
        books.setdefault(each["client"], []).append(each)
    found = []
    for each in entries:
        book = books.setdefault(each["client"], [])
        signed = {**each, "account": expert_account.account(book, each)}
        book.append(signed)
        found.append({"client": each["client"], "entry": signed})
    return found


def _epsilon(*noise: float, delta: float = 1e-5) -> Any:
    """What fresh releases cost together, from the accountant."""
    return pytest.approx(accountant.spent([Charge("any", n) for n in noise], delta).epsilon)


def _of_clients(found: dict[str, Any]) -> dict[str, Any]:
    return {each["client"]: each["epsilon"] for each in found["clients"]}


def test_a_record_that_leaves_again_costs_nothing_again() -> None:
    """Without it repeating a stage would look like fresh noise, and cost more than it does."""
    again = [_entry(stage=stage, event="repeat") for stage in STAGES[1:]]
    found = privacy_cost.account(_receipts(_entry(), *again), STAGES)
    assert found["epsilon"] == _epsilon(2.0)
    assert [s["so_far"] for s in found["stages"]] == [_epsilon(2.0)] * 3
    assert [s["epsilon"] for s in found["stages"]] == [_epsilon(2.0), None, None]


def test_fresh_noise_of_the_same_record_costs_again() -> None:
    """Without it a record whose stored bytes were lost would be noised anew for nothing."""
    twice = _receipts(_entry(fingerprint="f"), _entry(fingerprint="f"))
    found = privacy_cost.account(twice, STAGES)
    assert found["epsilon"] == found["stages"][0]["epsilon"] == _epsilon(2.0, 2.0)


def test_every_client_costs_what_it_costs() -> None:
    """Without it clients of one record would be counted as one."""
    found = privacy_cost.account(_receipts(_entry("ada"), _entry("bob"), _entry("bob")), STAGES)
    assert _of_clients(found) == {"ada": _epsilon(2.0), "bob": _epsilon(2.0, 2.0)}
    assert found["epsilon"] == _epsilon(2.0, 2.0)


def test_what_left_in_earlier_runs_counts_and_is_named() -> None:
    """Without it each run would report its own share of what a server holds by now."""
    earlier = (_entry(run="aa" * 16), _entry("bob", noise=None, run="bb" * 16, kind="offset-sum"))
    new = (_entry("ada", "second"), _entry("bob", "second"), _entry("cyd", "second"))
    found = privacy_cost.account(_receipts(*new, before=earlier), STAGES)
    assert _of_clients(found) == {"ada": _epsilon(2.0, 2.0), "bob": "inf", "cyd": _epsilon(2.0)}
    told = [(c["unprotected"], c["earlier_runs"], c["runs"]) for c in found["clients"]]
    assert told == [([], 1, ["aa" * 16]), (["offset-sum"], 1, ["bb" * 16]), ([], 0, [])]
    assert [s["epsilon"] for s in found["stages"]] == [None, _epsilon(2.0), None]
    assert [s["so_far"] for s in found["stages"]] == [None, "inf", "inf"]


def test_another_expert_of_a_client_counts_with_the_first() -> None:
    """Without it a client with an expert for each group would report the cheaper one."""
    both = [_entry(), _entry(expert="other", stage="second", noise=1.5)]
    found = privacy_cost.account(_receipts(*both), STAGES)
    assert found["epsilon"] == _epsilon(2.0, 1.5)
    assert [e["noise"] for e in found["clients"][0]["experts"]] == [[[2.0, 1]], [[1.5, 1]]]
    bare = [_entry(), _entry(expert="other", stage="second", noise=None, kind="logits")]
    found = privacy_cost.account(_receipts(*bare), STAGES)
    assert (found["epsilon"], found["clients"][0]["unprotected"]) == ("inf", ["logits"])


@pytest.mark.parametrize("order", [1, -1])
def test_the_largest_delta_covers_all(order: int) -> None:
    """Without it the run's guarantee would be stated at a delta that one record does not keep."""
    entries = [_entry("ada", delta=1e-6), _entry("bob", noise=3.0, delta=1e-4)]
    found = privacy_cost.account(_receipts(*entries[::order]), STAGES)
    assert found["delta"] == 1e-4
    expected = {"ada": _epsilon(2.0, delta=1e-4), "bob": _epsilon(3.0, delta=1e-4)}
    assert _of_clients(found) == expected
    assert found["epsilon"] == _epsilon(2.0, delta=1e-4)
    assert found["stages"][0]["epsilon"] == _epsilon(2.0, delta=1e-4)


def test_stages_add_up_for_each_client_and_the_largest_is_told() -> None:
    """Without it a stage's figure would mix clients, or forget what was spent before it."""
    entries = [
        _entry("ada", "first", 2.0), _entry("bob", "first", 4.0), _entry("bob", "second", 1.5),
    ]  # fmt: skip
    found = privacy_cost.account(_receipts(*entries), STAGES)
    assert [s["stage"] for s in found["stages"]] == list(STAGES)
    assert [s["epsilon"] for s in found["stages"]] == [_epsilon(2.0), _epsilon(1.5), None]
    so_far = [_epsilon(2.0), _epsilon(4.0, 1.5), _epsilon(4.0, 1.5)]
    assert [s["so_far"] for s in found["stages"]] == so_far
    assert (found["epsilon"], found["adjacency"]) == (_epsilon(4.0, 1.5), ADJACENCY)


def test_what_has_no_noise_makes_its_own_client_infinite() -> None:
    """Without it a record without noise would be free, or be charged to those who noise theirs."""
    entries = [
        _entry("ada", "first"),
        _entry("bob", "second", None, kind="offset-sum"),
        _entry("bob", "second", None, kind="logits"),
        _entry("bob", "second", None, kind="offset-sum"),
    ]
    found = privacy_cost.account(_receipts(*entries), STAGES)
    assert _of_clients(found) == {"ada": _epsilon(2.0), "bob": "inf"}
    assert [c["unprotected"] for c in found["clients"]] == [[], ["offset-sum", "logits"]]
    assert found["epsilon"] == "inf"
    assert [s["epsilon"] for s in found["stages"]] == [_epsilon(2.0), "inf", None]
    assert [s["so_far"] for s in found["stages"]] == [_epsilon(2.0), "inf", "inf"]


def test_without_noise_nothing_is_claimed() -> None:
    """Without it a plain run would have an epsilon that nobody promised."""
    refused = [{"client": "ada", "reason": "refused"}, {"entry": None}]
    assert privacy_cost.account([*_receipts(_entry(noise=None)), *refused], STAGES) == {
        "epsilon": None,
        "delta": None,
        "adjacency": None,
        "clients": [],
        "stages": [],
    }


# ---------------------------------------------------------------- over seeds


def _report(*receipts: dict[str, Any]) -> dict[str, Any]:
    """What of a report over seeds are added up."""
    entries = [each["entry"] for each in receipts]
    releases = [{"client": e["client"], "kind": e["kind"]} for e in entries]
    found = privacy_cost.account(receipts, STAGES)
    return {"privacy": found, "stages": [{"releases": releases}]}


def test_seeds_of_one_scenario_add_up() -> None:
    """Without it each seed, with an expert of its own of the same images, would start from 0."""
    reports = [_report(*_receipts(_entry(expert=seed), _entry("bob"))) for seed in ("s1", "s2")]
    found = privacy_cost.over_seeds(reports)
    assert _of_clients(found) == {"ada": _epsilon(2.0, 2.0), "bob": _epsilon(2.0)}
    assert found["epsilon"] == _epsilon(2.0, 2.0)
    assert found["adjacency"] == f"{ADJACENCY}, of all seeds at once"
    assert privacy_cost.over_seeds(reports[:1])["epsilon"] == reports[0]["privacy"]["epsilon"]


def test_an_expert_that_two_runs_know_is_counted_as_it_was_last() -> None:
    """Without it a store that outlives the runs would have its account counted once for each."""
    first = (_entry(run="aa" * 16),)
    reports = [_report(*_receipts(*first)), _report(*_receipts(_entry(), before=first))]
    for order in (reports, reports[::-1]):
        found = privacy_cost.over_seeds(order)
        assert found["epsilon"] == _epsilon(2.0, 2.0)
        assert found["clients"][0]["experts"][0]["noise"] == [[2.0, 2]]


def test_a_seed_that_claims_nothing_gave_away_what_it_gave() -> None:
    """Without it a seed in which nothing was noised would not count at all."""
    bare = _report(*_receipts(_entry(noise=None, kind="logits")))
    found = privacy_cost.over_seeds([_report(*_receipts(_entry(), _entry("bob"))), bare])
    assert _of_clients(found) == {"ada": "inf", "bob": _epsilon(2.0)}
    assert found["clients"][0]["unprotected"] == ["logits"]
    assert privacy_cost.over_seeds([bare, bare])["epsilon"] is None
