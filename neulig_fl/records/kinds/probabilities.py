"""Probabilities: the softmax of the expert's logits over the classes of all tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Probabilities(Output):
    """A probability for each query and class."""

    rank = 40
    noisable = True
    voted = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """Probabilities, float32 (rows, classes)."""
        return [("probabilities", "<f4", (rows, sizes.classes))]

    def made_of(self, holdings: Holdings) -> Arrays:
        """Of the expert's logits.

        Raises:
            BadReply: these are not finite.
        """
        return {"probabilities": softmax(holdings)}

    def most_likely(self, arrays: Arrays) -> NDArray[np.int64]:
        """The class of the largest probability; of equal ones the first."""
        import numpy as np  # slow to import

        found: NDArray[np.int64] = np.asarray(arrays["probabilities"]).argmax(axis=1)
        return found


def softmax(holdings: Holdings) -> NDArray[np.float64]:
    """Softmax over the classes of all tasks, float64 of shape (rows, classes).

    Raises:
        BadReply: the logits are not finite.
    """
    import numpy as np  # as above

    from neulig_fl.records.payloads import require_finite

    logits = np.asarray(holdings.logits()["logits"], dtype=np.float64)
    require_finite(logits, "logits", "what probabilities are made of")
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = scaled / scaled.sum(axis=1, keepdims=True)
    return probabilities


KIND = Probabilities()
