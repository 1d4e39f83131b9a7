"""OpenCLIP models: every name that OpenCLIP knows, and the two bundled micro models.

`pretrained` is a tag that OpenCLIP can download, a checkpoint of a whole CLIP (`checkpoints` reads
it, whatever its format), `bundled` (the micro models' own weights) or `none` (random weights from
the scenario's seed). The text tower is frozen and only builds heads.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neulig_fl.config.schema import MICRO_MODELS, Model, is_path
from neulig_fl.core import cache_folder
from neulig_fl.core.downloads import download
from neulig_fl.core.errors import CheckpointError, InputError, nearest, plain
from neulig_fl.core.files import replace_atomically
from neulig_fl.core.randomness import derived_seed
from neulig_fl.core.resizing import Resize
from neulig_fl.models import checkpoints
from neulig_fl.models.checkpoints.fitting import chosen
from neulig_fl.models.families import _preprocessing, _published, _text, _weights
from neulig_fl.models.families._bundled import FOLDER
from neulig_fl.models.families._hub import quiet, reason
from neulig_fl.models.families._lookalikes import Lookalikes as Lookalikes
from neulig_fl.models.families._lookalikes import find, visual_tower
from neulig_fl.models.families._lookalikes import quick_gelu as quick_gelu
from neulig_fl.models.families._preprocessing import normaliser as normaliser


@cache
def _register() -> None:
    """Tell OpenCLIP of the micro models' configurations."""
    open_clip.add_model_config(FOLDER)


def model_names() -> list[str]:
    """Every model that OpenCLIP has, and the bundled ones."""
    _register()
    return sorted(open_clip.list_models())


def names() -> list[str]:
    """OpenCLIP's own models."""
    return [name for name in model_names() if name not in MICRO_MODELS]


def weights(name: str) -> list[str]:
    """OpenCLIP's tags of a model's weights."""
    return [str(tag) for tag in open_clip.list_pretrained_tags_by_model(name)]


def lookalikes(entries: Mapping[str, checkpoints.StoredTensor]) -> Lookalikes:
    """The models whose image encoder has a checkpoint's names and shapes, and where it stands."""
    _register()
    return find(entries)


def knows(name: str) -> bool:
    """Whether OpenCLIP, or this package, has a configuration of that name."""
    return name in MICRO_MODELS or name in model_names()


def _config(name: str) -> dict[str, Any]:
    _register()
    config = open_clip.get_model_config(name)
    if config is None:
        raise CheckpointError(f"OpenCLIP has no model {name!r}; {nearest(name, model_names())}")
    return dict(config)


def create(name: str, seed: int, text_files: Path | None = None) -> Any:
    """A whole OpenCLIP model with random weights that depend on the seed alone.

    Args:
        name: the model's.
        seed: of its weights.
        text_files: folder of a text tower's config.json, where it is Hugging Face's.
    """
    _config(name)
    own = _text.own_config(name, text_files)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        return open_clip.create_model(name, pretrained=None, load_weights=False, **own)


