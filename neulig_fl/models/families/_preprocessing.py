"""How images are prepared for a model's weights, and who says so.

Shapes cannot tell it, and with another mean every feature is a little wrong. OpenCLIP keeps it with
its tags; weights given as a file have none. So all that says something is asked, key by key: the
scenario, the file's name, the config beside it, OpenCLIP's tags of the model where they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from neulig_fl.config.schema import Preprocess, is_path
from neulig_fl.core.errors import CheckpointError, plain
from neulig_fl.core.lazy import torch
from neulig_fl.models import checkpoints
from neulig_fl.models.checkpoints import Checkpoint, configs
from neulig_fl.models.checkpoints.contents import MISFIT
from neulig_fl.models.families import _published

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from neulig_fl.config.schema import Model

KEYS = configs.KEYS
OPENAI = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
"""OpenCLIP's own choice where nothing else is said; its names are `OPENAI_DATASET_MEAN`, `_STD`."""

Normalise = Callable[["NDArray[np.uint8]"], "Tensor"]


@dataclass(frozen=True)
class Claim:
    """What one source says of how images are prepared.

    Args:
        source: who says it, in words.
        values: by OpenCLIP's keys; those that it is silent about are left out.
        meant: False where it may be about other weights; then it decides nothing, and what it says
            otherwise is an error.
    """

    source: str
    values: Mapping[str, Any]
    meant: bool = True


@dataclass(frozen=True)
class Preprocessing:
    """How images are prepared: value = (pixel / 255 - mean) / std, per channel, after resizing.

    Args:
        mean: of red, green, blue.
        std: of red, green, blue.
        interpolation: between pixels where an image is resized.
        resize_mode: as `Resize.mode`.
        sources: who says so; the scenario first.
        unknown: keys of which OpenCLIP's tags for the model say different things, and nobody else
            anything; their values are OpenCLIP's own.
        own: keys that the scenario says.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    sources: tuple[str, ...] = field(default=(), compare=False)
    unknown: tuple[str, ...] = field(default=(), compare=False)
    own: tuple[str, ...] = field(default=(), compare=False)

    @property
    def words(self) -> str:
        """As it is written in a scenario."""
        return as_yaml({name: getattr(self, name) for name in KEYS})

    @property
    def key(self) -> str:
        """Tells experts apart that saw other inputs; empty for OpenCLIP's own choice."""
        values = {name: getattr(self, name) for name in KEYS}
        return "" if _same(values, OPENAI, KEYS) else self.words


def of_model(model: Model) -> Preprocessing:
    """How images are prepared for a scenario's model.

    Raises:
        CheckpointError: a file says what cannot be, two sources say different things, or weights
            given as a file have no source that says it.
    """
    own = Claim("model.preprocess", model.preprocess.model_dump(exclude_none=True))
    if not is_path(model.pretrained):
        tags = _published.of(model.name)
        return _chosen(model.name, own, [_tagged(w) for w in tags if w.tag == model.pretrained])
    path = Path(model.pretrained)
    claims = of_file(path, model.name, own=own.values)
    chosen = _chosen(model.name, own, claims)
    if chosen.unknown and path.exists():
        claims = of_file(path, model.name, checkpoints.read(path), own.values)
        chosen = _chosen(model.name, own, claims)
    if chosen.unknown:
        doubtful = [f" ({c.source}, says {as_yaml(c.values)})" for c in claims if not c.meant]
        what = f"the weights {plain(path.name)}{''.join(doubtful)}"
        raise unsettled(model.name, what, chosen.unknown)
    return chosen


def of_file(
    path: Path, name: str, held: Checkpoint | None = None, own: Collection[str] = ()
) -> list[Claim]:
    """What a checkpoint's name, its format and the files beside it say.

    Args:
        path: the file or folder, as the user gave it.
        name: the model's.
        held: what was read of it; OpenAI's own format says OpenAI's mean.
        own: keys that the scenario says; what cannot be there in a file is left out.

    Raises:
        CheckpointError: a file beside it cannot be read or says what cannot be.
    """
    beside = [] if set(own) >= set(KEYS) else configs.preprocessing(path)
    claims = [Claim(s.source, _valid(s, path, own), s.meant) for s in beside]
    claims += [_tagged(weights) for weights in _published.named(path, name)]
    if held is not None and held.naming == "OpenAI's CLIP":
        claims.append(Claim("OpenAI's format", OPENAI))
    return claims


def require_alike(chosen: Preprocessing, claims: Sequence[Claim], name: str, what: str) -> None:
    """A client's checkpoint saw images as the scenario's model does.

    Raises:
        CheckpointError: what is known of the checkpoint says otherwise, or nobody says anything.
    """
    for claim in claims:
        known = {key: getattr(chosen, key) for key in KEYS}
        keys = [key for key in claim.values if claim.meant or key not in chosen.own]
        if not _same(claim.values, known, keys):
            raise CheckpointError(
                f"{what} was trained on images of {as_yaml(claim.values)} ({claim.source}), and "
                f"{name} gets {as_yaml(known)} ({', '.join(chosen.sources)}); if the checkpoint is "
                f"right, write model.preprocess: {{{as_yaml(claim.values)}}}"
                + ("" if claim.meant else f", else {{{as_yaml(known)}}}"),
                public_reason=MISFIT,
            )
    meant = [claim for claim in claims if claim.meant]
    unknown = [key for key in chosen.unknown if not any(key in c.values for c in meant)]
    if unknown:
        raise unsettled(name, what, unknown)


