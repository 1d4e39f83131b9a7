"""The offset sum: one number of an expert, as rough as the alignment term can do with.

How it is rounded stands in `neulig_fl.records.offset_sum`.
"""

from __future__ import annotations

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Kind


class OffsetSum(Kind):
    """The sum of all floating state-dict entries, rounded against theta_0's."""

    rank = 10
    tells_model = False
    against_start = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """One number."""
        return [("sum", "<f8", (1,))]

    def made_of(self, holdings: Holdings) -> Arrays:
        """Of the client's expert."""
        return holdings.offset_sum()


KIND = OffsetSum()
