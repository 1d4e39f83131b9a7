"""What a secure sum is asked for: both sides must make the same of it, or not take part."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sums
from hypothesis import given
from hypothesis import strategies as st
from tiny_sums import CLIENTS, MEAN, RUN

from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import BadReply, InputError
from neulig_fl.ledger import chain
from neulig_fl.records.kinds import Dimensions, Request
from neulig_fl.records.secagg import vectors
from neulig_fl.records.secagg.requests import MOST_CHARACTERS, Part, SumRequest, round_id

SIZES = Dimensions(dim=2, classes=5, image_size=4, entries={"w": (2, 3), "b": (3,)})
ROWS = {"first": 2, "second": 3}
PARAMETERS = Request("sums", "A", "parameters", protection="secure-aggregation")
FEATURES = Request("sums", "A", "features", "pool", protection="secure-aggregation")
ROUND = "0f" * 16
WEIGHTS = st.dictionaries(
    st.sampled_from(CLIENTS), st.floats(allow_nan=False, allow_infinity=False)
)


@pytest.fixture
def scenario(data: Path, tmp_path: Path) -> Scenario:
    """Four clients, one stage that shares features and parameters within sums."""
    return tiny_sums.scenario(tmp_path, data)


def _asked(*weights: dict[str, float], request: Request = PARAMETERS) -> SumRequest:
    task = "first" if request.queries else None
    return SumRequest(request, ROUND, tuple(Part(task, each) for each in weights))


# ---------------------------------------------------------------- as it travels


@given(st.lists(WEIGHTS, max_size=3))
def test_what_travels_is_what_was_asked(weights: list[dict[str, float]]) -> None:
    """Without it two sides would sum under different weights."""
    asked = _asked(*weights)
    assert SumRequest.from_body(json.loads(json.dumps(asked.to_body()))) == asked


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=5))  # fmt: skip
def test_whatever_else_comes_is_one_clear_error(body: Any) -> None:
    """Without it a malformed message would be a traceback in a client."""
    honest = _asked(MEAN).to_body()
    for said in (body, *({**honest, key: body} for key in honest)):
        if key_is_fine(said):
            continue
        with pytest.raises(InputError) as caught:
            SumRequest.from_body(said)
        assert caught.value.public_reason


def key_is_fine(said: Any) -> bool:
    """An empty list of parts is a list, which `problem` refuses; no images are none."""
    return (isinstance(said, dict) and said.get("parts") == []) or said == _asked(MEAN).to_body()


def test_weights_that_are_no_finite_numbers_make_no_part() -> None:
    """Without it one NaN of a failed training would be in every client's ledger."""
    for weight in (math.nan, math.inf, -math.inf):
        with pytest.raises(InputError, match="weight of client 'ada' in a secure sum is"):
            Part(None, {"ada": weight})


@pytest.mark.parametrize("weight", [0, 1, -1, 0.5, 2**53, -(2**53), 1e300, -0.0])
def test_a_weight_is_a_number(weight: float) -> None:
    """Without it a whole number would be refused, or be another weight than the same float."""
    said = _asked(MEAN).to_body()
    said["parts"][0]["weights"]["ada"] = weight
    found = SumRequest.from_body(said).parts[0].weights["ada"]
    assert type(found) is float
    assert found == weight


@pytest.mark.parametrize("weight", [2**53 + 1, -(2**53) - 1, 10**400, True, "1", None, [1.0]])
def test_whatever_else_is_no_weight(weight: Any) -> None:
    """Without it a number without an end, or a text, would lie in every client's ledger."""
    said = _asked(MEAN).to_body()
    said["parts"][0]["weights"]["ada"] = weight
    with pytest.raises(InputError, match="malformed: a weight is no number; make it") as caught:
        SumRequest.from_body(said)
    assert caught.value.public_reason == (
        "the request for a sum is malformed: a weight is no number"
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"round": "0f" * 15}, "its round is not 32 hexadecimal digits"),
        ({"round": "0f" * 16 + "0"}, "its round is not 32 hexadecimal digits"),
        ({"round": "0F" * 16}, "its round is not 32 hexadecimal digits"),
        ({"parts": {}}, "its parts are no list"),
        ({"parts": [{"task": None}]}, "a part does not hold a task and weights"),
        ({"parts": [{"task": 1, "weights": {}}]}, "a part's task is no name, or its weights are"),
        ({"parts": [{"task": "t", "weights": []}]}, "a part's task is no name, or its weights are"),
        ({"more": 1}, "it does not hold a request, a round, parts and images"),
        ({"images": "AB" * 32}, "its images are no SHA-256"),
    ],
)
def test_what_is_malformed_is_named(change: dict[str, Any], problem: str) -> None:
    """Without it whoever writes another server could not find the mistake."""
    with pytest.raises(InputError, match=f"a secure sum is malformed: {problem}") as caught:
        SumRequest.from_body({**_asked(MEAN).to_body(), **change})
    assert str(caught.value.public_reason).startswith(
        f"the request for a sum is malformed: {problem}"
    )


