"""What clients remember of sums, alone and together, and what one more would tell."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from neulig_fl.config.policy_rules import Budgets, Policy
from neulig_fl.ledger.chain import OUTCOME, RELEASE
from neulig_fl.privacy.leverage import MODEL, WeightedSum
from neulig_fl.records import kinds
from neulig_fl.records.policy_layers import Layer
from neulig_fl.records.secagg import alone, history
from neulig_fl.records.secagg.accounts import Sums, accounts
from neulig_fl.records.secagg.history import LEFT, Event, events, rows


def _entry(number: str, expert: str = "e", **weights: float) -> dict[str, Any]:
    row = {"of": MODEL, "weights": weights}
    who = {name: name.upper() for name in weights}
    return {"event": RELEASE, "expert": expert, "round": number, "sums": [row], "who": who}


def _left(number: str, expert: str = "e", **weights: float) -> Event:
    row = {"of": MODEL, "weights": weights}
    return {"event": LEFT, "round": number, "expert": expert, "sums": [row]}


def _word(number: str, *survivors: str) -> Event:
    return {"event": OUTCOME, "round": number, "survivors": list(survivors)}


def _weights(found: list[WeightedSum]) -> list[dict[str, float]]:
    return [dict(each.weights) for each in found]


# ---------------------------------------------------------------- one client's own


def test_a_history_is_what_the_ledger_says_of_sums() -> None:
    """Without it a client could not tell others which of its vectors a server knows sums of."""
    entries = [
        _entry("1", ada=0.5, bob=0.5),
        {"event": RELEASE, "expert": "e", "kind": "features"},
        {"event": OUTCOME, "round": "1", "survivors": ["bob", "ada"]},
        {"event": "refusal", "round": "4", "expert": "e"},
        {**_entry("4", ada=1.0), "event": "repeat"},
        {k: v for k, v in _entry("5", ada=1.0).items() if k not in ("who", "expert")},
    ]
    assert events(entries) == [
        _left("1", ADA=0.5, BOB=0.5),
        _word("1", "ADA", "BOB"),
        _left("5", "", ada=1.0),
    ]


def test_a_round_is_known_by_its_number_and_event() -> None:
    """Without it a second vector could leave in a round, or another outcome be confirmed."""
    one, two = _entry("1", ada=1.0), _entry("2", ada=1.0)
    word = {"event": OUTCOME, "round": "2", "survivors": ["ada"]}
    single = {"event": RELEASE, "expert": "e", "kind": "features"}
    entries = [single, one, two, word]
    assert [history.released(entries, n) for n in "123"] == [one, two, None]
    assert [history.confirmed(entries, n) for n in "123"] == [None, word, None]


# ---------------------------------------------------------------- what clients remember together


def test_a_round_counts_once_with_those_whose_vectors_were_in_it() -> None:
    """Without it the same sum would count as often as it is told, or with those who dropped out."""
    told = [_left("1", a=0.25, b=0.25, c=0.5), _word("1", "a", "b")]
    found = rows({"a": told, "b": [_left("1", "f", a=0.25, b=0.25, c=0.5), told[1]]}, "a")
    assert _weights(found) == [{"a": 0.25, "b": 0.25}]
    assert dict(found[0].versions) == {"a": "e", "b": "f"}


def test_who_does_not_remember_a_round_was_not_in_it() -> None:
    """Without it a client whose vector was lost on its way would count as a part of the sum."""
    view = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5, "e": 0.5}
    told = {"a": [_left("1", **view)], "b": []}
    without, fewest = dict.fromkeys("acde", 0.5), dict.fromkeys("abc", 0.5)
    assert _weights(rows(told, "a", whole=("b",))) == [without, view, fewest], "unless b lies"
    assert _weights(rows(told, "a")) == [view, fewest]
    mine = {"b": [_left("1", a=0.5, b=0.5, c=0.5, d=0.5)]}
    found = [dict.fromkeys("bcd", 0.5)]
    assert _weights(rows(mine, "a")) == found, "it knows itself"
    mine["b"].append(_word("1", "a", "b", "c"))
    assert _weights(rows(mine, "a")) == found, "without its vector nothing was opened"


def test_who_denies_that_it_was_in_a_sum_makes_it_doubted() -> None:
    """Without it two clients that forget a sum would make others believe in one of fewer."""
    told: dict[str, list[Event]] = {
        each: [_left("1", **dict.fromkeys("abcde", 1.0)), _word("1", *"abcde")] for each in "abc"
    }
    assert [set(r.told or ()) for r in rows(told, "a", "bc")] == [{"a", "b", "c"}]
    told |= {"d": [], "e": []}
    for certain in (True, False):
        (found,) = rows(told, "a", "bcde", certain=certain)
        assert set(found.weights) == set("abcde")
        assert found.told == set()


def test_a_round_that_too_few_can_have_confirmed_was_never_opened() -> None:
    """Without it every sum that failed would count against the next ones."""
    view = dict.fromkeys("abcd", 0.3)
    fewest = dict.fromkeys("abc", 0.3)
    told: dict[str, list[Event]] = {each: [_left("1", **view)] for each in "abcd"}
    assert rows(told, "a", whole="b") == [], "only c and d may have confirmed it"
    assert _weights(rows(told, "a")) == [view, fewest], "b, c and d may"
    told["b"].append(_word("1", "a", "b", "c"))
    assert _weights(rows(told, "a", whole="b")) == [dict.fromkeys("abc", 0.3)]
    assert rows(told, "a", whole="bc") == []


def test_what_few_say_of_an_outcome_counts_beside_what_would_hold_without_it() -> None:
    """Without it one lie about who survived would hide the sum that a server has."""
    view = dict.fromkeys("abcd", 0.3)
    told: dict[str, list[Event]] = {each: [_left("1", **view)] for each in "abcd"}
    told["d"].append(_word("1", "c", "d"))
    fewest = dict.fromkeys("abc", 0.3)
    assert _weights(rows(told, "a")) == [{"c": 0.3, "d": 0.3}, view, fewest]
    assert _weights(rows(told, "d")) == [{"c": 0.3, "d": 0.3}], "it confirmed that itself"
    for each in "bc":
        told[each].append(_word("1", "a", "b", "c"))
    assert len(rows(told, "a")) == 3
    told["a"].append(_word("1", "a", "b", "c"))
    assert _weights(rows(told, "a")) == [{"a": 0.3, "b": 0.3, "c": 0.3}]
    told["d"].pop()
    assert _weights(rows(told, "d")) == [{"a": 0.3, "b": 0.3, "c": 0.3}], "most say so"


def test_each_row_says_who_tells_it() -> None:
    """Without it a client that was not there would be believed as those who were."""
    true, lie = dict.fromkeys("abc", 0.3), {"a": 1.0, "d": 1.0}
    told: dict[str, list[Event]] = {each: [_left("1", **true)] for each in "abc"}
    for each in "ab":
        told[each].append(_word("1", "a", "b", "c"))
    told["d"] = [_left("1", **lie), _word("1", "a", "d"), _word("2", "a")]
    found = {tuple(row.weights): row for row in rows(told, "e", labels={"a": "ada"})}
    assert set(found) == {("ada", "key b", "key c"), ("ada", "key d")}
    assert found["ada", "key b", "key c"].told == {"ada", "key b"}, "c has not confirmed it"
    assert found["ada", "key d"].told == {"key d"}
    unsaid = rows({"c": told["c"]}, "c")
    assert [r.told for r in unsaid] == [set(), set()], "nobody confirmed it"
    assert {r.source[0] for r in unsaid} == {"1"}
    assert unsaid[0].source != unsaid[1].source, "the round ended in one way"


def test_a_view_that_was_made_up_hides_no_other() -> None:
    """Without it who invites the whole world in a lie would leave no sum with enough that confirm it."""
    true, all_of_them = dict.fromkeys("abc", 0.3), dict.fromkeys("abcdefgh", 1.0)
    told: dict[str, list[Event]] = {
        each: [_left("1", **true), _word("1", "a", "b", "c")] for each in "bc"
    }
    told["d"] = [_left("1", **all_of_them), _word("1", "b", "c")]
    for certain in (True, False):
        found = rows(told, "e", "de", certain=certain)
        assert true in _weights(found)
    assert _weights(rows(told, "e", "de", certain=True)) == [true]


def test_clients_are_called_by_their_names_where_they_are_known() -> None:
    """Without it a refusal would name a fingerprint."""
    found = rows({"a": [_left("1", a=0.5, b=0.5), _word("1", "a", "b")]}, "a", labels={"a": "ada"})
    assert _weights(found) == [{"ada": 0.5, "key b": 0.5}]
    assert dict(found[0].versions) == {"ada": "e"}
    found = rows({"a": [_left("1", a=0.5, b=0.5), _word("1", "a", "b")]}, "a", labels={"a": "b"})
    assert set(found[0].weights) == {"b", "key b"}, "a name is no fingerprint"


def test_what_is_known_is_told_in_several_accounts() -> None:
    """Without it a false history would count as much as what a client knows itself."""
    mine = [_left("1", a=0.5, b=0.5, c=0.5), _word("1", "a", "b", "c"), _left("2", a=1.0, b=1.0)]
    theirs = [*mine[:2], _left("3", b=0.25, d=0.25, e=0.25)]
    histories = {"a": mine, "b": theirs}
    named = {"a": "ada", "b": "bob"}
    everyone = {"ada": 0.5, "bob": 0.5, "key c": 0.5}
    own = [everyone]
    assert [_weights(each) for each in accounts(histories, "a")] == [
        [{"a": 0.5, "b": 0.5, "c": 0.5}]
    ]
    found = [_weights(each) for each in accounts(histories, "a", ("b",), named)]
    maybe = {"bob": 0.25, "key d": 0.25, "key e": 0.25}
    both = {"ada": 0.5, "bob": 0.5}
    assert found == [own, own, [everyone, maybe], [both], [both, {"bob": 0.25}]]
    (_, certain, *_) = accounts(histories, "a", ("b",), named)
    assert certain[0].told == {"ada", "bob"}


def test_hearsay_counts_where_nobody_who_is_there_knows_better() -> None:
    """Without it a chain of sums would be whole in nobody's memory."""
    view = dict.fromkeys("abc", 1.0)
    hearsay = [_left("1", "", **view), _word("1", "a", "b", "c")]
    assert _weights(rows({"d": []}, "d", hearsay=hearsay)) == [view]
    assert rows({"d": []}, "d", hearsay=hearsay)[0].told == set(), "it excuses nothing"
    assert rows({"d": []}, "d", certain=True, hearsay=hearsay) == []
    known: dict[str, list[Event]] = {
        each: [_left("1", **view), _word("1", "a", "b")] for each in "ab"
    }
    assert _weights(rows(known, "a", "b", hearsay=hearsay)) == [{"a": 1.0, "b": 1.0}]
    found = accounts({"d": [], "e": []}, "d", ("e",), hearsay=hearsay)
    assert [_weights(each) for each in found] == [[], [view], [{}]]


