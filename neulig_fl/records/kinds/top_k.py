"""The most likely classes of each query, and how likely they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Output, wrong_classes
from neulig_fl.records.kinds.probabilities import softmax

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOP_K = 5
"""Classes in a row; all of them where there are fewer."""


class TopK(Output):
    """The most likely classes, most likely first; of equal ones the first."""

    rank = 50
    voted = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """Classes, int32, and their probabilities, float32, (rows, k) both."""
        shape = (rows, min(TOP_K, sizes.classes))
        return [("classes", "<i4", shape), ("probabilities", "<f4", shape)]

    def made_of(self, holdings: Holdings) -> Arrays:
        """Of the expert's logits.

        Raises:
            BadReply: these are not finite.
        """
        return most_likely(holdings)

    def problem(self, arrays: Arrays, sizes: Dimensions) -> str | None:
        """Classes that no task has."""
        return wrong_classes("classes", arrays, sizes)

    def most_likely(self, arrays: Arrays) -> NDArray[np.int64]:
        """The first class."""
        import numpy as np  # slow to import

        return np.asarray(arrays["classes"], dtype=np.int64)[:, 0]


def most_likely(holdings: Holdings) -> Arrays:
    """The classes and probabilities of a record.

    Raises:
        BadReply: the logits are not finite.
    """
    import numpy as np  # as above

    probabilities = softmax(holdings)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP_K]
    return {"classes": order, "probabilities": np.take_along_axis(probabilities, order, axis=1)}


KIND = TopK()
