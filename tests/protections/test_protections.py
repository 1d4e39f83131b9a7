"""The contract that every protection keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl import variants

NAMES = variants.names("neulig_fl.protections")


def test_no_protection_is_one_of_them() -> None:
    """Without it a stage that protects nothing would be a special case in the gate."""
    assert "none" in NAMES


@pytest.mark.parametrize("name", ["none"])
@given(st.binary(max_size=40))
def test_what_is_protected_can_be_opened_again(name: str, payload: bytes) -> None:
    """Without it the recipient could not read what it was sent."""
    module = variants.load("neulig_fl.protections", name)
    protected = module.protect(payload)
    assert isinstance(protected, bytes)
    assert module.open_sealed(protected) == payload


@given(st.binary(max_size=40))
def test_none_changes_nothing(payload: bytes) -> None:
    """Without it the plain bytes of a plan would not be those of the report."""
    assert variants.load("neulig_fl.protections", "none").protect(payload) == payload
