"""What OpenCLIP knows of the weights that it can fetch, and which of them a file's name means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.config.schema import MICRO_MODELS
from neulig_fl.core.lazy import open_clip

TWIN = "-quickgelu"
"""Models of the same shapes whose activation is QuickGELU end so."""


@dataclass(frozen=True)
class Weights:
    """Published weights.

    Args:
        model: the OpenCLIP model that they are for.
        tag: what OpenCLIP calls them.
        config: how images are prepared for them, their activation, and where they lie.
    """

    model: str
    tag: str
    config: Mapping[str, Any]

    @property
    def quick_gelu(self) -> bool:
        """Whether they were trained with QuickGELU."""
        return bool(self.config.get("quick_gelu", False))

    def names(self) -> Iterator[str]:
        """What files and folders of them are called: the tag, the repository, the download."""
        yield _words(self.tag)
        yield _words(str(self.config.get("hf_hub") or "").strip("/").rpartition("/")[2])
        download = str(self.config.get("url") or "").rpartition("/")[2]
        # OpenAI's files have the model's name alone, which says nothing of the weights.
        yield "" if self.tag == "openai" else _words(download.rpartition(".")[0])


def of(name: str) -> list[Weights]:
    """The weights that OpenCLIP has for a model's name; for the bundled models it has none."""
    if name in MICRO_MODELS:
        return []
    tags = open_clip.list_pretrained_tags_by_model(name)
    return [Weights(name, tag, open_clip.get_pretrained_cfg(name, tag)) for tag in tags]


def twin(name: str) -> str:
    """The name of the model of the same shapes with the other activation; it need not exist."""
    return name.removesuffix(TWIN) if name.endswith(TWIN) else name + TWIN


def named(path: Path, name: str) -> list[Weights]:
    """The published weights of a model, or of its twin, that a path is called after.

    Args:
        path: a file or folder. Its own name counts first, then its folder's, then the repository's
            of Hugging Face's cache, then those of what it links to.
        name: the model's.

    Example:
        >>> [w.tag for w in named(Path("vit_b_32-laion2b_e16-af8dbd0c.pth"), "ViT-B-32")]
        ['laion2b_e16']
    """
    known = [*of(name), *of(twin(name))]
    for text in _names_of(path):
        found = [(word, w) for w in known for word in w.names() if word and _holds(text, word)]
        longest = [
            w for word, w in found if not any(word != o and _holds(o, word) for o, _ in found)
        ]
        if longest:
            return list({id(w): w for w in longest}.values())
    return []


def _names_of(path: Path) -> Iterator[str]:
    for place in dict.fromkeys((path, path.resolve())):
        yield _words(place.stem if place.suffix.isascii() and place.is_file() else place.name)
        yield _words(place.stem)
        yield _words(place.parent.name)
        yield from (_words(part) for part in place.parts if part.startswith("models--"))


def _words(text: str) -> str:
    return "_".join(re.findall(r"[a-z0-9]+", text.lower()))


def _holds(text: str, words: str) -> bool:
    return f"_{words}_" in f"_{text}_"
