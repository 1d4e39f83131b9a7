"""What an entry of a ledger may say, whatever the server asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.ledger import chain, entry_form, expert_account, receipts
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge
from neulig_fl.privacy.keys import Identity

OWNER = Identity.new()
TAG, HASH = "ab" * 16, "cd" * 32
WRITTEN: dict[str, Any] = {"time": 1.5, "client": "ada", "run": "r"}
RELEASE: dict[str, Any] = {
    **WRITTEN, "event": "release", "stage": "one", "group": "A", "kind": "logits",
    "queries": "pool", "protection": "none", "fraction": 1.0, "rows": 3, "bytes": 12,
    "sha256": HASH, "expert": TAG, "data": TAG, "account": None, "fingerprint": TAG,
    "content": TAG, "epsilon": None,
}  # fmt: skip
SPENT = accountant.spent([Charge("one", 2.0)], 1e-5).epsilon
NOISED = {
    "protection": "gaussian", "noise_multiplier": 2.0, "delta": 1e-5, "epsilon": SPENT,
    "adjacency": "replace one client's model",
}  # fmt: skip
SUMMED = {
    "protection": "secure-aggregation", "round": "ef" * 16, "leverage": 0.5, "group_size": 2,
    "who": {"ada": "A", "bob": "B"},
    "sums": [{"of": "model", "weights": {"ada": 0.5, "bob": -0.5}}],
}  # fmt: skip
REFUSAL = {**WRITTEN, "event": "refusal", "reason": "never parameters"}
OUTCOME = {**WRITTEN, "event": "outcome", "round": "ef" * 16, "survivors": ["ada"]}


def _entry(said: Mapping[str, Any], index: int = 1) -> dict[str, Any]:
    return {**chain.extended([{"hash": HASH}] * index, dict(said), OWNER), **said}


@pytest.mark.parametrize(
    "said",
    [
        RELEASE,
        {**RELEASE, "event": "repeat", "repeats": 0},
        {**RELEASE, "queries": None, "rows": 0, "fraction": 5e-324, "time": 3, "run": None},
        {**RELEASE, **NOISED},
        {**RELEASE, **NOISED, "clip": 1.0, "own": "fact", "count": 10**90, "none": None, "b": True},
        {**RELEASE, **NOISED, "epsilon": SPENT * (1 + 1e-9)},
        {**RELEASE, **NOISED, "noise_multiplier": 2},
        {**RELEASE, **SUMMED},
        REFUSAL,
        {**REFUSAL, "stage": "", "kind": "x", "fraction": -5, "expert": TAG},
        OUTCOME,
    ],
    ids=str,
)
def test_an_honest_entry_is_taken(said: dict[str, Any]) -> None:
    """Without it an honest client would be called dishonest, and end the run."""
    assert entry_form.problem(_entry(said)) is None


@pytest.mark.parametrize(
    ("key", "values", "allowed"),
    [
        ("index", (-1, True, 1.0, "1", None, 2**53 + 1), "a whole number from 0 to"),
        ("time", (None, "now", True, math.nan, math.inf, -1, 1e308, 10**400), "seconds since 1970"),
        ("client", (None, 5, ""), "a text that is not empty"),
        ("rows", (True, 1.0, -1, None, [1]), "a whole number from 0 to"),
        ("bytes", (True, -1, "1"), "a whole number from 0 to"),
        ("sha256", (None, "ab", 5), "64 hexadecimal digits"),
        ("expert", ([1], {"a": 1}, 5, None, "", "x" * 32, TAG + "\n"), "32 hexadecimal digits"),
        ("data", ([1], None), "32 hexadecimal digits"),
        ("fingerprint", ([1], ""), "32 hexadecimal digits"),
        ("kind", (None, ["logits"]), "a text that is not empty"),
        ("queries", (True, []), "a text that is not empty"),
        ("fraction", (0, 2, True, math.nan, None), "a number above 0 and at most 1"),
        ("account", ("x", [1]), "an account, or null"),
        ("epsilon", (-0.1, True, math.nan, math.inf, "none", [0.1]), "a number from 0, 'inf' or"),
        ("delta", (-0.1, 0.0, 1.0, True, math.nan, "1"), "a number above 0 and below 1, or null"),
        ("adjacency", (1, [], ""), "a text that is not empty"),
        ("noise_multiplier", (0, -1.0, True, "2", 1e300, 10**400, 1e-200), "a number from 1e-100"),
        ("leverage", (True, "x", 1.5), "a number from 0 to 1"),
        ("sums", ("x", [], [{"of": "model"}], [{"of": "m", "weights": {"a": "1"}}]), "a list of"),
        ("sums", ([{"of": "m", "weights": {"a": math.inf}}],), "a list of sums"),
        ("who", (["ada"], {"ada": 1}), "columns by name"),
        ("note", ([1], {"a": 1}), "a text, a finite number, true, false or null"),
    ],
    ids=str,
)
def test_a_key_holds_what_it_may(key: str, values: tuple[object, ...], allowed: str) -> None:
    """Attack: a client's `expert: [1]` ended the whole run at its end, with no report."""
    for value in values:
        said = {**_entry(RELEASE), key: value}
        problem = str(receipts.entry_problem(said))
        assert problem.startswith(f"says {key} {value!r}"[:60]), problem
        assert f"; allowed: {allowed}" in problem


