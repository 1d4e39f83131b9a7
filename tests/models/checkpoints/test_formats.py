"""The formats of checkpoints: every way of writing the same weights gives the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import WRITERS, clip, hugging_face, image_encoder, open_ai
from safetensors.torch import save_file
from torch import nn

from neulig_fl.core import variants
from neulig_fl.core.errors import CheckpointError
from neulig_fl.models import checkpoints
from neulig_fl.models.checkpoints import Checkpoint, foreign


def _same(found: Checkpoint, expected: dict[str, torch.Tensor]) -> bool:
    read = {name: entry.read() for name, entry in found.entries.items()}
    return list(read) == list(expected) and all(torch.equal(read[k], expected[k]) for k in read)


def test_each_file_is_recognised_by_one_format_only(tmp_path: Path) -> None:
    """Without it the order of file names would decide how a file is read."""
    state = clip().visual.state_dict()
    save_file(state, tmp_path / "safetensors")
    for name, write in WRITERS.items():
        write(state, tmp_path / name)
    formats = [
        variants.load("neulig_fl.models.checkpoints.formats", name)
        for name in variants.names("neulig_fl.models.checkpoints.formats")
    ]
    for path in tmp_path.iterdir():
        assert sum(f.recognises(path, foreign.head(path)) for f in formats) == 1, path.name


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("name", ["tiny-vit", "micro-rn"])
def test_a_state_dict_comes_back_as_it_was(
    write: Callable[[Any, Path], None], name: str, tmp_path: Path
) -> None:
    """Without it an expert would come back changed, in another order, or not at all."""
    state = clip(name=name).visual.state_dict()
    write(state, tmp_path / "own.pt")
    found = checkpoints.read(tmp_path / "own.pt")
    assert _same(found, state)
    assert {e.dtype for e in found.entries.values()} == {v.dtype for v in state.values()}


def test_safetensors_come_back_as_they_were(tmp_path: Path) -> None:
    """Without it an expert would come back changed, or its dtype be unknown before it is read."""
    state = {
        str(kind): torch.ones(2, 3).to(kind)
        for kind in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    }
    save_file(state, tmp_path / "own.bin")
    found = checkpoints.read(tmp_path / "own.bin")
    assert {str(e.dtype) for e in found.entries.values()} == set(found.entries)
    assert all(torch.equal(found.entries[k].read(), v) for k, v in state.items())
    assert found.kind == "safetensors"


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_whole_model_whose_classes_are_not_here_gives_its_state_dict(
    write: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    """Without it task_vectors' checkpoints could only be read by running them."""
    with image_encoder() as model:
        write(model, tmp_path / "finetuned.pt")
        expected = model.state_dict()
    found = checkpoints.read(tmp_path / "finetuned.pt")
    assert _same(found, expected)
    assert "model.visual.proj" in found.entries
    assert "of a whole model (src.modeling.ImageEncoder)" in found.kind
    assert found.activation == "gelu"


def test_a_models_class_names_tell_its_activation(tmp_path: Path) -> None:
    """Without it an expert of OpenAI's CLIP would be run with another activation, and be worse."""
    with image_encoder(name="tiny-vit-quickgelu") as model:
        torch.save(model, tmp_path / "finetuned.pt")
    assert checkpoints.read(tmp_path / "finetuned.pt").activation == "quick_gelu"


class Buffers(nn.Module):
    """Has what a state dict has, and what it leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.ones(2), persistent=False)
        self.register_parameter("none", None)
        self.plain = torch.ones(2)
        self.shared = self.norm


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_a_state_dict_leaves_out_is_left_out(
    write: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    """Without it a mask would be an extra entry, or BatchNorm's statistics be missing."""
    model = nn.DataParallel(Buffers())
    write(model, tmp_path / "model.pt")
    assert _same(checkpoints.read(tmp_path / "model.pt"), model.state_dict())


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: {"epoch": 3, "name": "run", "state_dict": model.state_dict()},
        lambda model: {"model": model.state_dict(), "optimizer": {"lr": 0.1}},
        lambda model: {"state_dict": {"model": model.state_dict()}, "best": None},
        lambda model: {"args": "--lr 3", "model": model},
    ],
    ids=["state_dict", "model", "both", "a whole model"],
)
def test_what_a_training_program_put_aside_is_found(
    write: Callable[[Any, Path], None], wrap: Callable[[Any], Any], tmp_path: Path
) -> None:
    """Without it a training program's own checkpoint would have to be taken apart by hand."""
    model = nn.Sequential(nn.Linear(2, 3), nn.GELU())
    write(wrap(model), tmp_path / "epoch-3.ckpt")
    found = checkpoints.read(tmp_path / "epoch-3.ckpt")
    assert _same(found, model.state_dict())
    assert found.notes[0].startswith("taken from under '")


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_views_of_one_storage_come_back_as_what_they_show(
    write: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    """Without it tied, transposed or sliced weights would come back as something else."""
    whole = torch.arange(24.0).reshape(4, 6)
    state = {
        "whole": whole,
        "part": whole[1:3, 2:5],
        "turned": whole.T,
        "single": whole[3, 5],
        "none": whole[:0],
        "parameter": nn.Parameter(whole),
        "half": torch.ones(3).bfloat16(),
    }
    write(state, tmp_path / "views.pt")
    expected = {k: v.detach() for k, v in state.items()}
    assert _same(checkpoints.read(tmp_path / "views.pt"), expected)


def test_a_torchscript_archive_is_read_without_its_code(tmp_path: Path) -> None:
    """Without it OpenAI's own files, which are TorchScript, could not be started from."""
    model = clip()
    expected = {k: v.half() for k, v in model.state_dict().items()}
    found = checkpoints.read(open_ai(tmp_path / "ViT-B-32.pt", model))
    assert "TorchScript archive (its code is not run)" in found.kind
    assert found.naming == "OpenAI's CLIP"
    assert set(found.entries) == set(expected)
    assert all(torch.equal(found.entries[k].read(), v) for k, v in expected.items())


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    """Without it a large Hugging Face model would be missing all but its first part."""
    state = hugging_face(clip())
    names = list(state)
    index = {}
    for number, part in enumerate((names[:9], names[9:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({k: state[k] for k in part}, tmp_path / file)
        index |= dict.fromkeys(part, file)
    where = tmp_path / "model.safetensors.index.json"
    where.write_text(json.dumps({"weight_map": index}))
    for path in (tmp_path, where):
        found = checkpoints.read(path)
        visual = clip().visual.state_dict()
        assert {k.removeprefix("visual.") for k in found.entries} == set(visual)
        assert found.kind == "safetensors, in 2 files"
        assert checkpoints.sha256(path) == checkpoints.sha256(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"part model-00002-of-00002\.safetensors is not"):
        checkpoints.read(tmp_path)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    """Without it a downloaded index could have any file of this machine read."""
    where = tmp_path / "model.safetensors.index.json"
    for name in ("../secret", "/etc/passwd", 3):
        where.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(CheckpointError, match="is an index that names no files"):
            checkpoints.read(tmp_path)


def test_tensors_are_read_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it looking at a checkpoint's names would take as much memory as loading it."""
    monkeypatch.setattr(torch, "frombuffer", None)
    for name in ("torch.save", "torch.save before 1.6"):
        WRITERS[name]({"a": torch.ones(3)}, tmp_path / "a.pt")
        entry = checkpoints.read(tmp_path / "a.pt").entries["a"]
        assert (entry.shape, entry.dtype, entry.numbers) == ((3,), torch.float32, 3)
        with pytest.raises(TypeError):
            entry.read()
