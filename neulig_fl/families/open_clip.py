"""OpenCLIP models: every name that OpenCLIP knows, and the two bundled micro models.

`pretrained` is a tag that OpenCLIP can download, a local checkpoint (safetensors, or a torch file
read with `weights_only`), `bundled` (the micro models' own weights) or `none` (random weights from
the scenario's seed). The text tower is frozen and only builds heads.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neulig_fl import source_cache
from neulig_fl.errors import CheckpointError, nearest
from neulig_fl.files import replace_atomically
from neulig_fl.randomness import derived_seed

if TYPE_CHECKING:
    from neulig_fl.scenario import Model

MICRO_DIR = Path(__file__).parent / "micro"
MICRO_MODELS = ("micro-rn", "micro-vit")


@cache
def _register() -> None:
    """Tell OpenCLIP of the micro models' configurations."""
    open_clip.add_model_config(MICRO_DIR)


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCLIP reports random weights as a warning on the root logger; here they are meant."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def model_names() -> list[str]:
    """Every model name that can stand in a scenario."""
    _register()
    return sorted(open_clip.list_models())


def knows(name: str) -> bool:
    """Whether OpenCLIP, or this package, has a configuration of that name."""
    return name in MICRO_MODELS or name in model_names()


def _config(name: str) -> dict[str, Any]:
    _register()
    config = open_clip.get_model_config(name)
    if config is None:
        raise CheckpointError(f"OpenCLIP has no model {name!r}; {nearest(name, model_names())}")
    return dict(config)


