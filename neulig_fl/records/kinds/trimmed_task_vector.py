"""Trimmed task vector: the largest numbers of a task vector, as many as the fraction says.

How it is trimmed and packed stands in `neulig_fl.merging.trimming`.
"""

from __future__ import annotations

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Kind

MOST_KEPT = 0.99
"""Of a task vector; what keeps more is the task vector in all but name."""


class TrimmedTaskVector(Kind):
    """A mask of what is kept, and the numbers that are."""

    rank = 70
    divisible = True
    against_start = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """As `trimming.layout` says."""
        from neulig_fl.merging import trimming  # slow to import

        return trimming.layout(sizes.entries, fraction)

    def keeps_all(self, fraction: float, sizes: Dimensions | None = None) -> bool:
        """Above `MOST_KEPT`, and where as many numbers are kept as there are."""
        from neulig_fl.merging import trimming  # as above

        return fraction > MOST_KEPT or (
            sizes is not None and trimming.keeps_all(sizes.entries, fraction)
        )

    def made_of(self, holdings: Holdings) -> Arrays:
        """Of the expert's task vector."""
        return holdings.trimmed_task_vector()

    def problem(self, arrays: Arrays, sizes: Dimensions) -> str | None:
        """A mask that keeps other numbers than came."""
        from neulig_fl.merging import trimming  # as above

        return trimming.problem(arrays, sizes.entries)


KIND = TrimmedTaskVector()
