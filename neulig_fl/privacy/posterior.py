"""Leverage calculated a second time: what sums leave unknown of each client's vector.

Take the clients' vectors, entry by entry, as independent unknowns of variance 1, and every weighted
sum as a measurement of them with an error of variance q^2. P is the covariance of what is unknown;
a sum with the weights b, scaled to length 1, takes from it what it tells:

    P = I at first,    P <- P - (P b)(P b)^T / (b^T P b + q^2)

The leverage of client t is 1 - P_tt. That is the diagonal of B^T B (B^T B + q^2 I)^-1, which
`leverage` takes from a singular value decomposition in floating point. Here it is a loop over
decimal numbers of 60 digits: neither's error is the other's, and both can be checked by eye.

Source: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, section 2.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext

ERROR = Decimal("1e-9")
"""q: the error of a sum's entry relative to a vector's, as in `leverage`."""

_DIGITS = 60


def leverages(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Every client's leverage under some weight rows.

    Args:
        rows: each client's weight, by name; finite. A row of zeros tells nothing.

    Returns:
        By name, sorted; from 0 to 1.

    Example:
        >>> {c: round(v, 6) for c, v in leverages([{"a": 0.2, "b": 0.2}, {"b": 1.0}]).items()}
        {'a': 1.0, 'b': 1.0}
        >>> leverages([{"a": 3.0, "b": -3.0}])
        {'a': 0.5, 'b': 0.5}
    """
    names = sorted({name for row in rows for name in row})
    with localcontext(prec=_DIGITS):
        unknown = [[Decimal(i == j) for j in range(len(names))] for i in range(len(names))]
        for row in rows:
            weights = [Decimal(row.get(name, 0.0)) for name in names]
            length = sum((w * w for w in weights), Decimal(0)).sqrt()
            if length:
                _learn(unknown, [w / length for w in weights])
        return {name: float(1 - unknown[i][i]) for i, name in enumerate(names)}


def _learn(unknown: list[list[Decimal]], b: Sequence[Decimal]) -> None:
    """Take from the covariance what one more sum tells; in place."""
    told = [sum((p * w for p, w in zip(row, b, strict=True)), Decimal(0)) for row in unknown]
    spread = sum((t * w for t, w in zip(told, b, strict=True)), Decimal(0)) + ERROR * ERROR
    for i, row in enumerate(unknown):
        for j in range(len(row)):
            row[j] -= told[i] * told[j] / spread