def create(name: str, seed: int) -> Any:
    """A whole OpenCLIP model with random weights that depend on the seed alone."""
    _config(name)
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        return open_clip.create_model(name, pretrained=None, load_weights=False)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, without running anything that it holds.

    Args:
        path: a safetensors file, or a file of `torch.save` (read with `weights_only=True`).

    Raises:
        CheckpointError: missing, unreadable, or not a flat mapping of names to tensors.
    """
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {path}: no such file", public_reason="its checkpoint file is missing"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises anything
        raise CheckpointError(
            f"checkpoint {path}: cannot be read ({type(error).__name__}); "
            "allowed: safetensors, or a torch file that holds tensors only",
            public_reason="its checkpoint file cannot be read",
        ) from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(torch.is_tensor(v) for v in loaded.values()):
        raise CheckpointError(
            f"checkpoint {path}: holds {type(loaded).__name__}, not names and tensors; "
            "save model.state_dict()",
            public_reason="its checkpoint file is not a state dict",
        )
    return {str(k).removeprefix("module."): v for k, v in loaded.items()}


def fit(state: Mapping[str, Tensor], into: nn.Module, what: str) -> dict[str, Tensor]:
    """A state dict checked against a module and cast to the module's dtypes.

    Raises:
        CheckpointError: missing, extra or misshapen entries, each kind with its first names.
    """
    wanted = into.state_dict()
    missing = [k for k in wanted if k not in state]
    extra = [k for k in state if k not in wanted]
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(wanted[k].shape)}"
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    problems = [
        f"{label}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for label, names in (("missing", missing), ("extra", extra), ("wrong shape", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{what} does not fit the model; {'; '.join(problems)}; check the model's name",
            public_reason="its checkpoint does not fit the scenario's model",
        )
    cast = {k: state[k].to(wanted[k].dtype) for k in wanted}
    bad = [k for k, v in cast.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if bad:
        raise CheckpointError(
            f"{what} holds values that are not finite: {', '.join(bad[:3])}",
            public_reason="its checkpoint holds values that are not finite",
        )
    return cast


class OpenClipFamily:
    """One OpenCLIP model with one set of weights.

    Args:
        model: the scenario's `model`.
        seed: the scenario's seed; used by `pretrained: none` only.
    """

    def __init__(self, model: Model, seed: int) -> None:
        self.name = model.name
        self.pretrained = model.pretrained
        self._seed = derived_seed(seed, "initial-weights", model.name)
        config = _config(model.name)
        size = config["vision_cfg"].get("image_size", 224)
        self.image_size = int(size if isinstance(size, int) else size[0])
        self.dim = int(config["embed_dim"])
        self._normalise = normaliser(model.name, model.pretrained)

    @cached_property
    def _meta_model(self) -> Any:
        with torch.device("meta"), _quiet():
            return open_clip.create_model(
                self.name, pretrained=None, load_weights=False, device="meta"
            )

    @property
    def _file(self) -> Path | None:
        if self.pretrained == "bundled":
            return MICRO_DIR / f"{self.name}.safetensors"
        path = Path(self.pretrained)
        return path if path.is_file() and (path.suffix or path.is_absolute()) else None

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the checkpoint file, or the tag or seed that gives the weights."""
        if self._file is not None:
            return hashlib.sha256(self._file.read_bytes()).hexdigest()
        origin = f"seed:{self._seed}" if self.pretrained == "none" else f"tag:{self.pretrained}"
        return f"{self.name}:{origin}"

    @cached_property
    def _model(self) -> Any:
        if self.pretrained == "none":
            model = create(self.name, self._seed)
        elif self._file is not None:
            model = create(self.name, 0)
            what = f"checkpoint {self._file.name} of model {self.name}"
            model.load_state_dict(fit(read_state_dict(self._file), model, what))
        else:
            model = self._download()
        return model.float().eval().requires_grad_(False)

    def _download(self) -> Any:
        tags = open_clip.list_pretrained_tags_by_model(self.name)
        if self.pretrained not in tags:
            raise CheckpointError(
                f"model {self.name} has no weights {self.pretrained!r}; "
                f"{nearest(self.pretrained, [*tags, 'none'])}; or give the path of a checkpoint"
            )
        try:
            return open_clip.create_model(self.name, pretrained=self.pretrained)
        except Exception as error:
            raise CheckpointError(
                f"weights {self.pretrained!r} of {self.name} cannot be fetched "
                f"({type(error).__name__}); fetch them where there is a network and give the "
                "file's path as `pretrained`",
                public_reason="the model's weights cannot be fetched",
            ) from error

    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating state-dict entry of the encoder, in order."""
        state = self._meta_model.visual.state_dict()
        return {k: tuple(v.shape) for k, v in state.items() if v.is_floating_point()}

    def encoder(self) -> nn.Module:
        """The encoder at theta_0: float32, eval mode, no gradients; a copy of its own."""
        # A copy, not a new module: a tag can change the activation that the name's config has.
        encoder: nn.Module = copy.deepcopy(self._model.visual)
        return encoder.eval().requires_grad_(False)

    def fresh_encoder(self, seed: int) -> nn.Module:
        """An encoder as OpenCLIP initialises it, from a seed."""
        encoder: nn.Module = create(self.name, seed).visual
        return encoder.float().eval().requires_grad_(False)

    def head(self, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Mean text feature of a class over its prompts, unit length, times exp(logit scale).

        Returns:
            float32 of shape (classes, dim); kept in the cache folder.
        """
        prompts = [t.format(c) for c in class_names for t in templates]
        text = "\x1f".join((self.weights_hash, str(len(templates)), *prompts))
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        path = source_cache.cache_dir() / "heads" / f"{key}.safetensors"
        try:
            return load_file(path)["head"]
        except (OSError, SafetensorError):
            head = self._build_head(prompts, len(templates))
        replace_atomically(path, lambda p: save_file({"head": head}, p))
        return head

    @torch.no_grad()
    def _build_head(self, prompts: Sequence[str], per_class: int) -> Tensor:
        features = [
            self._model.encode_text(self._tokenise(prompts[i : i + 64]), normalize=True)
            for i in range(0, len(prompts), 64)
        ]
        classes = torch.cat(features).view(-1, per_class, self.dim).mean(dim=1)
        scale = self._model.logit_scale.exp()
        head: Tensor = nn.functional.normalize(classes, dim=-1) * scale
        return head.contiguous()

    def _tokenise(self, prompts: Sequence[str]) -> Tensor:
        return tokeniser(self.name)(list(prompts))  # type: ignore[no-any-return]

    def normalise(self, images: NDArray[np.uint8]) -> Tensor:
        """uint8 images (n, 3, size, size) scaled to [0, 1], then by the model's mean and std."""
        return self._normalise(images)


def tokeniser(name: str) -> Any:
    """OpenCLIP's tokeniser; the micro models read bytes, so their vocabulary is 514 entries."""
    _register()
    if name in MICRO_MODELS:
        return open_clip.get_tokenizer(name, bpe_path=str(MICRO_DIR / "byte-tokens.txt.gz"))
    return open_clip.get_tokenizer(name)


def normaliser(name: str, pretrained: str = "none") -> Callable[[NDArray[np.uint8]], Tensor]:
    """A function from uint8 images (n, 3, size, size) to a model's float32 input.

    Args:
        name: the model's name.
        pretrained: a tag can bring a mean and a standard deviation of its own.
    """
    scheme = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        **open_clip.get_pretrained_cfg(name, pretrained),
    }
    mean = torch.tensor(scheme["mean"]).view(1, 3, 1, 1)
    std = torch.tensor(scheme["std"]).view(1, 3, 1, 1)

    def normalise(images: NDArray[np.uint8]) -> Tensor:
        scaled = torch.from_numpy(np.require(images, requirements=["C", "W"])).float().div_(255.0)
        return scaled.sub_(mean).div_(std)

    return normalise


def open_family(model: Model, seed: int) -> OpenClipFamily:
    """The family of a scenario's model."""
    return OpenClipFamily(model, seed)