def test_what_is_summed_is_a_request_or_nothing() -> None:
    """Without it a sum could ask for what a release could not."""
    with pytest.raises(InputError, match="the request is malformed: its details are not"):
        SumRequest.from_body({**_asked(MEAN).to_body(), "request": {"stage": "s"}})


def test_rounds_are_never_the_same() -> None:
    """Without it a second vector could leave under the masks of the first."""
    asked = _asked(MEAN)
    said = (RUN, asked.request, asked.parts, asked.images)
    others = [
        ("cd" * 16, *said[1:]),
        (RUN, replace(asked.request, stage="later"), *said[2:]),
        (*said[:2], asked.parts[1:], asked.images),
        (*said[:3], "ab" * 32),
    ]
    assert len({round_id(*each) for each in (said, *others)}) == 1 + len(others)
    assert round_id(*said) == round_id(*said), "a server that is resumed goes on with its round"
    assert SumRequest.from_body({**asked.to_body(), "round": round_id(*said)}).round


def test_who_takes_part_with_which_weight() -> None:
    """Without it a client would be asked that has no part in the sum, or guard a wrong weight."""
    asked = _asked({"cyd": -3.0, "ada": 2.0, "bob": 0.0}, {"cyd": 1.0, "ada": -2.5, "bob": 0.0})
    assert asked.clients == ("ada", "bob", "cyd")
    assert [part.participants for part in asked.parts] == [("ada", "cyd")] * 2
    shares = {n: asked.most_share(n) for n in ("ada", "bob", "cyd", "eve")}
    assert shares == pytest.approx({"ada": 2.5 / 3.5, "bob": 0.0, "cyd": 3.0 / 5.0, "eve": 0.0})
    fewer = asked.restricted(("cyd", "eve"))
    assert [dict(part.weights) for part in fewer.parts] == [{"cyd": -3.0}, {"cyd": 1.0}]
    assert (fewer.request, fewer.round) == (asked.request, asked.round)
    one = SumRequest(FEATURES, ROUND, (Part("first", MEAN),)).restricted(["ada"])
    assert one.parts == (Part("first", {"ada": MEAN["ada"]}),)


# ---------------------------------------------------------------- terms


def test_the_terms_follow_from_each_sides_own_copy(data: Path, tmp_path: Path) -> None:
    """Without it a server alone would say how many clients, which clip, which threshold."""
    own = {"secure_aggregation": {"threshold": 4, "clip": 8.0}}
    made = [
        tiny_sums.scenario(tmp_path / str(i), data, **changes)
        for i, changes in enumerate(({}, own))
    ]
    plain, strict = (_asked(MEAN).terms(each, SIZES, {}, RUN) for each in made)
    assert (plain.threshold, plain.clip, plain.entries) == (3, 64.0, 9)
    assert (strict.threshold, strict.clip, strict.entries) == (4, 8.0, 9)
    assert plain.clients == CLIENTS
    assert plain.digest != strict.digest


@given(WEIGHTS)
def test_every_part_is_on_the_same_grid(weights: dict[str, float]) -> None:
    """Without it one part's large weights would have the others rounded coarsely."""
    part = Part(None, weights)
    shares = [abs(part.share(name)) for name in weights]
    assert math.fsum(shares) == pytest.approx(1.0 if any(weights.values()) else 0.0)


