"""Tests of leverage: its laws, the attack that it stands against, refusals and predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neulig_fl.core.errors import InputError
from neulig_fl.privacy.leverage import WeightedSum, leverages, predicted
from neulig_fl.records.secagg.guard import objection

CLIENTS = ("ada", "bo", "cy", "di", "ed")
FEATURES = "features A"
LIMIT = 0.5
FRACTION = 2.0**-24
"""Fixed point of the sums that the attacks solve."""

Row = dict[str, float]


def row(*weights: float) -> Row:
    """Weights of the clients in order."""
    return dict(zip(CLIENTS, weights, strict=False))


def matrix(
    rows: Sequence[Mapping[str, float]], clients: Sequence[str] = CLIENTS
) -> NDArray[np.float64]:
    """The stack B."""
    return np.array([[r.get(c, 0.0) for c in clients] for r in rows])


@st.composite
def stacks(draw: st.DrawFn, most: int = 7) -> list[Row]:
    """Convex rows of some clients; some take no part in some."""
    clients = draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = generator.dirichlet(np.full(clients, draw(st.sampled_from([0.2, 1.0, 20.0]))), most)
    rows = rows * (generator.random(rows.shape) < 0.8)
    count = draw(st.integers(1, most))
    return [{f"c{i}": float(w) for i, w in enumerate(r)} for r in rows[:count]]


def near_diagonal() -> list[Row]:
    """A CoopVec Map over five tasks in which each task leans on its own expert."""
    weights = np.full((5, 5), 0.05) + 0.75 * np.eye(5)
    weights += np.random.default_rng(5).uniform(0.0, 0.02, (5, 5))
    return [row(*w) for w in weights / weights.sum(axis=1, keepdims=True)]


def vectors(entries: int = 4000) -> NDArray[np.float64]:
    """Five clients' vectors of one size that have nothing to do with one another."""
    return np.random.default_rng(6).normal(size=(5, entries))


