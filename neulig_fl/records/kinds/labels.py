"""Labels: the most likely class of each query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Output, wrong_classes
from neulig_fl.records.kinds.top_k import most_likely

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Labels(Output):
    """The most likely class of all tasks; of equal ones the first."""

    rank = 60
    voted = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """Labels, int32 (rows,)."""
        return [("labels", "<i4", (rows,))]

    def made_of(self, holdings: Holdings) -> Arrays:
        """Of the expert's logits.

        Raises:
            BadReply: these are not finite.
        """
        return {"labels": most_likely(holdings)["classes"][:, 0]}

    def problem(self, arrays: Arrays, sizes: Dimensions) -> str | None:
        """Classes that no task has."""
        return wrong_classes("labels", arrays, sizes)

    def most_likely(self, arrays: Arrays) -> NDArray[np.int64]:
        """The class that is named."""
        import numpy as np  # slow to import

        return np.asarray(arrays["labels"], dtype=np.int64)


KIND = Labels()
