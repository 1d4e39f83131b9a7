"""`neulig-fl inspect`: what checkpoints are, in words, on a terminal of any width."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from command_line import Line
from safetensors.torch import save_file

from neulig_fl.models import checkpoints
from neulig_fl.models.families import open_clip


def _expert(path: Path, seed: int = 1, name: str = "tiny-vit", by: float = 0.0) -> Path:
    torch.manual_seed(0)
    state = open_clip.create(name, seed).visual.state_dict()
    save_file({k: v + by * torch.randn_like(v.float()) for k, v in state.items()}, path)
    return path


def _flat(text: str) -> str:
    return " ".join(text.split())


def test_one_checkpoint(line: Line, tmp_path: Path) -> None:
    """Without it a user would not learn what to write as the model's name."""
    path = _expert(tmp_path / "own.safetensors")
    ended = line("inspect", path)
    assert (ended.code, ended.err) == (0, "")
    said = _flat(ended.out)
    for words in (
        f"{path} format safetensors; names as in OpenCLIP",
        "model tiny-vit, tiny-vit-quickgelu; shapes do not tell which",
        "encoder 20 entries, 15,984 numbers; stored as 20 float32",
        "values all finite",
        f"SHA-256 {checkpoints.sha256(path)}",
    ):
        assert words in said
    assert "names prefix" not in said


def test_what_was_taken_off_and_left_out_is_said(line: Line, tmp_path: Path) -> None:
    """Without it a wrong part of a file could be taken unseen."""
    state = open_clip.create("tiny-vit", 1).state_dict()
    held = {"state_dict": {f"module.{k}": v.half() for k, v in state.items()}, "epoch": 3}
    torch.save(held, tmp_path / "epoch.pt")
    said = _flat(line("inspect", tmp_path / "epoch.pt").out)
    assert (
        "taken from under 'state_dict'; prefix 'module.visual.' taken off; left out: posit" in said
    )
    assert "stored as 20 float16 cast to float32 when it is loaded" in said