def test_what_is_told_on_is_told_once_and_without_experts() -> None:
    """Without it what a client hands on would grow with the number of those who told it."""
    one, other = _left("1", "x", a=1.0), _left("1", "y", a=1.0)
    assert history.merged([one, _word("1", "a")], [other]) == [
        _left("1", "", a=1.0),
        _word("1", "a"),
    ]


def test_accounts_that_say_the_same_are_one() -> None:
    """Without it each check would be made five times over, or an account would be lost."""
    told = [_left("1", a=0.5, b=0.5), _word("1", "a", "b")]
    assert len(accounts({"a": told, "b": told}, "a", ("b",))) == 2, "who says so differs"
    assert len(accounts({"a": [], "b": []}, "a", ("b",))) == 1
    other = [_left("1", "f", a=0.5, b=0.5), told[1]]
    versions = [dict(each[0].versions) for each in accounts({"a": told, "b": other}, "a", ("b",))]
    assert versions == [{"a": "e"}, {"a": "e", "b": "f"}]


def test_a_model_that_left_alone_is_a_sum_with_nobody_else() -> None:
    """Without it others would not know that the mean of all is the last one's."""
    entry = {"event": RELEASE, "expert": "e", "kind": "parameters", "hash": "h"}
    noised = {**entry, "noise_multiplier": 1.0}
    left, word = events([entry, noised], "A")
    assert events([noised], "A") == [left, word], "its noise guards its owner alone"
    assert rows({"A": [left, word]}, "A")[0].weights == {"A": 1.0}
    assert alone.is_alone(left)
    assert alone.is_alone(word)
    assert events([entry]) == []