@pytest.mark.parametrize("key", ["expert", "data", "account", "epsilon", "rows", "run", "queries"])
def test_a_key_that_must_be_there_is_there(key: str) -> None:
    """Attack: what an entry leaves out would be counted as something else than was meant."""
    said = _entry(RELEASE)
    del said[key]
    assert str(entry_form.problem(said)).startswith(f"says no {key}; allowed: ")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"event": "refusal"}, "is of a 'refusal', not of a release"),
        ({"event": ["release"]}, "is of a \"['release']\", not of a release"),
        ({"event": "repeat"}, "is a repeat, and says repeats None"),
        ({"repeats": 0}, "is a release, and says repeats 0"),
        (
            {"event": "repeat", "repeats": 1},
            "says repeats 1; allowed: the index of an entry before",
        ),
        ({"sums": None}, "is of no sum, and says sums"),
        ({"leverage": 0.1}, "is of no sum, and says leverage"),
        ({**SUMMED, "leverage": None}, "is of a part in sums, and says no leverage"),
        ({**SUMMED, "protection": "none"}, "is of no sum, and says round"),
        ({"epsilon": 0.5}, "claims epsilon 0.5, and no noise"),
        ({"epsilon": "inf"}, "claims epsilon 'inf', and no noise"),
        ({"delta": 0.5}, "claims delta 0.5, and no noise"),
        ({"adjacency": "one pixel"}, "claims adjacency 'one pixel', and no noise"),
        ({**NOISED, "protection": "sealed"}, "claims noise under protection 'sealed'"),
        ({**NOISED, "delta": None}, "claims noise, and says no delta"),
        ({**NOISED, "epsilon": None}, "claims noise, and says no epsilon"),
        ({**NOISED, "epsilon": 0.001}, "claims an epsilon of 0.001; its noise comes to 2.16573"),
        ({**NOISED, "epsilon": 10**90}, "claims an epsilon of 1e+90; its noise comes to 2.16573"),
        ({**NOISED, "epsilon": "inf"}, "claims an epsilon of inf; its noise comes to 2.16573"),
    ],
    ids=str,
)
def test_facts_agree_with_one_another(said: dict[str, Any], problem: str) -> None:
    """Attack: the report's privacy cost would hold a figure that `verify` rejects afterwards."""
    found = receipts.entry_problem(_entry({**RELEASE, **said}))
    assert str(found).startswith(problem)


def test_every_key_says_what_it_may_hold() -> None:
    """Without it a refusal could not say what is allowed."""
    for form in entry_form._FORMS.values():
        assert all(about.description for key, about in form.model_fields.items() if key != "event")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(
    st.sampled_from([RELEASE, {**RELEASE, **NOISED}, {**RELEASE, **SUMMED}, REFUSAL, OUTCOME]),
    st.dictionaries(
        st.sampled_from(sorted({*RELEASE, *NOISED, *SUMMED, "reason", "survivors", "x"})), JSON
    ),
)
def test_whatever_an_entry_holds_is_judged(said: dict[str, Any], odd: dict[str, Any]) -> None:
    """Attack: a value that nobody thought of would end the server instead of the reply."""
    entry = {**_entry(said), **odd}
    problem = entry_form.problem(entry)
    assert problem is None or "\n" not in problem
    if problem is None and entry["event"] in expert_account.LEFT:
        expert_account.problem(entry, [])


@given(
    st.floats(*accountant.MULTIPLIERS),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_any_noise_is_accounted_for(noise: float, delta: float) -> None:
    """Attack: noise that the accountant cannot count would end the server."""
    said = {**RELEASE, **NOISED, "noise_multiplier": noise, "delta": delta, "epsilon": 1e6}
    assert str(entry_form.problem(_entry(said))).startswith("claims an epsilon")