def test_entries_are_those_of_all_parts(scenario: Scenario) -> None:
    """Without it a sum of several parts would wrap, or have the wrong length."""
    uneven = {"ada": 2.0, "bob": -1.0, "cyd": 0.5, "dan": 0.5}
    two = _asked(MEAN, uneven).terms(scenario, SIZES, {}, RUN)
    assert (two.entries, two.headroom) == (18, 1.0)
    parts = (Part("second", MEAN), Part("first", MEAN), Part("second", uneven))
    features = SumRequest(FEATURES, ROUND, parts)
    assert features.terms(scenario, SIZES, ROWS, RUN).entries == (3 + 2 + 3) * 2
    assert features.rows(ROWS) == 8
    assert _asked(MEAN, uneven).rows({}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"round": "1f" * 16},
        {"request": replace(PARAMETERS, stage="s")},
        {"request": replace(PARAMETERS, group="B")},
        {"request": replace(PARAMETERS, fraction=0.5)},
        {"parts": (Part(None, {**MEAN, "ada": 0.26}),)},
    ],
)
def test_whatever_differs_makes_other_terms(change: dict[str, Any], scenario: Scenario) -> None:
    """Without it clients who were told different things would take part in one sum."""
    asked = _asked(MEAN)
    first = asked.terms(scenario, SIZES, {}, RUN).digest
    assert replace(asked, **change).terms(scenario, SIZES, {}, RUN).digest != first
    assert asked.terms(scenario, SIZES, {}, "cd" * 16).digest != first
    assert SumRequest.from_body(asked.to_body()).terms(scenario, SIZES, {}, RUN).digest == first


def test_what_the_terms_are_bound_to(scenario: Scenario) -> None:
    """Without it another implementation of a client could not take part in a sum."""
    asked = _asked(MEAN)
    weights = chain.canonical([{"task": None, "weights": MEAN}]).encode()
    assert json.loads(asked.terms(scenario, SIZES, {}, RUN).context) == {
        "run": RUN, "round": ROUND, "parts": hashlib.sha256(weights).hexdigest(),
        "stage": "sums", "group": "A", "kind": "parameters", "queries": None, "fraction": 1.0,
        "protection": "secure-aggregation", "images": "",
    }  # fmt: skip


def test_whole_numbers_are_the_same_weights(scenario: Scenario) -> None:
    """Without it a weight of 1 here and 1.0 there would be two sums."""
    whole = _asked(dict.fromkeys(CLIENTS, 1))
    back = SumRequest.from_body(json.loads(json.dumps(whole.to_body())))
    assert back.terms(scenario, SIZES, {}, RUN) == whole.terms(scenario, SIZES, {}, RUN)


# ---------------------------------------------------------------- what is wrong with it


def test_an_honest_request_has_no_problem(scenario: Scenario) -> None:
    """Without it every sum would be refused."""
    assert _asked(MEAN).problem(scenario) is None
    assert _asked(MEAN, request=FEATURES).problem(scenario) is None
    assert _asked({**MEAN, "ada": 0.0}).problem(scenario) is None  # three are enough
    assert _asked(*[MEAN] * 4).problem(scenario) is None  # as many sums as clients
    twice = (Part("first", MEAN), Part("second", MEAN)) * 4
    assert SumRequest(FEATURES, ROUND, twice).problem(scenario) is None


