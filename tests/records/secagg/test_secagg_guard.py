"""Why a client takes no part in a sum, where it cannot believe all that it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from neulig_fl.privacy import leverage
from neulig_fl.privacy.leverage import MODEL, WeightedSum
from neulig_fl.records.secagg import guard
from neulig_fl.records.secagg.guard import Doubts, objection

LIMIT = 0.5


def _row(*names: str, told: tuple[str, ...] | None = None, **weights: float) -> WeightedSum:
    return WeightedSum(MODEL, {**dict.fromkeys(names, 1.0), **weights}, told=told)


@pytest.mark.parametrize("told", [("eve",), ("eve", "dan"), ()])
def test_who_was_not_there_excuses_no_sum(told: tuple[str, ...]) -> None:
    """Without it a client that works with the server would say that another is known already."""
    first = WeightedSum(MODEL, dict.fromkeys(("ada", "bob", "cyd"), 1.0), told={"cyd"})
    asked = [WeightedSum(MODEL, dict.fromkeys(("bob", "cyd"), 1.0))]
    alone = WeightedSum(MODEL, {"ada": 1.0}, told=set(told))
    lies = [
        alone,
        replace(alone, weights={"ada": 1.0, "eve": 1.0}),
        replace(alone, weights={"eve": 1.0}),
    ]
    for before in ([first], [first, alone], [first, *lies]):
        reason = objection(before, asked, "bob", LIMIT)
        assert reason is not None
        assert "'ada'" in reason
    assert objection([first, replace(alone, told={"ada"})], asked, "bob", LIMIT) is None
    both = replace(lies[1], told={"ada", "eve"})
    assert objection([first, both, replace(lies[2], told={"eve"})], asked, "bob", LIMIT) is None


def test_doubt_forbids_no_sum_that_adds_nothing() -> None:
    """Without it a lie about one client, or an old sum of few, would end the sums of all others."""
    rows = [WeightedSum(MODEL, {"ada": 1.0, "bob": 0.1}, told={"bob"})]
    asked = [WeightedSum(MODEL, dict.fromkeys(("cyd", "dan", "fay"), 1.0))]
    assert objection(rows, asked, "cyd", LIMIT) is None
    many = [replace(rows[0], told={f"x{n}"}) for n in range(guard.MOST_DOUBTED + 1)]
    reason = objection(many, asked, "cyd", LIMIT)
    assert reason is not None, "too many to try: nothing is believed"
    assert "'ada'" in reason


@pytest.mark.parametrize("count", [300, 600])
def test_a_long_lie_takes_no_longer_than_a_short_one(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a client that works with the server would keep every other one busy for hours."""
    calls = []

    def counted(*arguments: Any) -> dict[str, float]:
        calls.append(arguments)
        return leverage.known(*arguments)

    monkeypatch.setattr(guard, "known", counted)
    lies = [WeightedSum(MODEL, {f"x{n}": 1.0}, told={"eve"}) for n in range(count)]
    asked = [WeightedSum(MODEL, dict.fromkeys(("cyd", "dan", "fay"), 1.0))]
    refused = objection(lies, asked, "cyd", LIMIT)
    assert (refused is not None) == (count > guard.MOST_DOUBTED_ROWS)
    assert len(calls) <= 6


def test_weights_next_to_nothing_bear_nothing_out() -> None:
    """Attack: 1,200 rows in which ada weighs a millionth make ada known, by eve's word alone."""
    lies = [
        _row("eve", told=("eve",), ada=sign * (9.9e-7 - n * 1e-12))
        for n in range(100)
        for sign in (1, -1)
    ]
    assert not any(lie.borne_out("bob", "ada") for lie in lies)
    before = [_row("ada", "bob", "cyd", told=("cyd",)), *lies]
    assert objection(before, [_row("bob", "cyd")], "bob", LIMIT) is not None


