"""Text towers and tokenisers of Hugging Face's: which OpenCLIP models need them, and from where.

Some names have a text tower of Hugging Face's, more have its tokeniser alone (all SigLIPs). Both
need the package `transformers`, and files that are fetched, or lie in a folder.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import open_clip

from neulig_fl.core.downloads import download
from neulig_fl.core.errors import CheckpointError
from neulig_fl.models.families._hub import quiet, reason

INSTALL = "pip install 'neulig-fl[transformers]'"
_TOKENISER = ("tokenizer.json", "tokenizer_config.json", "sentencepiece.bpe.model", "vocab.json")


def tower(name: str) -> str | None:
    """The repository of a model's text tower; None where it is OpenCLIP's own."""
    return _text(name).get("hf_model_name")


def repository(name: str) -> str | None:
    """The repository of a model's tokeniser; None where it is CLIP's own, which is there."""
    return _text(name).get("hf_tokenizer_name")


def _text(name: str) -> dict[str, Any]:
    return dict((open_clip.get_model_config(name) or {}).get("text_cfg", {}))


def installed() -> bool:
    """Whether the package `transformers` is there."""
    return importlib.util.find_spec("transformers") is not None


def require_package(name: str) -> None:
    """What a model's text needs to be installed.

    Raises:
        CheckpointError: `transformers` is not there, and the model needs it.
    """
    if repository(name) is None and tower(name) is None:
        return
    if not installed():
        part = "text tower" if tower(name) else "tokeniser"
        raise CheckpointError(
            f"model {name} has a {part} of Hugging Face's, which needs the package transformers; "
            f"{INSTALL}",
            public_reason="the model needs the package transformers",
        )


def folder_of(pretrained: Path | None, given: str | None) -> Path | None:
    """Where the files of the text tower lie: where the scenario says, or with the weights."""
    if given is not None:
        return Path(given)
    if pretrained is None:
        return None
    beside = pretrained if pretrained.is_dir() else pretrained.parent
    return beside if any((beside / file).is_file() for file in _TOKENISER) else None


def tokeniser(name: str, folder: Path | None) -> Any:
    """The tokeniser of a model that reads its text with Hugging Face's.

    Raises:
        CheckpointError: its files are not in the folder, and cannot be fetched.
    """
    require_package(name)
    said = _text(name)
    source = str(folder or said["hf_tokenizer_name"])
    try:
        with quiet(), download():
            return open_clip.tokenizer.HFTokenizer(
                source,
                context_length=said.get(
                    "context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH
                ),
                tokenizer_mode=said.get("tokenizer_mode"),
                **said.get("tokenizer_kwargs", {}),
            )
    except Exception as error:
        raise _unfetched(name, "tokeniser", said["hf_tokenizer_name"], folder, error) from error


def own_config(name: str, folder: Path | None) -> dict[str, Any]:
    """What `open_clip.create_model` needs so that the text tower's own weights are not fetched.

    Raises:
        CheckpointError: the tower's config.json is not in the folder, and cannot be fetched.
    """
    source = tower(name)
    if source is None:
        return {}
    require_package(name)
    from transformers import AutoConfig

    try:
        with quiet(), download():
            AutoConfig.from_pretrained(str(folder or source))
    except Exception as error:
        raise _unfetched(name, "text tower", source, folder, error) from error
    place = {"hf_model_name": str(folder or source), "hf_model_pretrained": False}
    return {"pretrained_text": False, "text_cfg": {**_text(name), **place}}


def _unfetched(
    name: str, part: str, repository: str, folder: Path | None, error: Exception
) -> CheckpointError:
    files = "tokenizer.json, tokenizer_config.json" + (" and config.json" if tower(name) else "")
    where = f"not in {folder}" if folder else "neither in Hugging Face's cache nor to be fetched"
    return CheckpointError(
        f"model {name}: the {part} of {repository} is {where}: {reason(error)}; where there is a "
        f"network, run `hf download {repository} --local-dir FOLDER` ({files} are what is needed), "
        "and write model.text_files: FOLDER",
        public_reason="the files of the model's text tower are not there",
    )
