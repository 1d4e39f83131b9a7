"""The contract that every protection keeps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config.scenario import Scenario, Share
from neulig_fl.config.values import NOISELESS, SUMS
from neulig_fl.core import variants
from neulig_fl.core.errors import ClientRefused, InputError
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import Seen
from neulig_fl.records import kinds, payloads
from neulig_fl.records.kinds import Dimensions
from neulig_fl.records.protections import Case, Protection, Way, load

NAMES = variants.names("neulig_fl.records.protections")
ALONE = [name for name in NAMES if name not in SUMS]
"""Protections under which a record leaves by itself."""

SERVER = Identity.new()
SIZES = Dimensions(dim=4, classes=3, image_size=2, entries={"w": (2, 3), "b": (3,)})


KINDS = kinds.those(lambda kind: kind.noisable)
"""Kinds that every protection can treat."""


def _share(name: str, kind: str) -> Share:
    return Share.model_validate({"kind": kind, "protection": {name: load(name).example}})


def _scenario(share: Share) -> Scenario:
    clients = [{"name": name, "task": "digits"} for name in ("ada", "bob", "cyd")]
    said = share.model_dump(mode="json")
    stages = [{"name": "one", "share": [said]}]
    return Scenario.model_validate({"name": "s", "clients": clients, "stages": stages})


@pytest.mark.parametrize("name", NAMES)
def test_a_file_defines_one_protection(name: str) -> None:
    """Without it a file in the folder would be named in scenarios and be nothing."""
    guard = load(name)
    assert isinstance(guard, Protection)
    assert (guard.options.__doc__ or "").strip()
    assert all(about.description for about in guard.options.model_fields.values())


@pytest.mark.parametrize("name", NAMES)
def test_its_own_example_is_one_that_it_takes(name: str) -> None:
    """Without it an error message would show a reader what is refused again."""
    guard, share = load(name), _share(name, "features")
    assert guard.wrong_options(share) == []
    assert [*guard.problems(_scenario(share), [(("at",), share)])] == []
    assert guard.given(share) == guard.options.model_validate(guard.example)


@pytest.mark.parametrize("name", NAMES)
def test_a_share_reads_again_as_it_was_written(name: str) -> None:
    """Without it a run's scenario.json would ask for another protection than the file."""
    share = _share(name, "features")
    again = Share.model_validate_json(share.model_dump_json())
    assert (again, hash(again)) == (share, hash(share))
    said = json.loads(share.model_dump_json())["protection"]
    assert said == ({name: dict(load(name).example)} if load(name).example else name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{"no-such-option": 1}, {"no-such-option": [1, {"a": None}]}])
def test_options_that_it_does_not_have_are_told_and_never_used(
    name: str, options: dict[str, Any]
) -> None:
    """Without it a typo would be a protection with its defaults, or none."""
    share = Share.model_validate({"kind": "features", "protection": {name: options}})
    found = load(name).wrong_options(share)
    assert found
    assert all(each.steps[:2] == ("protection", name) for each in found)
    with pytest.raises(InputError, match=f"protection {name}: "):
        load(name).given(share)


@pytest.mark.parametrize("name", NAMES)
def test_its_name_alone_is_enough_or_says_what_is_needed(name: str) -> None:
    """Without it a reader would guess which options a protection has to have."""
    guard = load(name)
    found = guard.wrong_options(Share.model_validate({"kind": "features", "protection": name}))
    assert bool(found) == any(f.is_required() for f in guard.options.model_fields.values())
    for each in found:
        assert each.steps == ("protection",)
        assert f"{name} needs {guard.needed}" in each.text
        assert all(f"{key}: " in each.text for key in guard.example)


def test_those_that_a_policy_can_ask_for_are_there() -> None:
    """Without it a policy could ask for a protection that nothing gives."""
    assert {"none", "sealed", "gaussian"} <= set(ALONE)
    assert {name for name in NAMES if load(name).noised}.isdisjoint(NOISELESS)


@pytest.mark.parametrize("name", ALONE)
@given(payload=st.binary(max_size=40), bound=st.binary(max_size=8))
def test_what_is_wrapped_can_be_opened_again(name: str, payload: bytes, bound: bytes) -> None:
    """Without it the recipient could not read what it was sent."""
    guard, way = load(name), Way(bound, SERVER.agreement)
    sent = guard.wrapped(payload, way)
    assert isinstance(sent, bytes)
    assert len(sent) == len(payload) + guard.overhead
    assert bytes(guard.opened(memoryview(sent), way, SERVER, Seen())) == payload


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("kind", KINDS)
def test_treated_arrays_are_still_a_record_of_their_kind(name: str, kind: str) -> None:
    """Without it the server would refuse what a protection made of a record."""
    rows = 5 if kinds.load(kind).per_query else 1
    fields = kinds.layout(kind, rows, SIZES)
    rng = np.random.default_rng(0)
    arrays = {each: rng.normal(size=shape).astype(dtype) for each, dtype, shape in fields}
    before = {each: array.copy() for each, array in arrays.items()}
    case = Case(kind, rows, _share(name, kind), start=lambda: arrays)
    sent = load(name).treated(arrays, case)
    assert len(payloads.pack(sent, fields, "a test")) == kinds.byte_count(kind, rows, SIZES)
    assert all(np.array_equal(arrays[each], before[each]) for each in before)


@pytest.mark.parametrize("name", ALONE)
def test_settings_and_facts_can_stand_in_a_ledger(name: str) -> None:
    """Without it a release could not be entered, or not be recognised when it is asked again."""
    guard, share = load(name), _share(name, "features")
    settings = guard.settings(share, "features")
    assert json.dumps(settings) == json.dumps(guard.settings(share, "features"))
    stated = guard.stated(Case("features", 5, share))
    assert json.loads(json.dumps(dict(stated.facts), allow_nan=False)) == dict(stated.facts)
    assert guard.signed(share, "features").items() <= stated.facts.items()
    assert settings.items() <= stated.facts.items()
    assert guard.noised or stated.claims.charge is None
    assert guard.delta(share) == stated.claims.delta


@pytest.mark.parametrize("name", [name for name in NAMES if name in SUMS])
def test_a_part_of_a_sum_never_leaves_by_itself(name: str) -> None:
    """Without it what may leave in sums only would leave alone, under the name of the sum."""
    with pytest.raises(ClientRefused, match="sum"):
        load(name).wrapped(b"payload", Way(b"", SERVER.agreement))


def test_without_a_recipients_key_nothing_is_sealed() -> None:
    """Without it a record could be sealed to nobody, or leave as it is."""
    assert "did not say its key" in str(load("sealed").problem(Way(b"")))
    assert load("none").problem(Way(b"")) is None
