"""Gram matrices, for RegMean: of every weight's inputs on own training images, and moments.

How they are measured stands in `neulig_fl.merging.gram`. The model follows: W = moment / Gram
matrix.
"""

from __future__ import annotations

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Kind, floats


class Gram(Kind):
    """A statistic, which the client measures."""

    rank = 100
    summed = True
    measured = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """As `gram.layout` says, float32."""
        from neulig_fl.merging import gram  # slow to import

        return floats(gram.layout(sizes.entries))

    def made_of(self, holdings: Holdings) -> Arrays:
        """Of the client's expert."""
        return holdings.gram()


KIND = Gram()
