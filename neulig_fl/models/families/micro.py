"""The two bundled micro models: what they are is known without OpenCLIP, which loads for seconds.

They are OpenCLIP models, and everything that computes is `open_clip.OpenClipFamily`'s. A checkpoint
of the user's own (`pretrained: PATH`) is that family's alone: it has to be looked into.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulig_fl.config.schema import MICRO_MODELS, PRETRAINED_WORDS
from neulig_fl.core.resizing import Resize
from neulig_fl.models.families import _preprocessing
from neulig_fl.models.families._bundled import FOLDER

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from neulig_fl.config.schema import Model
    from neulig_fl.models.checkpoints import Checkpoint
    from neulig_fl.models.families import Family
    from neulig_fl.models.families.open_clip import OpenClipFamily

_ACTIVATION = {"micro-vit": "GELU", "micro-rn": "another activation than GELU"}


class MicroFamily:
    """A bundled model with the bundled weights, or with random ones.

    Args:
        model: the scenario's `model`; its `pretrained` is `bundled` or `none`.
        seed: the scenario's seed; used by `pretrained: none` only.
    """

    def __init__(self, model: Model, seed: int) -> None:
        self.name = model.name
        self._of = model, seed
        config = _read(f"{model.name}.json")
        self.image_size = int(config["vision_cfg"]["image_size"])
        self.dim = int(config["embed_dim"])
        self.preprocessing = _preprocessing.of_model(model)
        self.resize = Resize(
            self.image_size, self.preprocessing.resize_mode, self.preprocessing.interpolation
        )

    @property
    def activation(self) -> str:
        """What the image encoder has between its layers, in words."""
        return _ACTIVATION[self.name]

    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating state-dict entry of the encoder, in order."""
        return {name: tuple(shape) for name, shape in _read("entries.json")[self.name].items()}

    def require_text(self) -> None:
        """The text tower comes with the weights."""

    @cached_property
    def _whole(self) -> OpenClipFamily:
        from neulig_fl.models.families.open_clip import OpenClipFamily

        return OpenClipFamily(*self._of)

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the bundled weights, or the seed that gives random ones."""
        return self._whole.weights_hash

    def encoder(self) -> nn.Module:
        """The encoder at theta_0: float32, eval mode, no gradients; a copy of its own."""
        return self._whole.encoder()

    def fresh_encoder(self, seed: int) -> nn.Module:
        """An encoder as OpenCLIP initialises it, from a seed."""
        return self._whole.fresh_encoder(seed)

    def fitted(self, path: Path, what: str, prefix: str | None = None) -> dict[str, Tensor]:
        """A checkpoint of the user's own as the encoder's state dict; see `Family.fitted`."""
        return self._whole.fitted(path, what, prefix)

    def encoder_in(self, path: Path, prefix: str | None) -> tuple[Checkpoint, str]:
        """What a checkpoint of the user's own holds, and under which prefix its encoder stands."""
        return self._whole.encoder_in(path, prefix)

    def tokens(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """What the text tower reads of each prompt, cut to its context length."""
        return self._whole.tokens(prompts)

    def head(self, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Text features times the logit scale, float32 of shape (classes, dim)."""
        return self._whole.head(class_names, templates)

    def normalise(self, images: NDArray[Any]) -> Tensor:
        """uint8 images (n, 3, size, size) scaled to [0, 1], then by the model's mean and std."""
        return self._whole.normalise(images)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return found


def knows(name: str) -> bool:
    """Whether it is one of the bundled models."""
    return name in MICRO_MODELS


def names() -> list[str]:
    """The bundled models."""
    return sorted(MICRO_MODELS)


def weights(name: str) -> list[str]:  # noqa: ARG001
    """Both come with weights."""
    return ["bundled"]


def open_family(model: Model, seed: int) -> Family:
    """The family of a scenario's model."""
    if model.pretrained in PRETRAINED_WORDS:
        return MicroFamily(model, seed)
    from neulig_fl.models.families import open_clip

    return open_clip.open_family(model, seed)
