"""Model families: how an image encoder is built, loaded, fed and given a head.

`Family` is what the rest of neulig-fl knows of a model. Every file here is one family, found by
its file name, with

- `knows(name)`: whether it has a model of that name;
- `names()`: every model's;
- `weights(name)`: what `pretrained` can be for a model, beside `none` and a path;
- `open_family(model, seed)`: the `Family` of a scenario's model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from neulig_fl.core import variants
from neulig_fl.core.errors import InputError
from neulig_fl.core.lazy import torch
from neulig_fl.core.resizing import Resize

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from neulig_fl.config.scenario import Model
    from neulig_fl.models.checkpoints import Checkpoint
    from neulig_fl.models.families._preprocessing import Preprocessing


class Family(Protocol):
    """One encoder architecture with its checkpoint theta_0 and its frozen text tower."""

    name: str
    image_size: int
    dim: int
    preprocessing: Preprocessing
    resize: Resize

    @property
    def weights_hash(self) -> str:
        """Identifies theta_0 and the text tower, for cache keys and the report."""
        ...

    def require_text(self) -> None:
        """Raise `CheckpointError` where a package or file is missing that heads are made with."""
        ...

    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating state-dict entry of the encoder, in order; loads no weights."""
        ...

    def encoder(self) -> nn.Module:
        """The encoder at theta_0: float32, eval mode, no gradients."""
        ...

    def fresh_encoder(self, seed: int) -> nn.Module:
        """A freshly initialised encoder."""
        ...

    def fitted(self, path: Path, what: str, prefix: str | None = None) -> dict[str, Tensor]:
        """A checkpoint of the user's own as the encoder's state dict; `what` names it in errors.

        `prefix` says which encoder is meant where the file holds several.
        """
        ...

    def encoder_in(self, path: Path, prefix: str | None) -> tuple[Checkpoint, str]:
        """What a checkpoint of the user's own holds, and under which prefix its encoder stands."""
        ...

    @property
    def activation(self) -> str:
        """What the image encoder has between its layers, in words."""
        ...

    def tokens(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """What the text tower reads of each prompt: prompts of equal tokens have equal features."""
        ...

    def head(self, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Text features times the logit scale, float32 of shape (classes, dim)."""
        ...

    def normalise(self, images: NDArray) -> Tensor:  # type: ignore[type-arg]
        """uint8 images (n, 3, size, size) as the encoder's float32 input."""
        ...


def every() -> Iterator[ModuleType]:
    """The families, one after the other: OpenCLIP is loaded only where none before it will do."""
    yield from (variants.load(__name__, family) for family in variants.names(__name__))


def family_of(name: str) -> ModuleType | None:
    """The file of the family that knows a model; None where none does."""
    return next((module for module in every() if module.knows(name)), None)


def names() -> list[str]:
    """Every name that can stand in a scenario, sorted; loads OpenCLIP.

    Example:
        >>> {"micro-vit", "ViT-B-32"} <= set(names())
        True
    """
    return sorted(name for module in every() for name in module.names())


def open_family(model: Model, seed: int) -> Family:
    """The family that knows the scenario's model.

    Raises:
        InputError: no family knows the name.
    """
    module = family_of(model.name)
    if module is None:
        raise InputError(f"no model family knows {model.name!r}; see `neulig-fl models`")
    family: Family = module.open_family(model, seed)
    return family


def device() -> torch.device:
    """CUDA where this process sees a GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
