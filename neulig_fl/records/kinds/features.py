"""Features: what the expert's encoder makes of the queries."""

from __future__ import annotations

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Output


class Features(Output):
    """A feature for each query; no head has a part in it."""

    rank = 20
    noisable = True
    summed = True
    of_heads = False

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """Features, float32 (rows, dim)."""
        return [("features", "<f4", (rows, sizes.dim))]

    def made_of(self, holdings: Holdings) -> Arrays:
        """The expert's."""
        return holdings.features()


KIND = Features()
