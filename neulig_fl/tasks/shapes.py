"""Ten shapes on clutter: drawn here, any rotation, place and colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neulig_fl import drawing
from neulig_fl.built_in import BuiltInSource, balanced_labels
from neulig_fl.randomness import numpy_generator

if TYPE_CHECKING:
    from neulig_fl.scenario import TaskOptions

COUNT = 6000


def _labels() -> NDArray[np.int64]:
    return balanced_labels(COUNT, len(drawing.SHAPES))


def _build() -> NDArray[np.uint8]:
    draw = [
        drawing.shape(numpy_generator(0, "source:shapes", str(i)), int(label))
        for i, label in enumerate(_labels())
    ]
    return np.stack(draw)


def source(options: TaskOptions) -> BuiltInSource:
    """6,000 pictures, 32x32."""
    return BuiltInSource(
        collection="shapes",
        summary="ten drawn shapes with clutter and noise (drawn here)",
        class_names=drawing.SHAPES,
        templates=options.templates or ("a drawing of a {}.",),
        count=COUNT,
        version="3",
        build=_build,
        read_labels=_labels,
    )
