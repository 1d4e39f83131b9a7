"""Logits: the expert's scores of the queries over the classes of all tasks."""

from __future__ import annotations

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Output


class Logits(Output):
    """A score for each query and class."""

    rank = 30
    noisable = True
    summed = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """Logits, float32 (rows, classes)."""
        return [("logits", "<f4", (rows, sizes.classes))]

    def made_of(self, holdings: Holdings) -> Arrays:
        """The expert's."""
        return holdings.logits()


KIND = Logits()
