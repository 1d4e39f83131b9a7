"""Task vector: the expert's difference to the checkpoint that all experts start from."""

from __future__ import annotations

from neulig_fl.records.kinds import Arrays, Dimensions, Field, Holdings, Kind, floats


class TaskVector(Kind):
    """The whole model, since theta_0 is public."""

    rank = 90
    noisable = True
    against_start = True

    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """The model's entries, float32."""
        return floats(sizes.entries)

    def made_of(self, holdings: Holdings) -> Arrays:
        """The expert's."""
        return holdings.task_vector()


def difference(own: Arrays, start: Arrays) -> Arrays:
    """A task vector: a model's entries less those of theta_0, float32."""
    import numpy as np  # slow to import

    return {name: np.subtract(own[name], start[name], dtype=np.float32) for name in own}


def moved(start: Arrays, vector: Arrays) -> Arrays:
    """theta_0 plus a task vector; noise must not bring a running variance below 0.

    Example:
        >>> import numpy as np
        >>> one = np.ones(1, np.float32)
        >>> {k: float(v[0]) for k, v in moved({"a": one}, {"a": -3 * one}).items()}
        {'a': -2.0}
    """
    import numpy as np  # as above

    whole = {name: np.add(start[name], vector[name], dtype=np.float32) for name in vector}
    return {
        name: np.maximum(value, 0.0) if name.endswith("running_var") else value
        for name, value in whole.items()
    }


KIND = TaskVector()
