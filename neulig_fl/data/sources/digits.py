"""Real handwriting, 8x8: the UCI optical digits that scikit-learn ships (its test part)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulig_fl.data.built_in import BuiltInSource
from neulig_fl.data.sources.mnist5k import NUMBER_TEMPLATES

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions


def _build() -> NDArray[np.uint8]:
    from sklearn.datasets import load_digits  # slow to import

    grey = (load_digits().images * (255.0 / 16.0)).round().astype(np.uint8)
    large = [
        np.asarray(Image.fromarray(g).resize((32, 32), Image.Resampling.BICUBIC)) for g in grey
    ]
    return np.repeat(np.stack(large)[..., None], 3, axis=3)


def _labels() -> NDArray[np.int64]:
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().target, dtype=np.int64)


def source(options: TaskOptions) -> BuiltInSource:
    """1,797 handwritten digits, 8x8 scaled to 32x32."""
    return BuiltInSource(
        collection="sklearn-digits",
        summary="handwritten digits, 8x8 scans (scikit-learn)",
        class_names=tuple("0123456789"),
        templates=options.templates or NUMBER_TEMPLATES,
        count=1797,
        version="1",
        build=_build,
        read_labels=_labels,
    )