def test_every_kind_that_left_alone_tells_of_what_it_follows_from() -> None:
    """Without it a new kind, or an old one under noise, would be subtracted from sums unseen."""
    entry = {"event": RELEASE, "expert": "e", "hash": "h", "images": ["x", "y"]}
    told = {name: alone.told_alone({**entry, "kind": name}) for name in kinds.names()}
    outputs = kinds.those(lambda kind: kind.output)
    silent = ("inputs", "offset-sum")
    assert told == {
        name: [] if name in silent else ["outputs x", "outputs y"] if name in outputs else [MODEL]
        for name in kinds.names()
    }
    assert alone.told_alone({**entry, "kind": "labels", "images": None}) == ["outputs *"]
    assert alone.told_alone({**entry, "kind": "labels", "event": "refusal"}) == []


@pytest.mark.parametrize(
    ("left", "kind", "statistics", "gives"),
    [
        ({"kind": "parameters"}, "parameters", [MODEL], True),
        ({"kind": "task-vector", "protection": "sealed"}, "parameters", [MODEL], True),
        ({"kind": "parameters"}, "features", ["outputs x"], True),
        ({"kind": "parameters", "protection": "gaussian"}, "parameters", [MODEL], False),
        ({"kind": "trimmed-task-vector"}, "parameters", [MODEL], False),
        ({"kind": "gram"}, "parameters", [MODEL], False),
        ({"kind": "parameters"}, "gram", [MODEL], False),
        ({"kind": "gram"}, "gram", [MODEL], True),
        ({"kind": "features"}, "features", ["outputs x"], True),
        ({"kind": "features"}, "features", ["outputs x", "outputs y"], False),
        ({"kind": "features", "fraction": 0.5}, "features", ["outputs x"], False),
        ({"kind": "features", "images": ["*"]}, "features", ["outputs *"], False),
        ({"kind": "labels"}, "features", ["outputs x"], False),
        ({"kind": "features"}, "parameters", [MODEL], False),
        ({"kind": "parameters", "event": "refusal"}, "parameters", [MODEL], False),
        ({"kind": "offset-sum"}, "parameters", [MODEL], False),
    ],
)
def test_only_who_gave_all_of_it_has_nothing_left_to_guard(
    left: dict[str, Any], kind: str, statistics: list[str], gives: bool
) -> None:
    """Without it who released a part, or something else, would let the rest be told."""
    entry = {"event": RELEASE, "protection": "none", "fraction": 1.0, "images": ["x"], **left}
    assert alone.gives(entry, kind, 1.0, statistics) == gives