def test_what_nobody_confirms_is_doubted_by_itself() -> None:
    """Attack: a lie that nobody confirms excuses a sum that nobody confirmed, but that was made."""
    before = replace(_row("ada", "bob", "cyd", told=()), source=("1", "all"))
    lie = replace(_row("ada", told=()), source=("2", "all"))
    assert objection([before, lie], [_row("bob", "cyd")], "bob", LIMIT) is not None


def test_a_round_ends_in_one_way() -> None:
    """Without it two ways in which a sum may have ended would single out who was in one of them."""
    ends = [
        replace(_row("ada", "cyd", "dan", "eve", told=("dan",)), source=("1", "some")),
        replace(_row("ada", "bob", "cyd", "dan", "eve", told=()), source=("1", "all")),
    ]
    asked = [_row("bob", "fay")]
    assert objection(ends, asked, "gus", 0.6) is None, "five ninths of fay at most"
    apart = [replace(each, source=(str(n), "")) for n, each in enumerate(ends)]
    reason = objection(apart, asked, "gus", 0.6)
    assert reason is not None, "of two rounds both may be so, and tell bob"
    assert "'fay'" in reason


def test_more_than_can_be_checked_is_refused_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a liar's history of many sums of many clients would take hours."""
    monkeypatch.setattr(guard, "MOST_CELLS", 12)
    few = [_row("ada", "bob", "cyd") for _ in range(3)]
    assert objection(few, [_row("ada", "bob", "cyd")], "ada", LIMIT) is None
    reason = objection([*few, *few], [_row("ada", "bob", "cyd")], "ada", LIMIT)
    assert reason == "sums of 3 clients in 7 rows are more than can be checked"


def test_a_doubted_sum_that_leaves_a_vector_at_its_limit_is_no_reason() -> None:
    """Without it one lie would refuse what is within all limits, by a rounding error."""
    before = _row("ada", "bob", "cyd", "dan", told=("bob",))
    lies, asked = [_row(name, told=("eve",)) for name in ("ada", "bob")], [_row("cyd", "dan")]
    assert objection([before, *lies], asked, "cyd", LIMIT) is None
    assert objection([before, *lies], asked, "cyd", LIMIT - 1e-6) is not None


def test_what_drops_out_later_adds_to_what_was_agreed() -> None:
    """Without it who is left would be judged as if they had agreed to be left."""
    agreed = [_row("ada", "bob", "cyd")]
    left = [_row("ada", "bob")]
    assert objection([], left, "bob", LIMIT, agreed=agreed) is None
    reason = objection([], [_row("ada", bob=0.1)], "bob", LIMIT, agreed=agreed)
    assert reason is not None, "ada agreed to a third"
    assert objection([], [_row("ada", bob=0.1)], "bob", LIMIT) is None, "that ada judges itself"


def test_the_largest_of_what_may_be_added_is_reported() -> None:
    """Without it a refusal would tell of less than it is for."""
    rows = [_row("ada", "bob", "cyd", told=("bob",)), _row("bob", told=("eve",))]
    doubts = Doubts(rows, [_row("cyd", "dan")], "dan")
    found = [
        leverage.known([*each, _row("cyd", "dan")])["ada"] for each in ([], rows[:1], rows) if each
    ]
    assert doubts.added("ada", 0.0) == pytest.approx(max(found))
    assert doubts.added("ada", 0.7) == 0.0, "it agreed to as much"


def test_experts_are_told_apart_as_in_what_is_asked() -> None:
    """Without it a vector of another expert would count as the one that is asked for now."""
    rows = [
        replace(_row("ada", "bob", told=("cyd",)), versions={"ada": "1", "bob": "1"}),
        replace(_row("bob", told=("cyd",)), versions={"bob": "2"}),
    ]
    asked = [replace(_row("cyd", "dan"), versions={"cyd": "1", "dan": "1"})]
    doubts = Doubts(rows, asked, "cyd")
    assert doubts.added("ada", 0.0) == 0.0, "nothing is added to ada"
