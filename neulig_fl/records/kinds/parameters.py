"""Parameters: every floating entry of the expert's state dict."""

from __future__ import annotations

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Kind, floats


class Parameters(Kind):
    """The whole model."""

    rank = 80
    noisable = True
    summed = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """The model's entries, float32."""
        return floats(sizes.entries)

    def made_of(self, holdings: Holdings) -> Arrays:
        """The expert's."""
        return holdings.parameters()


KIND = Parameters()
