"""Fisher information, for Fisher merging: its diagonal on own training images, and moments.

How it is measured stands in `neulig_fl.merging.fisher`. The model follows: theta = moment / Fisher
information.
"""

from __future__ import annotations

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Kind, floats


class Fisher(Kind):
    """A statistic, which the client measures."""

    rank = 110
    summed = True
    measured = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """As `fisher.layout` says, float32."""
        from neulig_fl.merging import fisher  # slow to import

        return floats(fisher.layout(sizes.entries))

    def made_of(self, holdings: Holdings) -> Arrays:
        """Of the client's expert."""
        return holdings.fisher()


KIND = Fisher()