def test_a_hugging_face_folder(line: Line, tmp_path: Path) -> None:
    """Without it a download would have to be searched for its weights, and QuickGELU be guessed."""
    width = {"class_embedding": 16, "patch_embedding.weight": (16, 3, 16, 16)}
    sizes = {"position_embedding.weight": (5, 16)}
    state = {f"embeddings.{k}": torch.zeros(v) for k, v in {**width, **sizes}.items()}
    for name in (
        "pre_layrnorm",
        "post_layernorm",
        *(f"encoder.layers.0.layer_norm{i}" for i in (1, 2)),
    ):
        state |= {f"{name}.{kind}": torch.zeros(16) for kind in ("weight", "bias")}
    for name, shape in {
        **{f"self_attn.{k}_proj": (16, 16) for k in ("q", "k", "v", "out")},
        "mlp.fc1": (64, 16),
        "mlp.fc2": (16, 64),
    }.items():
        state[f"encoder.layers.0.{name}.weight"] = torch.zeros(shape)
        state[f"encoder.layers.0.{name}.bias"] = torch.zeros(shape[0])
    state = {f"vision_model.{k}": v for k, v in state.items()}
    save_file(
        state | {"visual_projection.weight": torch.zeros(16, 16)}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model"}))
    ended = line("inspect", tmp_path)
    said = _flat(ended.out)
    assert ended.code == 0
    assert "names as in Hugging Face's CLIP" in said
    assert "model tiny-vit-quickgelu (its activation is quick_gelu); not tiny-vit, which" in said


def test_several_that_fit(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it nobody could see beforehand whether experts can be merged, or are kin."""
    paths = [
        _expert(tmp_path / "a.safetensors"),
        _expert(tmp_path / "b.safetensors", by=1e-3),
        _expert(tmp_path / "c.safetensors", seed=7),
    ]
    wide = line("inspect", *paths)
    monkeypatch.setenv("COLUMNS", "50")
    narrow = line("inspect", *paths)
    for ended in (wide, narrow):
        assert (ended.code, ended.err) == (0, "")
        assert "All have the same names and shapes: they can be merged." in _flat(ended.out)
        assert "proves no origin" in _flat(ended.out)
    rows = re.findall(r"^(\w)\.safetensors +(\w)\.safetensors +([\d.]+) +([\d.-]+)", wide.out, re.M)
    assert [row[:2] for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert float(rows[0][2]) < 0.02 < 0.2 < float(rows[1][2])
    assert f"a.safetensors and b.safetensors: distance {rows[0][2]}, cosine" in _flat(narrow.out)
    assert max(len(each.rstrip()) for each in narrow.out.splitlines()) <= 50


def test_several_that_do_not_fit(line: Line, tmp_path: Path) -> None:
    """Without it the first differences would only show when a run ends."""
    one, other = _expert(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    _expert(other, name="micro-vit")
    ended = line("inspect", one, other)
    assert (ended.code, ended.err) == (0, "")
    said = _flat(ended.out)
    assert "b.safetensors cannot be merged with a.safetensors: extra: " in said
    assert "wrong shape: class_embedding (" in said
    assert "can be merged." not in said
    assert "Distance" not in said


def test_what_cannot_be_used_is_an_error_beside_the_rest(line: Line, tmp_path: Path) -> None:
    """Without it a script could not tell, or one bad file would hide the others."""
    good = _expert(tmp_path / "good.safetensors")
    nan = _expert(tmp_path / "nan.safetensors", by=float("nan"))
    (tmp_path / "page.pt").write_text("<html>404</html>")
    odd = tmp_path / "odd.pt"
    torch.save({"w": torch.ones(2)}, odd)
    ended = line("inspect", tmp_path / "page.pt", nan, odd, tmp_path / "none", good)
    assert ended.code == 2
    assert f"SHA-256 {checkpoints.sha256(good)}" in _flat(ended.out)
    errors = ended.err.splitlines()
    assert [each.startswith("error: checkpoint ") for each in errors] == [True] * 4
    for error, words in zip(
        errors,
        ("is a web page", "not finite", "no model that OpenCLIP", "no such file"),
        strict=True,
    ):
        assert words in error
    assert "none that OpenCLIP knows" in _flat(ended.out)
    assert "its names begin with: w; give the whole state dict of a CLIP" in errors[2]
    assert "`neulig-fl inspect --model NAME`" in errors[2]
    named = line("inspect", odd, "--model", "tiny-vit")
    assert "does not fit the model tiny-vit; missing: class_embedding" in named.err


def test_names_with_control_characters_reach_no_terminal(line: Line, tmp_path: Path) -> None:
    """Without it the name of a file, or of an entry in it, could clear the screen or forge a line."""
    odd, shown = "\x1b[2Jx\nerror: forged", "\\x1b[2Jx\\nerror: forged"
    fine, other = _expert(tmp_path / f"{odd}.pt"), tmp_path / f"{odd}.bin"
    torch.save({f"{odd}.w": torch.ones(2), f"{odd}.b": torch.ones(2)}, other)
    folder = tmp_path / odd
    folder.mkdir()
    for name in (f"{odd}.pt", "second.pt"):
        _expert(folder / name)
    ended = line("inspect", fine, other, folder)
    assert ended.code == 2
    assert ended.err.count(f"{shown}: a folder of several checkpoints ({shown}.pt, second.pt)") == 1
    assert shown in ended.out
    for words in (ended.out, ended.err):
        assert all(each.isprintable() for each in words.split("\n"))
        assert not any(each.startswith("error: forged") for each in words.split("\n"))


def test_a_model_that_it_has_to_fit(line: Line, tmp_path: Path) -> None:
    """Without it a user who knows the model would have to read shapes."""
    path = _expert(tmp_path / "own.safetensors")
    assert line("inspect", path, "--model", "tiny-vit").code == 0
    ended = line("inspect", path, "--model", "micro-vit")
    assert ended.code == 2
    assert "cannot be used: it does not fit the model micro-vit; " in ended.err
    assert "it looks like tiny-vit or tiny-vit-quickgelu" in ended.err
    ended = line("inspect", path, "--model", "tiny-vitt")
    assert ended.code == 2
    assert "--model tiny-vitt: no such model; see `neulig-fl models --all`; did you" in ended.err


def test_help_has_examples(line: Line) -> None:
    """Without it a user would have to guess what can be given."""
    said = _flat(line("inspect", "--help").out)
    assert "neulig-fl inspect my-expert.safetensors" in said
    assert "Nothing in a file is run." in said
