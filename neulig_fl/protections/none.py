"""No protection: the payload travels as it is. A real choice, and tested like the others."""

from __future__ import annotations


def protect(payload: bytes) -> bytes:
    """The payload unchanged.

    Example:
        >>> protect(b"abc")
        b'abc'
    """
    return payload


def open_sealed(payload: bytes) -> bytes:
    """What `protect` was given."""
    return payload
