"""The contract that every protection keeps."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config.scenario import Share
from neulig_fl.config.values import SUMS
from neulig_fl.core import variants
from neulig_fl.core.errors import ClientRefused
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import Seen
from neulig_fl.records import kinds
from neulig_fl.records.kinds import Dimensions
from neulig_fl.records.protections import Case, Way

NAMES = variants.names("neulig_fl.records.protections")
ALONE = [name for name in NAMES if name not in SUMS]
"""Protections under which a record leaves by itself."""

SERVER = Identity.new()
SIZES = Dimensions(dim=4, classes=3, image_size=2, entries={"w": (2, 3), "b": (3,)})


def _module(name: str) -> ModuleType:
    return variants.load("neulig_fl.records.protections", name)


def _share(name: str, kind: str) -> Share:
    noise = {"clip": 1.0, "noise_multiplier": 0.5, "delta": 1e-5} if name == "gaussian" else {}
    return Share.model_validate({"kind": kind, "protection": name, **noise})


def test_those_that_a_policy_can_ask_for_are_there() -> None:
    """Without it a policy could ask for a protection that nothing gives."""
    assert {"none", "sealed", "gaussian"} <= set(ALONE)


@pytest.mark.parametrize("name", ALONE)
@given(payload=st.binary(max_size=40), bound=st.binary(max_size=8))
def test_what_is_wrapped_can_be_opened_again(name: str, payload: bytes, bound: bytes) -> None:
    """Without it the recipient could not read what it was sent."""
    module, way = _module(name), Way(bound, SERVER.agreement)
    sent = module.wrapped(payload, way)
    assert isinstance(sent, bytes)
    assert len(sent) == len(payload) + module.OVERHEAD
    assert bytes(module.opened(memoryview(sent), way, SERVER, Seen())) == payload


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("kind", ["features", "logits", "probabilities", "parameters"])
def test_treated_arrays_are_still_a_record_of_their_kind(name: str, kind: str) -> None:
    """Without it the server would refuse what a protection made of a record."""
    rows = 5 if kind in kinds.PER_QUERY else 1
    fields = kinds.layout(kind, rows, SIZES)
    rng = np.random.default_rng(0)
    arrays = {each: rng.normal(size=shape).astype(dtype) for each, dtype, shape in fields}
    before = {each: array.copy() for each, array in arrays.items()}
    case = Case(kind, rows, _share(name, kind), start=lambda: arrays)
    sent = _module(name).treated(arrays, case)
    assert len(kinds.pack(sent, fields, "a test")) == kinds.byte_count(kind, rows, SIZES)
    assert all(np.array_equal(arrays[each], before[each]) for each in before)


@pytest.mark.parametrize("name", ALONE)
def test_settings_and_facts_can_stand_in_a_ledger(name: str) -> None:
    """Without it a release could not be entered, or not be recognised when it is asked again."""
    module, share = _module(name), _share(name, "features")
    settings = module.settings(share, "features")
    assert json.dumps(settings) == json.dumps(module.settings(share, "features"))
    facts = module.stated(Case("features", 5, share)).facts
    assert json.loads(json.dumps(dict(facts), allow_nan=False)) == dict(facts)


@pytest.mark.parametrize("name", [name for name in NAMES if name in SUMS])
def test_a_part_of_a_sum_never_leaves_by_itself(name: str) -> None:
    """Without it what may leave in sums only would leave alone, under the name of the sum."""
    with pytest.raises(ClientRefused, match="sum"):
        _module(name).wrapped(b"payload", Way(b"", SERVER.agreement))


def test_without_a_recipients_key_nothing_is_sealed() -> None:
    """Without it a record could be sealed to nobody, or leave as it is."""
    assert "did not say its key" in str(_module("sealed").problem(Way(b"")))
    assert _module("none").problem(Way(b"")) is None
