"""What `check` says of the model: how images are prepared, its activation, clients' checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neulig_fl.config.scenario import Client
    from neulig_fl.records.release_plan import Setting


def model_lines(setting: Setting) -> Iterator[str]:
    """One line for the model, and one for each checkpoint that a client brings.

    Args:
        setting: a scenario whose weights and checkpoints were found to fit.
    """
    from neulig_fl.config.schema import PRETRAINED_WORDS, is_path

    family, model = setting.family, setting.scenario.model
    size = f"{family.image_size} x {family.image_size}"
    words = f"{family.preprocessing.words}; {', '.join(family.preprocessing.sources)}"
    yield f"model {model.name}{_start(setting)}: {family.activation}, images {size} ({words})"
    if model.pretrained not in PRETRAINED_WORDS and not is_path(model.pretrained):
        yield f"weights {model.pretrained}: from OpenCLIP's cache, or downloaded by the run"
    for client in setting.scenario.clients:
        lines = [
            f"checkpoint of {client.name}: {_described(setting, client, group, path)}"
            for group, path in (client.checkpoint or {}).items()
        ]
        yield from dict.fromkeys(lines)


def _start(setting: Setting) -> str:
    """Which part of a file of the user's own the model starts from."""
    from neulig_fl.config.schema import is_path

    model = setting.scenario.model
    if not is_path(model.pretrained):
        return ""
    _, at = setting.family.encoder_in(Path(model.pretrained), model.prefix)
    return f", encoder under {at.rstrip('.')!r}" if at else ""


def _described(setting: Setting, client: Client, group: str, path: str) -> str:
    from neulig_fl.client import experts
    from neulig_fl.core.errors import plain

    held, at = setting.family.encoder_in(Path(path), experts.prefix(client, group))
    notes = [f"encoder under {at.rstrip('.')!r}"] if at else []
    return "; ".join(
        (plain(Path(path).name), held.kind, f"names as in {held.naming}", *held.notes, *notes)
    )
