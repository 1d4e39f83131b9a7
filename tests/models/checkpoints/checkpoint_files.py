"""Files as people have them, made from one tiny CLIP: what the tests of checkpoints share."""

from __future__ import annotations

import json
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from open_clip.transform import image_transform
from safetensors.torch import save_file
from torch import Tensor, nn

from neulig_fl.models.families import open_clip

State = dict[str, Tensor]


def clip(seed: int = 9, name: str = "tiny-vit") -> Any:
    """A whole tiny CLIP."""
    return open_clip.create(name, seed).eval()


@contextmanager
def image_encoder(seed: int = 9, name: str = "tiny-vit") -> Iterator[nn.Module]:
    """A model as task_vectors saves it: its class lies in a module that is then gone again.

    It holds CLIP without the text transformer, its preprocessing, and a path.
    """
    module = ModuleType("src.modeling")

    class ImageEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = clip(seed, name)
            self.train_preprocess = image_transform(32, is_train=True)
            self.val_preprocess = image_transform(32, is_train=False)
            self.cache_dir = Path("cache")
            del self.model.transformer

    ImageEncoder.__module__, ImageEncoder.__qualname__ = "src.modeling", "ImageEncoder"
    module.ImageEncoder = ImageEncoder  # type: ignore[attr-defined]
    sys.modules.update({"src": ModuleType("src"), "src.modeling": module})
    try:
        yield ImageEncoder()
    finally:
        del sys.modules["src"], sys.modules["src.modeling"]


def hugging_face(model: Any, *, prefix: str = "vision_model.") -> State:
    """The image encoder of an OpenCLIP model under Hugging Face's names, its matrices apart."""
    state = {}
    for name, value in model.visual.state_dict().items():
        if name == "proj":
            state["visual_projection.weight"] = value.T.contiguous()
        else:
            state |= {f"{prefix}{k}": v for k, v in _theirs(name, value, _VISUAL)}
    return state


def hugging_face_text(model: Any) -> State:
    """The rest of a CLIP under Hugging Face's names."""
    state = {}
    for name, value in model.state_dict().items():
        if name == "text_projection":
            state["text_projection.weight"] = value.T.contiguous()
        elif name == "logit_scale":
            state[name] = value
        elif not name.startswith("visual."):
            state |= {f"text_model.{k}": v for k, v in _theirs(name, value, _TEXT)}
    return state


_VISUAL = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_BLOCK = (
    ("transformer.resblocks.", "encoder.layers."),
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)


def _theirs(name: str, value: Tensor, names: dict[str, str]) -> Iterator[tuple[str, Tensor]]:
    if name in names:
        yield names[name], value.clone()
        return
    for ours, theirs in _BLOCK:
        name = name.replace(ours, theirs)
    if "in_proj_" in name:
        for letter, part in zip("qkv", value.chunk(3), strict=True):
            yield name.replace("attn.in_proj_", f"self_attn.{letter}_proj."), part.clone()
    else:
        yield name, value.clone()


def hugging_face_folder(folder: Path, model: Any, **config: Any) -> Path:
    """A folder as `CLIPVisionModelWithProjection.save_pretrained` writes it."""
    folder.mkdir(parents=True)
    save_file(hugging_face(model), folder / "model.safetensors")
    said = {"model_type": "clip_vision_model", "hidden_act": "gelu", "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps(said | config))
    return folder


def open_ai(path: Path, model: Any) -> Path:
    """A TorchScript archive of a whole CLIP with OpenAI's three sizes, in half precision."""
    for name, value in (("input_resolution", 32), ("context_length", 32), ("vocab_size", 49408)):
        model.__dict__.pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript's age
        script = torch.jit.trace(model.half(), _inputs(), strict=False, check_trace=False)
        torch.jit.save(script, path)
    return path


def _inputs() -> tuple[Tensor, Tensor]:
    return torch.zeros(1, 3, 32, 32, dtype=torch.float16), torch.zeros(1, 32, dtype=torch.int64)


def _saved(held: Any, path: Path) -> None:
    torch.save(held, path)


def _saved_old(held: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without a source file
        torch.save(held, path, _use_new_zipfile_serialization=False)


def _pickled(protocol: int) -> Callable[[Any, Path], None]:
    def write(held: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(held, protocol=protocol))

    return write


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "torch.save": _saved,
    "torch.save before 1.6": _saved_old,
    "pickle protocol 2": _pickled(2),
    "pickle protocol 3": _pickled(3),
    "pickle protocol 4": _pickled(4),
    "pickle protocol 5": _pickled(5),
}
"""Every way in which Python's pickle comes to hold a model."""


class Attack:
    """Makes a file when it is unpickled, in a way of one's choice."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> Any:
        return self.parts

    def __call__(self) -> None:
        """To be itself what another attack calls."""


def would_run(data: bytes, witness: Path) -> bool:
    """Whether Python's own unpickler would have made the file; the file is removed again."""
    pickle.loads(data)
    there = witness.exists()
    witness.unlink(missing_ok=True)
    return there


def touch(witness: Path) -> str:
    """A shell command that makes the file."""
    return f"touch {os.fspath(witness)}"