def test_what_left_alone_is_counted_with_and_without() -> None:
    """Without it a part that left alone would excuse a sum that tells the rest."""
    left = events([{"event": RELEASE, "expert": "e", "kind": "labels", "hash": "h"}], "b")
    mine = [_left("1", a=0.5, b=0.5), _word("1", "a", "b")]
    found = accounts({"a": mine, "b": [*mine, *left]}, "a", ("b",))
    weights = [_weights(each) for each in found]
    both = {"a": 0.5, "b": 0.5}
    assert [both, {"b": 1.0}] in weights
    assert [both] in weights
    heard = accounts({"a": mine, "b": mine}, "a", ("b",), hearsay=left)
    assert [both, {"b": 1.0}] in [_weights(each) for each in heard]


def test_names_are_those_that_the_ledger_says() -> None:
    """Without it a refusal would name a client by its fingerprint."""
    entries = [_entry("1", ada=1.0, bob=1.0), {"event": RELEASE, "expert": "e"}]
    assert history.names(entries) == {"ADA": "ada", "BOB": "bob"}


# ---------------------------------------------------------------- what one more would tell


def _sums(past: list[WeightedSum], *asked: dict[str, float], client: str = "ada") -> Sums:
    return Sums([past], [WeightedSum(MODEL, each) for each in asked], client, operator.eq)


def test_what_is_claimed_counts_all_sums_that_there_were() -> None:
    """Without it a limit would be asked about one sum at a time, of which each tells little."""
    past = [WeightedSum(MODEL, {"ada": 0.5, "bob": 0.5, "cyd": 0.0})]
    one, two = {"ada": 0.5, "bob": 0.0, "cyd": 0.5}, {"ada": 1.0, "bob": 1.0, "cyd": 1.0}
    first, both = _sums(past, one).claims(), _sums(past, one, two).claims()
    assert (first.leverage, first.group_size, first.sums) == (pytest.approx(2 / 3), 2, 2)
    assert (both.leverage, both.group_size, both.sums) == (1.0, 2, 3)
    alone = _sums([], dict(past[0].weights)).claims()
    assert alone.leverage == 0.5  # 12 digits: no 0.4999...
    absent = _sums(past, dict(past[0].weights), client="eve").claims()
    assert (absent.leverage, absent.sums) == (0.0, 0)


def test_sums_under_the_same_weights_are_counted() -> None:
    """Without it rounding could be averaged away at a leverage that never rises."""
    past = [WeightedSum(MODEL, {"ada": 1.0, "bob": 1.0, "cyd": 1.0}) for _ in range(9)]
    claims = _sums(past, {"ada": 0.1, "bob": 0.1, "cyd": 0.1}).claims()
    assert (claims.leverage, claims.sums) == (pytest.approx(1 / 3), 10)


def test_the_least_limit_of_all_policies_holds() -> None:
    """Without it a node's stricter limit would be overruled by the scenario's."""
    layers = [
        Layer(name, Policy(budgets=Budgets(max_leverage=most)))
        for name, most in (("wide", 0.9), ("narrow", 0.3), ("middle", 0.5))
    ]
    sums = _sums([], {"ada": 0.4, "bob": 0.4, "cyd": 0.4})
    reason = sums.refusal(layers)
    assert str(reason).startswith("narrow: leverage of client 'ada' in sums over model would")
    assert sums.refusal(layers[:1]) is None
    assert "cannot be read" in str(sums.refusal([Layer("node", None)]))