def test_the_text_of_the_weights_has_a_largest_length(scenario: Scenario) -> None:
    """Without it a client would keep what its server then cannot read, or refuse one too early."""
    assert MOST_CHARACTERS == 40_000
    digits = MOST_CHARACTERS - len('[{"ada":1.0,"bob":1.0,"cyd":1.0,"dan":1.0}]')
    names = ["x" * (len("ada") + digits), "bob", "cyd", "dan"]
    clients = tuple(
        client.model_copy(update={"name": name})
        for client, name in zip(scenario.clients, names, strict=True)
    )
    known = scenario.model_copy(update={"clients": clients})
    assert _asked(dict.fromkeys(names, 1.0)).problem(known) is None
    longer = [names[0] + "x", *names[1:]]
    clients = (clients[0].model_copy(update={"name": longer[0]}), *clients[1:])
    known = scenario.model_copy(update={"clients": clients})
    assert _asked(dict.fromkeys(longer, 1.0)).problem(known) == (
        "its weights are 40001 characters long; at most 40000 are read"
    )


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (
            _asked(MEAN, request=replace(PARAMETERS, kind="offset-sum")),
            "offset-sum with protection",
        ),
        (_asked(MEAN, request=replace(PARAMETERS, protection="sealed")), "is not summed"),
        (_asked(MEAN, request=replace(FEATURES, queries="train")), "train queries are not summed"),
        (_asked({**MEAN, "eve": 1.0}), "'eve' is invited and is no client"),
        (_asked(), "not every part"),
        (_asked(MEAN, {"ada": 1.0}), "not every part"),
        (SumRequest(FEATURES, ROUND, (Part("third", MEAN),)), "task 'third'"),
        (_asked({**MEAN, "ada": 0.0, "bob": 0.0}), "a sum over 2 clients"),
        (_asked(*[MEAN] * 5), "5 sums of the same vectors are asked for at once; at most 4"),
        (_asked(*[MEAN] * 1000), f"at most {MOST_CHARACTERS} are read"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(
    asked: SumRequest, problem: str, scenario: Scenario
) -> None:
    """Without it a sum over two, or of what nobody can sum, would be begun."""
    assert problem in str(asked.problem(scenario))


# ---------------------------------------------------------------- vectors


def _vector(asked: SumRequest, arrays: dict[str, Any], clip: float = 10.0) -> list[Any]:
    return list(vectors.weighted(lambda: arrays, asked, "ada", SIZES, ROWS, clip))


def test_a_vector_is_part_after_part_each_times_its_share() -> None:
    """Without it the server would cut the sum in other places than the clients put it together."""
    arrays = {"features": np.arange(10.0, dtype=np.float32).reshape(5, 2)}
    parts = (Part("second", {**MEAN, "ada": 0.25}), Part("first", {**MEAN, "ada": 2.25}))
    first, second = _vector(SumRequest(FEATURES, ROUND, parts), arrays)
    assert np.array_equal(first, arrays["features"][2:] * 0.25)
    assert np.array_equal(second, arrays["features"][:2] * 0.75)


def test_the_sum_is_divided_by_the_weights_of_those_in_it() -> None:
    """Without it a sum with a drop-out would be too small."""
    asked = _asked(MEAN, {"ada": 1.0, "bob": 2.0, "cyd": 3.0, "dan": 4.0})
    total = np.ones(18, np.float32)
    first, second = vectors.divided(total, asked, ["ada", "dan"], SIZES, {})
    assert {k: v.shape for k, v in first.items()} == {"w": (2, 3), "b": (3,)}
    assert set(first["w"].ravel()) == {2.0}
    assert set(second["b"]) == {2.0}
    none = _asked({"ada": 1.0, "bob": -1.0, "cyd": 1.0, "dan": 1.0})
    with pytest.raises(InputError, match="sum to 0"):
        vectors.divided(np.ones(9, np.float32), none, ["ada", "bob"], SIZES, {})


def test_who_is_in_no_sum_adds_nothing() -> None:
    """Without it a client without a weight would be in the sum all the same."""
    arrays = {"w": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}
    found = _vector(_asked({"bob": 1.0}), arrays)
    assert [piece.shape for piece in found] == [(2, 3), (3,)]
    assert not any(piece.any() for piece in found)
    assert {piece.dtype for piece in found} == {np.dtype(np.float64)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_entry_may_be_as_large_as_the_clip(dtype: type) -> None:
    """Without it a client that clips its own vector would be left out for it."""
    arrays = {"w": np.zeros((2, 3), dtype), "b": np.array([-10.0, 0.0, 10.0], dtype)}
    assert _vector(_asked({"ada": 0.5, "bob": -0.5}), arrays)[1].tolist() == [-5.0, 0.0, 5.0]


def test_a_single_number_is_an_array_too() -> None:
    """Without it a model with a learnt scale could not be summed."""
    sizes = replace(SIZES, entries={"scale": ()})
    arrays = {"scale": np.array(3.0, np.float32)}
    (found,) = vectors.weighted(
        lambda: arrays, _asked({"ada": 3.0, "bob": 3.0}), "ada", sizes, {}, 4.0
    )
    assert (found.shape, float(found)) == ((), 1.5)
    (back,) = vectors.divided(np.ones(1, np.float32), _asked(MEAN), CLIENTS, sizes, {})
    assert back["scale"].shape == ()


def test_answers_are_cut_out_of_the_sum_task_by_task() -> None:
    """Without it a task would get the answers to another one's queries."""
    parts = (Part("second", MEAN), Part("first", dict.fromkeys(CLIENTS, 0.5)))
    total = np.arange(10, dtype=np.float32)
    asked = SumRequest(FEATURES, ROUND, parts)
    second, first = vectors.divided(total.copy(), asked, CLIENTS, SIZES, ROWS)
    assert np.array_equal(second["features"], total[:6].reshape(3, 2))
    assert np.array_equal(first["features"], total[6:].reshape(2, 2))


def test_an_array_without_entries_is_one() -> None:
    """Without it a model with an empty buffer could not be summed."""
    sizes = replace(SIZES, entries={"w": (0, 3)})
    arrays = {"w": np.zeros((0, 3), np.float32)}
    (found,) = vectors.weighted(lambda: arrays, _asked(MEAN), "ada", sizes, {}, 1.0)
    assert found.shape == (0, 3)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (None, r"b has shape nothing instead of \(3,\)"),
        (np.zeros(4, np.float32), r"b has shape \(4,\) instead of \(3,\)"),
        (np.zeros((3, 1), np.float32), r"b has shape \(3, 1\) instead of \(3,\)"),
        (np.zeros(3, np.int64), "b is int64 and not of floating numbers"),
        (np.zeros(3, bool), "b is bool and not of floating numbers"),
        (np.array([1, 2, np.inf]), "b holds an entry that is not finite"),
        (np.array([1, -11, np.nan]), "b holds an entry that is not finite"),
        (
            np.array([1, 10.001, 0]),
            "b holds an entry beyond secure_aggregation.clip 10; give a larger",
        ),
    ],
)
def test_an_array_that_does_not_fit_is_named(array: Any, problem: str) -> None:
    """Without it a client with another model would shift all entries after it."""
    arrays = {"w": np.zeros((2, 3), np.float32)} | ({} if array is None else {"b": array})
    with pytest.raises(BadReply, match=f"^{problem}.*; nothing was added to the sum") as caught:
        _vector(_asked(MEAN), arrays)
    assert str(caught.value) == f"{caught.value.public_reason}; nothing was added to the sum"


