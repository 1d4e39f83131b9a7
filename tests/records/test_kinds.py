"""Records: shapes, byte counts, and what is refused before it leaves or is believed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config.scenario import Share
from neulig_fl.config.values import WITHOUT_QUERIES
from neulig_fl.core.errors import BadReply
from neulig_fl.records import kinds, payloads
from neulig_fl.records.kinds import Dimensions, Field, Request
from neulig_fl.records.kinds.top_k import TOP_K

SIZES = Dimensions(dim=3, classes=5, image_size=2, entries={"w": (2, 3), "b": (2,), "scale": ()})
FEATURES = kinds.layout("features", 2, SIZES)
DTYPES = st.sampled_from(["<f4", "<f8", "<i8", "|u1"])
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def _arrays(fields: list[Field], seed: int = 0) -> kinds.Arrays:
    rng = np.random.default_rng(seed)
    return {name: (100 * rng.random(shape)).astype(dtype) for name, dtype, shape in fields}


@pytest.mark.parametrize("kind", kinds.names())
def test_a_file_defines_one_kind_whose_facts_fit_together(kind: str) -> None:
    """Without it a new file could be counted, noised or voted with as what it is not."""
    own = kinds.load(kind)
    assert isinstance(own, kinds.Kind)
    fields = kinds.layout(kind, 7, replace(SIZES, entries={"fc.weight": (2, 3)}))
    assert len({name for name, _, _ in fields}) == len(fields) > 0
    assert own.per_query == all(shape[:1] == (7,) for _, _, shape in fields)
    assert own.per_query == (own.output or kind == "inputs")
    assert own.per_query == (kind not in WITHOUT_QUERIES)
    if own.noisable:
        assert all(dtype in ("<f4", "<f8") for _, dtype, _ in fields)
    assert not own.voted or own.output
    assert not (own.measured and own.against_start)
    assert (Share.model_validate({"kind": kind}).queries != ()) == own.per_query


@pytest.mark.parametrize("kind", kinds.naming_classes())
def test_a_vote_is_for_the_class_that_is_most_likely(kind: str) -> None:
    """Without it a vote would depend on the kind of answer that it is cast with."""
    logits = np.random.default_rng(3).normal(size=(6, 5))
    made: Any = kinds.build(kind, Answering(logits))  # type: ignore[arg-type]
    assert kinds.load(kind).most_likely(made).tolist() == logits.argmax(axis=1).tolist()


def test_kinds_are_asked_for_in_an_order_that_wastes_nothing() -> None:
    """Without it a stage would ask about images that it does not know, or for a model twice."""
    order = kinds.names()
    assert order[0] == "inputs"
    assert order.index("trimmed-task-vector") < order.index("parameters")


@pytest.mark.parametrize("kind", ["labels", "top-k"])
@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_class_that_no_task_has_is_told(kind: str, wrong: int) -> None:
    """Without it the server would look for a column that is not there."""
    fields = kinds.layout(kind, 2, SIZES)
    arrays = {name: np.zeros(shape, dtype) for name, dtype, shape in fields}
    assert kinds.load(kind).problem(arrays, SIZES) is None
    name = fields[0][0]
    arrays[name].flat[0] = wrong
    told = kinds.load(kind).problem(arrays, SIZES)
    assert told == f"1 {name} are not among the 5 classes of all tasks"


@pytest.mark.parametrize("kind", kinds.names())
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_every_kind_travels_and_arrives_as_it_was(kind: str, rows: int) -> None:
    """Without it the server would work on other numbers than the client released."""
    fields = kinds.layout(kind, rows, SIZES)
    arrays = _arrays(fields)
    payload = payloads.pack(arrays, fields, "ada")
    assert len(payload) == kinds.byte_count(kind, rows, SIZES)
    found = payloads.unpack(payload, fields, "ada")
    assert list(found) == [name for name, _, _ in fields]
    for name, array in arrays.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert not found[name].flags.writeable


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inputs", 4 * (12 + 8)),
        ("offset-sum", 8),
        ("features", 48),
        ("logits", 80),
        ("probabilities", 80),
        ("top-k", 4 * 5 * (4 + 4)),
        ("labels", 16),
        ("parameters", 36),
    ],
)
def test_byte_counts_by_hand(kind: str, expected: int) -> None:
    """Without it `plan` would announce other sizes than what is sent."""
    assert kinds.byte_count(kind, 4, SIZES) == expected


@given(st.lists(st.tuples(DTYPES, SHAPES), max_size=4), st.integers(0, 99))
def test_any_layout_is_packed_without_loss(
    parts: list[tuple[str, tuple[int, ...]]], seed: int
) -> None:
    """Without it an architecture with an unusual entry would arrive shifted."""
    fields = [(f"entry {i}", dtype, shape) for i, (dtype, shape) in enumerate(parts)]
    arrays = _arrays(fields, seed)
    payload = payloads.pack(arrays, fields, "ada")
    assert len(payload) == sum(math.prod(s) * np.dtype(d).itemsize for _, d, s in fields)
    found = payloads.unpack(memoryview(payload), fields, "ada")
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


def test_strided_and_wider_arrays_are_packed_by_value() -> None:
    """Without it a transposed array would leave in the wrong order."""
    array = np.arange(6, dtype=np.float64).reshape(3, 2).T
    payload = payloads.pack({"features": array}, FEATURES, "ada")
    assert np.frombuffer(payload, "<f4").tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({}, "features has shape nothing instead of"),
        (
            {"features": np.zeros((3, 2), np.float32)},
            r"features has shape \(3, 2\) instead of \(2, 3\)",
        ),
        ({"features": np.zeros(6, np.float32)}, r"shape \(6,\)"),
        ({"features": np.full((2, 3), np.nan, np.float32)}, "6 values that are not finite"),
        ({"features": np.array([[0, 0, np.inf], [0, -np.inf, 0]])}, "2 values that are not finite"),
    ],
    ids=["missing", "transposed", "flat", "NaN", "infinite"],
)
def test_a_wrong_record_does_not_leave(arrays: Any, problem: str) -> None:
    """Without it a client would be charged for a record that nobody can use."""
    with pytest.raises(BadReply, match=rf"^client 'ada', features: .*{problem}") as caught:
        payloads.pack(arrays, FEATURES, "client 'ada', features")
    assert caught.value.public_reason
    assert "ada" not in caught.value.public_reason


def test_a_value_that_the_wire_cannot_hold_does_not_leave_as_infinity() -> None:
    """Without it a float64 beyond float32 would be checked before, and infinite after, the cast."""
    with pytest.raises(BadReply, match="not finite"), np.errstate(over="ignore"):
        payloads.pack({"features": np.full((2, 3), 1e300)}, FEATURES, "ada")


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"", "0 bytes instead of 24"),
        (bytes(23), "23 bytes instead of 24"),
        (bytes(25), "25 bytes instead of 24"),
        (
            np.array([0, 0, 0, 0, 0, np.nan], "<f4").tobytes(),
            "features holds 1 values that are not finite",
        ),
    ],
    ids=["empty", "short", "long", "NaN"],
)
def test_a_wrong_payload_is_not_believed(payload: bytes, problem: str) -> None:
    """Without it one client's broken reply would poison everybody's result."""
    with pytest.raises(BadReply, match=f"^client 'ada': {problem}$"):
        payloads.unpack(payload, FEATURES, "client 'ada'")


def test_integers_are_never_not_finite() -> None:
    """Without it labels and images would fail a check for floats."""
    fields = kinds.layout("inputs", 2, SIZES)
    payloads.unpack(payloads.pack(_arrays(fields), fields, "ada"), fields, "ada")


MADE_OF = {"probabilities": "logits", "top-k": "logits", "labels": "logits"}
"""What a kind is made of, where that is not a maker of its own."""


def test_only_the_asked_maker_is_called() -> None:
    """Without it a client would compute, and could leak, what nobody asked for."""
    calls: list[str] = []

    class Noting:
        def __getattr__(self, name: str) -> Any:
            return lambda: calls.append(name) or {name: np.zeros((1, 2))}

    for kind in kinds.names():
        kinds.build(kind, Noting())
    assert calls == [MADE_OF.get(kind, kind).replace("-", "_") for kind in kinds.names()]


class Answering:
    """Holdings that have logits and nothing else."""

    def __init__(self, logits: Any) -> None:
        self._logits = np.asarray(logits, dtype=np.float32)

    def logits(self) -> kinds.Arrays:
        """As `kinds.Holdings`."""
        return {"logits": self._logits}

    def __getattr__(self, name: str) -> Any:
        return lambda: pytest.fail(f"{name} was asked for")


@given(st.integers(0, 4), st.integers(1, 9), st.integers(0, 99))
def test_what_is_made_of_logits_is_what_logits_say(rows: int, classes: int, seed: int) -> None:
    """Without it a client would answer with another class than its expert's."""
    logits = np.random.default_rng(seed).normal(size=(rows, classes)) * 10
    holdings: Any = Answering(logits)
    sizes = Dimensions(3, classes, 2, {})
    made = {
        kind: payloads.unpack(
            payloads.pack(kinds.build(kind, holdings), kinds.layout(kind, rows, sizes), "ada"),
            kinds.layout(kind, rows, sizes),
            "ada",
        )
        for kind in MADE_OF
    }
    slow = torch.tensor(logits, dtype=torch.float32).softmax(dim=1)
    whole, top = made["probabilities"]["probabilities"], made["top-k"]
    assert np.allclose(whole, slow.numpy(), atol=1e-6)
    found = slow.topk(min(TOP_K, classes), dim=1)
    assert np.array_equal(top["classes"], found.indices.numpy())
    assert np.allclose(top["probabilities"], found.values.numpy(), atol=1e-6)
    assert np.array_equal(made["labels"]["labels"], slow.argmax(dim=1).numpy())