def solved(rows: Sequence[Row], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The attack: joint least squares on what the server received; relative errors, (clients,).

    Every client's share is rounded to fixed point, as in a secure sum.
    """
    weights = matrix(rows)
    received = np.rint(weights[:, :, None] * truth[None] / FRACTION).sum(axis=1) * FRACTION
    guess = np.linalg.lstsq(weights, received, rcond=None)[0]
    errors: NDArray[np.float64] = np.linalg.norm(guess - truth, axis=1) / np.linalg.norm(
        truth, axis=1
    )
    return errors


# ---------------------------------------------------------------- laws


@given(stacks())
@example([{"c0": 0.0, "c1": 1.4e-12}, {"c0": 0.012, "c1": 0.988}])
@settings(deadline=None)
def test_it_is_the_diagonal_of_the_projection(rows: list[Row]) -> None:
    """Without it the limit would be on some other number than the design's."""
    clients = sorted(rows[0])
    stack = matrix(rows, clients)
    # Rows that differ in size alone span the same; a tiny one is no rounding error.
    stack = stack[stack.any(axis=1)]
    stack = stack / np.abs(stack).max(axis=1, keepdims=True)
    stack = stack / np.linalg.norm(stack, axis=1, keepdims=True)
    singular = np.linalg.svd(stack, compute_uv=False)
    assume(all(s < 1e-13 or s > 1e-5 for s in singular))
    slow = np.diag(np.linalg.pinv(stack, rcond=1e-10) @ stack)
    found = leverages(rows)
    assert list(found) == clients
    assert list(found.values()) == pytest.approx(slow, abs=1e-6)
    assert sum(found.values()) == pytest.approx(np.linalg.matrix_rank(stack, 1e-10), abs=1e-6)


@given(stacks())
@settings(deadline=None)
def test_another_row_never_lowers_it(rows: list[Row]) -> None:
    """Without it a server could ask for one more sum to be allowed a worse one."""
    fewer, more = leverages(rows[:-1]), leverages(rows)
    assert all(more[c] >= fewer.get(c, 0.0) - 1e-5 for c in more)


@given(stacks(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_renaming_clients_renames_it(rows: list[Row], shuffle: object) -> None:
    """Without it a client's protection would depend on its place in the scenario."""
    names = sorted(rows[0])
    others = [f"x{i}" for i in range(len(names))]
    shuffle.shuffle(others)  # type: ignore[attr-defined]
    renamed = dict(zip(names, others, strict=True))
    found = leverages([{renamed[c]: w for c, w in r.items()} for r in rows])
    for client, value in leverages(rows).items():
        assert found[renamed[client]] == pytest.approx(value, abs=1e-5)


@given(stacks(), st.integers(1, 40), st.floats(1e-9, 1e9))
@settings(deadline=None)
def test_repeating_or_scaling_a_row_changes_nothing(
    rows: list[Row], times: int, scale: float
) -> None:
    """Without it a sum asked for in tiny units, or again, would count for less or for more."""
    again = [{c: w * scale for c, w in rows[0].items()}] * times
    singular = np.linalg.svd(matrix(rows, sorted(rows[0])), compute_uv=False)
    assume(all(s < 1e-13 or s > 1e-5 for s in singular))
    found = leverages([*rows, *again])
    assert list(found.values()) == pytest.approx(list(leverages(rows).values()), abs=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20, 100])
def test_one_uniform_sum_gives_each_its_share(count: int) -> None:
    """Without it a global merge, which is safe, could be refused, or look safer than it is."""
    found = leverages([{f"c{i:03}": 1.0 / count for i in range(count)}])
    assert list(found.values()) == pytest.approx([1.0 / count] * count, abs=1e-9)


def test_a_one_hot_row_gives_one() -> None:
    """Without it a server could ask for a sum of one."""
    assert leverages([row(0, 0, 1, 0, 0)]) == pytest.approx(row(0, 0, 1, 0, 0), abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_never_above_one(seed: int) -> None:
    """Without it rounding would put a client that gave its vector away above a limit of 1."""
    rows = np.random.default_rng(seed).dirichlet(np.ones(5), 5)
    found = leverages([row(*weights) for weights in rows.tolist()])
    assert list(found.values()) == pytest.approx([1.0] * 5, abs=1e-6)
    assert max(found.values()) <= 1.0


def test_a_client_that_is_missing_has_weight_zero() -> None:
    """Without it rows of different participants could not be stacked."""
    some = leverages([{"ada": 0.5, "bo": 0.5}, {"bo": 0.5, "cy": 0.5}])
    zeros = leverages([row(0.5, 0.5, 0.0), row(0.0, 0.5, 0.5)])
    assert some == zeros
    assert some == pytest.approx(row(2 / 3, 2 / 3, 2 / 3), abs=1e-9)


@pytest.mark.parametrize("rows", [[], [{}], [{}, {"ada": 0.0}]])
def test_no_sums_give_no_leverage(rows: list[Row]) -> None:
    """Without it a client's first request would fail."""
    assert set(leverages(rows).values()) <= {0.0}


@pytest.mark.parametrize("difference", [1e-3, 1e-6, 2e-8])
def test_rows_that_hardly_differ_still_count(difference: float) -> None:
    """Without it a server would subtract two sums that look the same, and amplify what is left."""
    rows = [row(0.2, 0.2, 0.2, 0.2, 0.2), row(0.2 + difference, 0.2, 0.2, 0.2, 0.2)]
    assert leverages(rows)["ada"] > 0.98


def test_rows_that_differ_by_less_than_rounding_do_not_count() -> None:
    """Without it computing the same row twice in float64 would end all sharing."""
    rows = [row(0.2, 0.2, 0.2, 0.2, 0.2), row(0.2 + 1e-15, 0.2, 0.2, 0.2, 0.2)]
    assert leverages(rows)["ada"] == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e300])
def test_units_hide_nothing(scale: float) -> None:
    """Without it a one-hot row in tiny weights would pass for no row at all."""
    assert leverages([row(0.2, 0.2, 0.2, 0.2, 0.2), row(scale)])["ada"] == pytest.approx(1.0)


@pytest.mark.parametrize("times", [0.1, 1.0, 10.0])
def test_what_rounding_hides_counts_for_less_and_less(times: float) -> None:
    """Without it the point where rows count as the same would lie anywhere.

    Two rows (1, 1) and (1, 1 + d), scaled to length 1, stand at an angle of d / 2 to one another;
    the smaller singular value is that over the square root of 2. Where it is q = 1e-9 itself, half
    of a vector's variance along it is explained: (1 + 1 / 2) / 2 of each vector's.
    """
    apart = 2.0 * math.sqrt(2.0) * times * 1e-9
    found = leverages([{"ada": 1.0, "bo": 1.0}, {"ada": 1.0, "bo": 1.0 + apart}])
    explained = (1.0 + times**2 / (times**2 + 1.0)) / 2.0
    assert list(found.values()) == pytest.approx([explained] * 2, abs=1e-5)


# ---------------------------------------------------------------- the attack


def test_a_near_diagonal_map_gives_every_vector_away() -> None:
    """Without it the limit would stand against nothing: this is the attack, and it works."""
    errors = solved(near_diagonal(), vectors())
    assert errors.max() < 1e-5
    assert min(leverages(near_diagonal()).values()) > 0.999


def test_every_client_refuses_a_near_diagonal_map() -> None:
    """Without it the attack above would work on us."""
    asked = [WeightedSum(FEATURES, r) for r in near_diagonal()]
    for client in CLIENTS:
        assert objection([], asked, client, LIMIT) is not None


@pytest.mark.parametrize(
    "rows",
    [
        [row(0.2, 0.2, 0.2, 0.2, 0.2)],
        [row(0.22, 0.18, 0.21, 0.19, 0.2)],
        [row(0.2, 0.2, 0.2, 0.2, 0.2), row(0.25, 0.25, 0.2, 0.15, 0.15)],
        [row(0.3, 0.3, 0.2, 0.1, 0.1), row(0.15, 0.15, 0.2, 0.25, 0.25)],
    ],
)
def test_what_the_limit_lets_pass_does_not_give_a_vector_away(rows: list[Row]) -> None:
    """Without it the limit could be too high: the same attack on what is allowed must miss."""
    asked = [WeightedSum(FEATURES, r) for r in rows]
    assert [objection([], asked, client, LIMIT) for client in CLIENTS] == [None] * 5
    errors = solved(rows, vectors())
    assert errors.min() > 0.7
    expected = [math.sqrt(1.0 - v) for v in leverages(rows).values()]
    assert errors == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_a_server_that_asks_for_row_after_row_never_gets_a_vector(seed: int) -> None:
    """Without it what one request may not do several could: across stages and runs as well."""
    draw = np.random.default_rng(seed)
    given_: list[WeightedSum] = []
    refused: list[WeightedSum] = []
    for _ in range(40):
        taking_part = draw.random(5) < 0.8
        weights = draw.dirichlet(np.full(5, 8.0)) * taking_part
        asked = WeightedSum(FEATURES, row(*weights.tolist()))
        reasons = [objection(given_, [asked], c, LIMIT) for c in asked.participants]
        (refused if any(reasons) else given_).append(asked)
    assert given_
    assert refused
    assert max(leverages([s.weights for s in given_]).values()) <= LIMIT + 1e-9  # type: ignore[misc]
    assert solved([dict(s.weights) for s in given_], vectors()).min() > 0.65
    everything = [dict(s.weights) for s in (*given_, *refused)]
    assert solved(everything, vectors()).max() < 1e-2


def test_training_through_sums_gives_every_feature_away() -> None:
    """Without it a Portland trained on sums alone would pass for private after many epochs."""
    draw = np.random.default_rng(9)
    rows = [row(*w) for w in draw.dirichlet(np.full(5, 50.0), 20).tolist()]
    before = 0.0
    for count in (1, 2, 3, 4, 5, 20):
        found = min(leverages(rows[:count]).values())
        assert found >= before - 1e-9
        before = found
    assert before == pytest.approx(1.0, abs=1e-6)
    assert solved(rows, vectors()).max() < 1e-2
    history: list[WeightedSum] = []
    for r in rows:
        asked = WeightedSum(FEATURES, r)
        if objection(history, [asked], "ada", LIMIT) is None:
            history.append(asked)
    assert 1 <= len(history) < 5


def test_subtracting_a_sum_without_a_client_finds_it_and_is_refused_for_it() -> None:
    """Without it a client would be singled out by a sum that it is never asked for."""
    whole = WeightedSum(FEATURES, row(0.2, 0.2, 0.2, 0.2, 0.2))
    without = WeightedSum(FEATURES, row(0.0, 0.25, 0.25, 0.25, 0.25))
    errors = solved([dict(whole.weights), dict(without.weights)], vectors())
    assert errors[0] < 1e-5
    assert errors[1:].min() > 0.8
    for client in without.participants:
        reason = objection([whole], [without], client, LIMIT)
        assert reason is not None
        assert "client 'ada'" in reason
        assert "1.000" in reason
        assert objection([], [without], client, LIMIT) is None


def test_leverage_says_nothing_of_sizes() -> None:
    """Without it the docstring's warning could be wrong: a large vector is known at 1 / T."""
    truth = vectors()
    truth[0] *= 1000.0
    rows = [row(0.2, 0.2, 0.2, 0.2, 0.2)]
    assert leverages(rows)["ada"] == pytest.approx(0.2)
    received = (matrix(rows) @ truth)[0]
    assert np.linalg.norm(5.0 * received - truth[0]) / np.linalg.norm(truth[0]) < 1e-2


# ---------------------------------------------------------------- refusals and predictions


def test_the_reason_names_what_a_user_needs_and_no_weight() -> None:
    """Without it a refusal could not be understood, or would tell others' weights."""
    history = [WeightedSum(FEATURES, row(0.2, 0.2, 0.2, 0.2, 0.2))]
    asked = [WeightedSum(FEATURES, row(0.9, 0.1)), WeightedSum(FEATURES, row(0.1, 0.9))]
    assert objection(history, asked, "ada", LIMIT) == (
        "leverage of client 'ada' in sums over features A would be 1.000, above max_leverage 0.5 "
        "(the default): 2 sums asked for, 1 before"
    )


def test_a_refusal_never_prints_its_own_limit_as_the_leverage() -> None:
    """Without it a user would read that 0.5 is above 0.5."""
    reason = objection([], [WeightedSum(FEATURES, {"ada": 0.50001, "bo": 0.49999})], "ada", LIMIT)
    assert reason is not None
    assert "would be 0.501, above max_leverage 0.5" in reason


@pytest.mark.parametrize("count", range(2, 40))
def test_a_mean_is_at_the_limit_and_passes(count: int) -> None:
    """Without it rounding would decide whether two clients can merge at the limit of 0.5."""
    weights = {f"c{i:02}": 1.0 / count for i in range(count)}
    asked = [WeightedSum(FEATURES, weights)]
    assert objection([], asked, "c00", 1.0 / count) is None
    assert objection([], asked, "c00", 0.999 / count) is not None


def test_statistics_have_histories_of_their_own() -> None:
    """Without it a sum of features would count against one of parameters, or replace it."""
    one = WeightedSum(FEATURES, row(0.3, 0.25, 0.2, 0.15, 0.1))
    two = row(0.1, 0.15, 0.2, 0.25, 0.3)
    third = row(0.1, 0.3, 0.2, 0.3, 0.1)
    history = [one, WeightedSum(FEATURES, two)]
    assert objection(history, [WeightedSum(FEATURES, third)], "bo", LIMIT) is not None
    assert objection(history, [WeightedSum("parameters A", third)], "bo", LIMIT) is None
    both = [WeightedSum("parameters A", row(0.2, 0.2, 0.2, 0.2, 0.2)), WeightedSum(FEATURES, third)]
    reason = objection(history, both, "bo", LIMIT)
    assert reason is not None
    assert "features A" in reason


def test_those_who_take_part_guard_their_own() -> None:
    """Without it a client's strict limit would bind others who chose a wider one."""
    asked = [WeightedSum(FEATURES, row(0.8, 0.05, 0.05, 0.05, 0.05))]
    assert objection([], asked, "bo", LIMIT) is None
    assert objection([], asked, "ada", LIMIT) is not None
    assert objection([], asked, "ada", 1.0) is None


def test_an_absent_client_whose_leverage_does_not_rise_is_no_reason() -> None:
    """Without it one client that gave its vector away would end the sums of all others."""
    history = [WeightedSum(FEATURES, row(1.0))]
    asked = [WeightedSum(FEATURES, row(0.0, 0.25, 0.25, 0.25, 0.25))]
    assert objection(history, asked, "bo", LIMIT) is None


def test_at_limit_one_nothing_is_refused() -> None:
    """Without it a policy that allows everything would still refuse, by rounding."""
    asked = [WeightedSum(FEATURES, r) for r in near_diagonal()]
    assert [objection([], asked, client, 1.0) for client in CLIENTS] == [None] * 5


def test_what_is_predicted_is_what_is_refused() -> None:
    """Without it `plan` would promise a stage that clients then refuse."""
    sums = [WeightedSum(FEATURES, r) for r in near_diagonal()]
    plan = predicted([*sums[:2], WeightedSum("parameters A", row(0.5, 0.5))])
    assert list(plan) == [FEATURES, "parameters A"]
    assert plan[FEATURES] == leverages([s.weights for s in sums[:2]])
    assert plan["parameters A"] == pytest.approx({"ada": 0.5, "bo": 0.5}, abs=1e-9)
    for client in CLIENTS:
        assert (objection([], sums[:2], client, LIMIT) is not None) == (
            plan[FEATURES][client] > LIMIT
        )


def test_arguments_are_not_changed() -> None:
    """Without it asking about a sum would add it to the history."""
    history, asked = [WeightedSum(FEATURES, row(0.5, 0.5))], [WeightedSum(FEATURES, row(1.0))]
    objection(history, asked, "ada", LIMIT)
    assert history == [WeightedSum(FEATURES, row(0.5, 0.5))]
    assert asked == [WeightedSum(FEATURES, row(1.0))]


# ---------------------------------------------------------------- what is not accepted


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_number_is_not_accepted(weight: float) -> None:
    """Without it a NaN would make a row vanish from the stack."""
    with pytest.raises(InputError, match="weight of client 'bo' in a sum over features A is"):
        WeightedSum(FEATURES, row(0.5, weight))
    with pytest.raises(InputError, match="not finite; allowed: finite numbers"):
        leverages([row(0.5, weight)])


@pytest.mark.parametrize("limit", [0.0, -0.5, 1.1, math.nan])
def test_a_limit_that_is_none_is_not_accepted(limit: float) -> None:
    """Without it a limit of NaN would allow everything."""
    with pytest.raises(InputError, match=r"max_leverage is .*; allowed: above 0, at most 1"):
        objection([], [], "ada", limit)
