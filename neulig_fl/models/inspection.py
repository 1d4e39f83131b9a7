"""What a checkpoint is: its format, whose names it has, which models it could be, its faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neulig_fl.core.errors import CheckpointError, plain
from neulig_fl.models import checkpoints
from neulig_fl.models.checkpoints import Checkpoint, StoredTensor
from neulig_fl.models.checkpoints.closeness import Pair, pairs
from neulig_fl.models.checkpoints.fitting import (
    beginning,
    chosen,
    differences,
    require_usable,
    some,
)
from neulig_fl.models.families import open_clip


@dataclass(frozen=True)
class Findings:
    """What was found out about one checkpoint.

    Args:
        held: what was read.
        like: the models that it could be, and its image encoder.
        sha256: hexadecimal.
        fault: why no scenario can use it; None if one can.
    """

    held: Checkpoint
    like: open_clip.Lookalikes
    sha256: str
    fault: str | None

    @property
    def encoder(self) -> Mapping[str, StoredTensor]:
        """The image encoder's entries; all entries where it is no model's."""
        return self.like.encoder

    @property
    def dtypes(self) -> dict[str, int]:
        """How many entries of the image encoder are stored as what."""
        kinds = Counter(str(e.dtype).removeprefix("torch.") for e in self.encoder.values())
        return dict(kinds.most_common())

    @property
    def numbers(self) -> int:
        """How many numbers the image encoder has."""
        return sum(entry.numbers for entry in self.encoder.values())

    @property
    def left_out(self) -> list[str]:
        """The parts of the checkpoint that do not belong to the image encoder."""
        prefix = self.like.prefix
        parts = prefix.split(".")[:-2]
        outer = "".join(f"{part}." for part in parts)
        others = (name for name in self.held.entries if not name.startswith(prefix))
        names = (name.removeprefix(outer).partition(".")[0] for name in others)
        return list(dict.fromkeys(names))

    def models(self) -> tuple[list[str], list[str]]:
        """The models that it could be, and those of its shapes but with another activation."""
        said = self.held.activation
        if said is None:
            return list(self.like.same), []
        quick = said == "quick_gelu"
        own = [name for name in self.like.same if open_clip.quick_gelu(name) == quick]
        return own, [name for name in self.like.same if name not in own]


def look(path: Path, model: str | None = None, prefix: str | None = None) -> Findings:
    """Read a checkpoint and find out what it is; every number of its image encoder is read once.

    Args:
        path: a file or a folder.
        model: the model that it has to fit; any, if not given.
        prefix: with what the names of the encoder begin that is meant, where there are several.

    Raises:
        CheckpointError: it cannot be read, or no name in it begins with the prefix.
        InputError: there is no such model.
    """
    held = checkpoints.read(path)
    like = open_clip.lookalikes(beginning(held.entries, prefix, f"checkpoint {plain(path)}"))
    if model is not None:
        fault = _misfit(path, model, prefix)
    elif like.same:
        fault = _unfit(held, like, prefix)
    else:
        fault = _unknown(held)
    return Findings(held, like, checkpoints.sha256(path), fault)


def _unknown(held: Checkpoint) -> str:
    """Why it is no model's, with what it begins with and what to do."""
    tops = dict.fromkeys(name.partition(".")[0] for name in held.entries)
    return (
        "no model that OpenCLIP knows has an image encoder of these names and shapes; its names "
        f"begin with: {some(list(tops), 8)}; give the whole state dict of a CLIP or of its image "
        "encoder, under OpenCLIP's, OpenAI's or Hugging Face's names, or say what it should be "
        "(`neulig-fl inspect --model NAME`), to see what differs; `neulig-fl models --all` lists "
        "the names"
    )


def _misfit(path: Path, model: str, prefix: str | None) -> str | None:
    """Why a checkpoint is not that model's, in the words of a run."""
    try:
        open_clip.encoder_alone(model).fitted(path, "it", prefix)
    except CheckpointError as error:
        return str(error)
    return None


def _unfit(held: Checkpoint, like: open_clip.Lookalikes, prefix: str | None) -> str | None:
    """Why no run takes it, by the rules of a run: several encoders, or values of no model."""
    try:
        shapes = {name: entry.shape for name, entry in like.encoder.items()}
        chosen(held.entries, shapes, "it", prefix)
        require_usable(like.encoder, "it")
    except CheckpointError as error:
        return str(error)
    return None


def misfits(found: Sequence[Findings]) -> list[str | None]:
    """For each, what keeps it from being merged with the first; None where nothing does."""
    shapes = {name: entry.shape for name, entry in found[0].encoder.items()}
    activation = found[0].held.activation
    faults: list[str | None] = []
    for each in found:
        parts = differences(each.encoder, shapes)
        own = each.held.activation
        if not parts and None not in (own, activation) and own != activation:
            parts = [f"activation {own} instead of {activation}"]
        faults.append("; ".join(parts) or None)
    return faults


def compare(found: Sequence[Findings]) -> list[Pair]:
    """How far apart checkpoints are that fit one another.

    Raises:
        CheckpointError: a file cannot be read any more.
    """
    return pairs([f.encoder for f in found], [f"checkpoint {plain(f.held.path)}" for f in found])