def test_of_equally_likely_classes_the_first_is_named() -> None:
    """Without it the answer to a tie would depend on the machine, and tell of it."""
    holdings: Any = Answering([[1.0, 2.0, 2.0, 0.0]])
    assert kinds.build("labels", holdings)["labels"].tolist() == [1]
    assert kinds.build("top-k", holdings)["classes"].tolist() == [[1, 2, 0, 3]]


@pytest.mark.parametrize("kind", MADE_OF)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_label_is_made_of_logits_that_are_not_finite(kind: str, value: float) -> None:
    """Without it a broken expert would answer with classes, which are always finite."""
    holdings: Any = Answering([[1.0, value]])
    with pytest.raises(BadReply, match="logits holds 1 values that are not finite"):
        kinds.build(kind, holdings)


def test_requests_are_for_the_same_data_whatever_the_stage() -> None:
    """Without it a later stage would be charged again for what an earlier one was given."""
    asked = Request("one", "A", "features", "pool", 0.5)
    assert asked.same_data(Request("two", "A", "features", "pool", 0.5))
    for other in (
        Request("one", "B", "features", "pool", 0.5),
        Request("one", "A", "logits", "pool", 0.5),
        Request("one", "A", "features", "evaluation", 0.5),
        Request("one", "A", "features", "pool", 0.6),
        Request("one", "A", "features", "pool", 0.5, "sealed"),
    ):
        assert not asked.same_data(other)
