"""The terms: impossible ones are refused, and any difference is another digest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sum_round

from neulig_fl.core.errors import InputError
from neulig_fl.privacy.secagg import default_threshold
from neulig_fl.privacy.secagg.terms import Terms
from neulig_fl.privacy.secagg.wire import Reader

AGREED = sum_round.terms(5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clients": ("a", "b")}, "clients is 2; allowed: 3 to 4096 of them"),
        ({"clients": ("b", "a", "c")}, "clients is an unsorted list; allowed: each name once"),
        ({"clients": ("a", "b", "b")}, "clients is an unsorted list"),
        (
            {"clients": ("", "a", "b")},
            "clients is a name that is empty or too long; allowed: names of 1 to",
        ),
        ({"clients": ("a", "b", "c" * 256)}, "clients is a name that is empty or too long"),
        ({"threshold": 2}, "threshold is 2; allowed: more than half of 5 clients, at most 5"),
        ({"threshold": 6}, "threshold is 6; allowed: more than half"),
        (
            {"clients": sum_round.names(4), "threshold": 2},
            "threshold is 2; allowed: more than half",
        ),
        ({"threshold": 0}, "threshold is 0"),
        ({"entries": 0}, "entries is 0; allowed: 1 or more"),
        ({"chunk_entries": 0}, "chunk_entries is 0; allowed: 1 to"),
        ({"chunk_entries": 2**26 + 1}, "chunk_entries is 67108865; allowed: 1 to 67108864"),
        ({"clip": 0.0}, "clip 0.0 x headroom 1.0 does not fit"),
        ({"headroom": float("inf")}, "headroom inf does not fit"),
    ],
)
def test_impossible_terms_are_input_errors(change: dict[str, Any], says: str) -> None:
    """Without it a sum of two, or one that half of the clients can open, would be made."""
    with pytest.raises(InputError, match=says):
        replace(AGREED, **change)


@pytest.mark.parametrize(
    ("last", "beyond", "says"),
    [
        ({"clients": sum_round.names(3), "threshold": 2}, {"clients": ("a", "b")}, "clients is 2"),
        (
            {"clients": tuple(f"c-{n:04}" for n in range(4096)), "threshold": 4096},
            {"clients": tuple(f"c-{n:04}" for n in range(4097)), "threshold": 4096},
            "clients is 4097; allowed: 3 to 4096",
        ),
        (
            {"clients": ("a", "b", "c" * 255), "threshold": 2},
            {"clients": ("a", "b", "\u00fc" * 128), "threshold": 2},
            "a name that is empty or too long",
        ),
        ({"entries": 1}, {"entries": 0}, "entries is 0"),
        ({"entries": 2**48 - 1}, {"entries": 2**48}, "entries is 281474976710656; allowed"),
        ({"chunk_entries": 1}, {"chunk_entries": 0}, "chunk_entries is 0"),
        ({"chunk_entries": 2**26}, {"chunk_entries": 2**26 + 1}, "chunk_entries is 67108865"),
    ],
)
def test_the_ends_of_what_is_allowed(
    last: dict[str, Any], beyond: dict[str, Any], says: str
) -> None:
    """Without it an error would name a range that is not the one it keeps to."""
    made = replace(AGREED, **last)
    assert Terms.read(Reader(made.to_bytes())) == made
    with pytest.raises(InputError, match=says):
        replace(AGREED, **beyond)


def test_a_sum_is_right_to_a_step_of_each_client() -> None:
    """Without it the report would state another error than the sum has."""
    for count, clip, headroom in ((3, 1.0, 1.0), (8, 0.3, 2.0)):
        made = sum_round.terms(count, clip=clip, headroom=headroom)
        grid = made.fixed_point
        assert (grid.clip, grid.clients, grid.headroom) == (clip, count, headroom)
        assert made.quantisation == count / grid.scale
    plain = Terms(b"", sum_round.names(3), 2, 10, 1.0)
    assert (plain.headroom, plain.chunk_sizes) == (1.0, [10])


@pytest.mark.parametrize("threshold", [3, 4, 5])
def test_more_than_half_is_enough(threshold: int) -> None:
    """Without it a scenario could not choose how many may leave."""
    assert replace(AGREED, threshold=threshold).threshold == threshold


def test_any_difference_is_another_digest() -> None:
    """Without it clients with different weights, sizes or clips would sum what does not fit."""
    changes: list[dict[str, Any]] = [
        {}, {"context": b"other"}, {"clients": sum_round.names(6)}, {"threshold": 3},
        {"entries": 11}, {"clip": 2.0}, {"headroom": 2.0}, {"chunk_entries": 5},
    ]  # fmt: skip
    made = [replace(AGREED, **change) for change in changes]
    assert len({each.digest for each in made}) == len(made)
    for each in made:
        reader = Reader(each.to_bytes())
        assert Terms.read(reader) == each
        reader.end()


def test_the_default_threshold_is_allowed_everywhere() -> None:
    """Without it a scenario that says nothing could fail."""
    for count in range(3, 130):
        threshold = default_threshold(count)
        assert 2 * threshold > count
        assert threshold <= count
        assert 3 * threshold >= 2 * count


@pytest.mark.parametrize(
    ("count", "threshold", "colluders"),
    [(3, 2, 0), (3, 3, 1), (5, 3, 0), (5, 4, 2), (20, 14, 7), (100, 67, 33), (100, 51, 1)],
)
def test_how_many_may_collude_is_told(count: int, threshold: int, colluders: int) -> None:
    """Without it the threat model would promise more than the threshold gives."""
    assert sum_round.terms(count, threshold=threshold).colluders == colluders


def test_chunks_make_up_the_vector() -> None:
    """Without it entries at the end would be left out."""
    for entries in (1, 3, 4, 5, 8, 9):
        agreed = replace(AGREED, entries=entries)
        assert sum(agreed.chunk_sizes) == entries
        assert all(0 < size <= 4 for size in agreed.chunk_sizes)
        assert all(size == 4 for size in agreed.chunk_sizes[:-1])