@pytest.mark.parametrize("rows", [4, 6])
def test_answers_are_as_many_as_the_queries(rows: int) -> None:
    """Without it answers to other queries would be added to those that were asked."""
    asked = SumRequest(FEATURES, ROUND, (Part("second", MEAN),))
    with pytest.raises(BadReply, match=rf"features has shape \({rows}, 2\) instead of \(5, 2\)"):
        _vector(asked, {"features": np.zeros((rows, 2), np.float32)})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 10.5, -10.5])
def test_an_entry_that_cannot_be_summed_is_an_error_without_its_value(bad: float) -> None:
    """Without it one entry would wrap the sum, or be told to the server."""
    arrays = {"w": np.zeros((2, 3), np.float32), "b": np.full(3, bad, np.float32)}
    with pytest.raises(BadReply, match="b holds an entry") as caught:
        _vector(_asked(MEAN), arrays)
    assert "10.5" not in str(caught.value)


def test_statistics_are_known_by_what_they_tell_of() -> None:
    """Without it the same images under two names, or in two kinds, would count by themselves."""
    parts, images = (Part("first", MEAN), Part("second", MEAN)), {"first": "x", "second": "y"}
    for kind in ("features", "logits"):
        asked = SumRequest(replace(FEATURES, kind=kind), ROUND, parts)
        found = asked.statistics(images, {"ada": "e"})
        assert [s.statistic for s in found] == ["outputs x", "outputs y"]
        assert [s.label for s in found] == [f"{kind} of pool queries of {t}" for t in images]
        assert [dict(s.versions) for s in found] == [{"ada": "e"}] * 2
    assert [s.statistic for s in _asked(MEAN, MEAN).statistics({})] == ["model"] * 2