class OpenClipFamily:
    """One OpenCLIP model with one set of weights.

    Args:
        model: the scenario's `model`.
        seed: the scenario's seed; used by `pretrained: none` only.
    """

    def __init__(self, model: Model, seed: int) -> None:
        self.name = model.name
        self.pretrained = model.pretrained
        self._prefix = model.prefix
        self._given_text_files = model.text_files
        self._seed = derived_seed(seed, "initial-weights", model.name)
        config = _config(model.name)
        self.image_size = _square_size(model.name, config["vision_cfg"].get("image_size", 224))
        self.dim = int(config["embed_dim"])
        self.preprocessing = _preprocessing.of_model(model)
        self.resize = Resize(
            self.image_size, self.preprocessing.resize_mode, self.preprocessing.interpolation
        )
        self._normalise = _preprocessing.normaliser(self.preprocessing)
        _require_activation(model)

    @cached_property
    def _meta_model(self) -> Any:
        with torch.device("meta"), quiet():
            return open_clip.create_model(
                self.name,
                pretrained=None,
                load_weights=False,
                device="meta",
                **_text.own_config(self.name, self._text_files),
            )

    @cached_property
    def _meta_visual(self) -> nn.Module:
        """The image encoder without memory; nothing of the text tower is needed."""
        config = _config(self.name)
        said = {k: config[k] for k in ("embed_dim", "vision_cfg")}
        visual = visual_tower(said, quick_gelu=quick_gelu(self.name))
        if visual is None:
            raise CheckpointError(
                f"this version of timm has no image encoder for model {self.name}; take another "
                "one (`neulig-fl models --all`)",
                public_reason="the model's image encoder cannot be built",
            )
        return _features_alone(visual)

    @property
    def _text_files(self) -> Path | None:
        own = self._file if self.pretrained != "bundled" else None
        return _text.folder_of(own, self._given_text_files)

    @property
    def _file(self) -> Path | None:
        if self.pretrained == "bundled":
            return FOLDER / f"{self.name}.safetensors"
        path = Path(self.pretrained)
        return path if is_path(self.pretrained) and path.exists() else None

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the checkpoint, or the tag or seed that gives the weights."""
        if self._file is not None:
            return checkpoints.identity(self._file, self._prefix)
        origin = f"seed:{self._seed}" if self.pretrained == "none" else f"tag:{self.pretrained}"
        return f"{self.name}:{origin}"

    @cached_property
    def _model(self) -> Any:
        if self.pretrained == "none":
            model = create(self.name, self._seed, self._text_files)
        elif self._file is not None:
            model = create(self.name, 0, self._text_files)
            model.load_state_dict(self._whole(self._file))
        else:
            model = self._download()
        _features_alone(model.visual)
        return model.float().eval().requires_grad_(False)

    def fitted(self, path: Path, what: str, prefix: str | None = None) -> dict[str, Tensor]:
        """A checkpoint of the user's own as the encoder's state dict.

        Args:
            path: a file or folder, as `checkpoints.read` takes it.
            what: whose it is, for errors.
            prefix: which of several encoders is meant.

        Returns:
            Every entry of the encoder's state dict, in the encoder's dtypes.

        Raises:
            CheckpointError: it cannot be read or is not this model's encoder.
        """
        held = checkpoints.read(path)
        state = _weights.fit(held, self._meta_visual, self.name, what, prefix)
        _require_activation_of(self.name, _published.named(path, self.name), what)
        claims = _preprocessing.of_file(path, self.name, held, self.preprocessing.own)
        _preprocessing.require_alike(self.preprocessing, claims, self.name, what)
        return state

    def encoder_in(self, path: Path, prefix: str | None) -> tuple[checkpoints.Checkpoint, str]:
        """What a checkpoint of the user's own holds, and under which prefix its encoder stands.

        Raises:
            CheckpointError: as `fitted`.
        """
        held, shapes = checkpoints.read(path), _weights.shapes(self._meta_visual)
        return held, chosen(held.entries, shapes, f"checkpoint {plain(path.name)}", prefix)[0]

    @property
    def activation(self) -> str:
        """What the image encoder has between its layers, in words."""
        names = {"quick_gelu": "QuickGELU", "gelu": "GELU", None: "another activation than GELU"}
        return names[_weights.activation(self._meta_visual)]

    def _whole(self, path: Path) -> dict[str, Tensor]:
        """A checkpoint as the state dict of both towers."""
        held, what = checkpoints.read(path), f"checkpoint {plain(path.name)} of model {self.name}"
        own = _weights.clip_in(held, self._meta_model, what, self._prefix)
        return _weights.fit(own, self._meta_model, self.name, what)

    def _download(self) -> Any:
        tags = open_clip.list_pretrained_tags_by_model(self.name)
        if self.pretrained not in tags:
            raise CheckpointError(
                f"model {self.name} has no weights {self.pretrained!r}; "
                f"{nearest(self.pretrained, [*tags, 'none'])}; or give the path of a checkpoint"
            )
        try:
            with quiet(), download():
                return open_clip.create_model(self.name, pretrained=self.pretrained)
        except Exception as error:
            raise CheckpointError(
                f"weights {self.pretrained!r} of {self.name} cannot be fetched: "
                f"{reason(error)}; fetch them where there is a network, call the file "
                f"{self.pretrained}.safetensors (its name says how images are prepared) and give "
                "its path as `pretrained`",
                public_reason=f"weights {self.pretrained!r} of {self.name} cannot be fetched; "
                f"fetch {self.pretrained}.safetensors where there is a network, and give its path "
                "as model.pretrained",
            ) from error

    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating state-dict entry of the encoder, in order."""
        state = self._meta_visual.state_dict()
        return {k: tuple(v.shape) for k, v in state.items() if v.is_floating_point()}

    def encoder(self) -> nn.Module:
        """The encoder at theta_0: float32, eval mode, no gradients; a copy of its own."""
        encoder: nn.Module = copy.deepcopy(self._model.visual)
        return encoder.eval().requires_grad_(False)

    def fresh_encoder(self, seed: int) -> nn.Module:
        """An encoder as OpenCLIP initialises it, from a seed."""
        encoder: nn.Module = create(self.name, seed, self._text_files).visual
        return _features_alone(encoder).float().eval().requires_grad_(False)

    def head(self, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Mean text feature of a class over its prompts, unit length, times exp(logit scale).

        Returns:
            float32 of shape (classes, dim); kept in the cache folder.
        """
        prompts = [t.format(c) for c in class_names for t in templates]
        text = "\x1f".join((self.weights_hash, str(len(templates)), *prompts))
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        path = cache_folder.cache_dir() / "heads" / f"{key}.safetensors"
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

    def tokens(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """What the text tower reads of each prompt, cut to its context length."""
        return [tuple(row) for row in self._tokenise(prompts).tolist()]

    def _tokenise(self, prompts: Sequence[str]) -> Tensor:
        return self._tokeniser(list(prompts))  # type: ignore[no-any-return]

    @cached_property
    def _tokeniser(self) -> Any:
        return tokeniser(self.name, self._text_files)

    def require_text(self) -> None:
        """What heads are made with is there; its weights are not loaded.

        Raises:
            CheckpointError: a package or a file of the text tower is not.
        """
        _text.own_config(self.name, self._text_files)
        _ = self._tokeniser

    def normalise(self, images: NDArray[np.uint8]) -> Tensor:
        """uint8 images (n, 3, size, size) scaled to [0, 1], then by the model's mean and std."""
        return self._normalise(images)


def _square_size(name: str, size: Any) -> int:
    sides = [size] if isinstance(size, int) else list(size)
    if len(set(sides)) != 1:
        raise CheckpointError(
            f"model {name} sees images of {' x '.join(map(str, sides))}, and only square ones are "
            "supported; take another model",
            public_reason="the model's images are not square",
        )
    return int(sides[0])


def _require_activation(model: Model) -> None:
    """OpenCLIP takes the activation from the model's name, and would only warn.

    Raises:
        CheckpointError: the tag's weights, or those that a file is called after, have another.
    """
    if is_path(model.pretrained):
        found = _published.named(Path(model.pretrained), model.name)
    else:
        found = [w for w in _published.of(model.name) if w.tag == model.pretrained]
    _require_activation_of(model.name, found, f"model {model.name}")


def _require_activation_of(name: str, found: Sequence[_published.Weights], what: str) -> None:
    """Published weights, or what was fine-tuned from them, need the activation of their training.

    Raises:
        CheckpointError: it is not the model's, and there is a model that has it.
    """
    twin = _published.twin(name)
    wrong = [w.tag for w in found if w.quick_gelu != quick_gelu(name)]
    if found and len(wrong) == len(found) and twin in model_names():
        has, own = ("QuickGELU", "GELU") if not quick_gelu(name) else ("GELU", "QuickGELU")
        raise CheckpointError(
            f"{what}: the weights {wrong[0]!r} were trained with {has}, and {name} has {own}; "
            f"write model.name: {twin}",
            public_reason="the model's weights were trained with another activation",
        )


def _features_alone(visual: nn.Module) -> nn.Module:
    """CoCa's image encoder gives its tokens as well, for captions; they are left out."""
    if getattr(visual, "output_tokens", False):
        setattr(visual, "output_tokens", False)  # noqa: B010 (a plain value, not a module)
    return visual


@cache
def tokeniser(name: str, text_files: Path | None = None) -> Any:
    """OpenCLIP's tokeniser; the micro models read bytes, so their vocabulary is 514 entries."""
    _register()
    if _text.repository(name) is not None:
        return _text.tokeniser(name, text_files)
    if name in MICRO_MODELS:
        return open_clip.get_tokenizer(name, bpe_path=str(FOLDER / "byte-tokens.txt.gz"))
    return open_clip.get_tokenizer(name)


def open_family(model: Model, seed: int) -> OpenClipFamily:
    """The family of a scenario's model."""
    _text.require_package(model.name)
    return OpenClipFamily(model, seed)


def encoder_alone(name: str) -> OpenClipFamily:
    """A model of which only the image encoder is asked about; its text tower needs not be there.

    Raises:
        InputError: there is no such model.
    """
    if not knows(name):
        raise InputError(f"no model family knows {name!r}; see `neulig-fl models`")
    return OpenClipFamily(Model(name=name, pretrained="none"), 0)
