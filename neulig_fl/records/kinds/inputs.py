"""Inputs: the client's own training queries, images and labels."""

from __future__ import annotations

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Kind


class Inputs(Kind):
    """A row for each image."""

    rank = 0
    tells_model = False
    per_query = True
    divisible = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """Images, uint8 (rows, 3, size, size), and their labels in the task's own classes."""
        images = (rows, 3, sizes.image_size, sizes.image_size)
        return [("images", "|u1", images), ("labels", "<i8", (rows,))]

    def made_of(self, holdings: Holdings) -> Arrays:
        """As the client has them."""
        return holdings.inputs()


KIND = Inputs()