def unsettled(name: str, what: str, keys: Sequence[str]) -> CheckpointError:
    """The error about weights of which nobody says how images are prepared for them."""
    groups: dict[str, list[str]] = {}
    for weights in _published.of(name):
        values = {key: weights.config[key] for key in keys}
        groups.setdefault(as_yaml(values), []).append(weights.tag)
    choices = "; ".join(f"{words} as {', '.join(tags)}" for words, tags in groups.items())
    return CheckpointError(
        f"{what}: nothing says which {' and '.join(keys)} they were trained with, and OpenCLIP's "
        f"weights of {name} differ: {choices}; write model.preprocess: "
        f"{{{next(iter(groups), '')}}} or the other, name the file after the tag, or put the "
        f"{configs.OPEN_CLIP} of the weights beside it",
        public_reason="nothing says how images are prepared for the model's weights",
    )


def as_yaml(values: Mapping[str, Any]) -> str:
    """Preprocessing as it is written in a scenario.

    Example:
        >>> as_yaml({"mean": (0.5, 0.5, 0.5), "interpolation": "bicubic"})
        'mean: [0.5, 0.5, 0.5], interpolation: bicubic'
    """
    return ", ".join(
        f"{key}: {value if isinstance(value, str) else [float(f'{v:.6g}') for v in value]}"
        for key, value in values.items()
    )


def normaliser(chosen: Preprocessing | None = None) -> Normalise:
    """A function from uint8 images (n, 3, size, size) to a model's float32 input.

    Args:
        chosen: whose mean and standard deviation; OpenCLIP's own if not given.
    """
    mean, std = (chosen.mean, chosen.std) if chosen else (OPENAI["mean"], OPENAI["std"])
    import numpy as np  # slow to import

    middle = torch.tensor(mean).view(1, 3, 1, 1)
    spread = torch.tensor(std).view(1, 3, 1, 1)

    def normalise(images: NDArray[np.uint8]) -> Tensor:
        scaled = torch.from_numpy(np.require(images, requirements=["C", "W"])).float().div_(255.0)
        return scaled.sub_(middle).div_(spread)

    return normalise


def _tagged(weights: _published.Weights) -> Claim:
    values = {key: weights.config[key] for key in KEYS}
    return Claim(f"OpenCLIP's weights {weights.tag}", values)


def _chosen(name: str, own: Claim, claims: Sequence[Claim]) -> Preprocessing:
    """Key by key: the scenario, else the claims, else the model's tags, else OpenCLIP's own."""
    found: dict[str, Any] = {}
    sources: dict[str, None] = {}
    unknown: list[str] = []
    tags = [_tagged(weights) for weights in _published.of(name)]
    for key in KEYS:
        every = [c for c in ((own,) if key in own.values else claims) if key in c.values]
        said = [claim for claim in every if claim.meant]
        if not _agree(said, key):
            raise _contradiction(name, key, said)
        unknown += [] if said or _agree(tags, key) else [key]
        if said:
            claim = said[0]
        elif tags and key not in unknown:
            claim = Claim(f"as all of OpenCLIP's weights of {name}", tags[0].values)
        else:
            claim = Claim("OpenCLIP's own choice", OPENAI)
        if key not in unknown and not _agree([claim, *every], key):
            raise _contradiction(name, key, [claim, *(c for c in every if not c.meant)])
        sources[claim.source] = None
        value = claim.values[key]
        found[key] = value if isinstance(value, str) else tuple(value)
    return Preprocessing(
        **found, sources=tuple(sources), unknown=tuple(unknown), own=tuple(own.values)
    )


def _agree(claims: Sequence[Claim], key: str) -> bool:
    return all(_same(claims[0].values, claim.values, (key,)) for claim in claims)


def _contradiction(name: str, key: str, said: Sequence[Claim]) -> CheckpointError:
    words = "; ".join(f"{as_yaml({key: c.values[key]})} ({c.source})" for c in said)
    return CheckpointError(
        f"the weights of model {name}: {key} is said in different ways: {words}; write what is "
        f"right as model.preprocess: {{{as_yaml({key: said[0].values[key]})}}}",
        public_reason="how images are prepared for the model's weights is said in different ways",
    )


def _same(one: Mapping[str, Any], other: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Whether two say the same, numbers within 1e-4: configs round differently."""
    return all(_alike(one[key], other[key]) for key in keys)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    return len(one) == len(other) and all(
        abs(float(a) - float(b)) <= 1e-4 for a, b in zip(one, other, strict=True)
    )


def _valid(said: configs.Said, path: Path, own: Collection[str]) -> dict[str, Any]:
    """What a config says, as a scenario could say it, without what the scenario says in its place.

    Raises:
        CheckpointError: a mean of two numbers, an unknown interpolation, and the like.
    """
    try:
        return Preprocess.model_validate(dict(said.values)).model_dump(exclude_none=True)
    except ValidationError as error:
        faults = error.errors()
    bad = {str(fault["loc"][0]) for fault in faults}
    if not said.meant or bad <= set(own):
        left = {key: value for key, value in said.values.items() if key not in bad}
        return Preprocess.model_validate(left).model_dump(exclude_none=True)
    first = next(fault for fault in faults if fault["loc"][0] not in own)
    place, key = ".".join(map(str, first["loc"])), str(first["loc"][0])
    raise CheckpointError(
        f"checkpoint {plain(path)}: its {said.source} says {place}: {first['input']!r}: "
        f"{first['msg']}; mend it, or write what is right in its place, such as model.preprocess: "
        f"{{{as_yaml({key: OPENAI[key]})}}} (OpenCLIP's own choice)",
        public_reason="a config beside its checkpoint cannot be used",
    )
