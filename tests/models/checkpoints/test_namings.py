"""Hugging Face's and OpenAI's names, brought to OpenCLIP's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip as library
import pytest
import torch
from checkpoint_files import (
    State,
    clip,
    hugging_face,
    hugging_face_folder,
    hugging_face_text,
    image_encoder,
    open_ai,
)
from safetensors.torch import save_file

from neulig_fl.config.scenario import Model
from neulig_fl.core.errors import CheckpointError
from neulig_fl.models import checkpoints
from neulig_fl.models.checkpoints.fitting import load
from neulig_fl.models.families import open_family


def _deep() -> Any:
    """A CLIP of three layers, whose blocks a mapping could confuse."""
    vision = {"image_size": 32, "layers": 3, "width": 16, "patch_size": 16, "head_width": 8}
    text = {"context_length": 8, "vocab_size": 20, "width": 8, "heads": 2, "layers": 2}
    torch.manual_seed(0)
    model = library.CLIP(16, vision, text, quick_gelu=True)
    for value in model.parameters():  # biases and norms start as 0 and 1, and would hide a swap
        torch.nn.init.normal_(value, std=0.3)
    return model.eval()


def _read(path: Path) -> State:
    entries = checkpoints.read(path).entries
    return load(entries, {k: e.dtype for k, e in entries.items()}, "it")


@pytest.mark.parametrize("outer", ["", "module.", "model.clip."])
@pytest.mark.parametrize("ids", [False, True], ids=["new", "with position_ids"])
def test_an_image_encoder_is_mapped_by_name(outer: str, ids: bool, tmp_path: Path) -> None:
    """Without it an expert would be loaded with its layers, or its q, k and v, mixed up."""
    model = _deep()
    state = {f"{outer}{k}": v for k, v in hugging_face(model).items()}
    if ids:
        state[f"{outer}vision_model.embeddings.position_ids"] = torch.arange(5).unsqueeze(0)
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = _read(tmp_path / "pytorch_model.bin")
    expected = {f"visual.{k}": v for k, v in model.visual.state_dict().items()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], v) for k, v in expected.items())
    assert all(v.is_contiguous() for v in found.values())


def test_a_whole_clip_is_mapped_with_its_text_tower(tmp_path: Path) -> None:
    """Without it a scenario could not start from a Hugging Face CLIP."""
    model = _deep()
    save_file(hugging_face(model) | hugging_face_text(model), tmp_path / "model.safetensors")
    found = _read(tmp_path)
    again = _deep()
    for value in again.parameters():
        torch.nn.init.zeros_(value)
    again.load_state_dict(found)
    images, words = torch.rand(2, 3, 32, 32), torch.randint(0, 20, (2, 8))
    with torch.no_grad():
        assert torch.equal(again.encode_image(images), model.encode_image(images))
        assert torch.equal(again.encode_text(words), model.encode_text(words))


def test_a_scenario_starts_from_a_hugging_face_folder(tmp_path: Path) -> None:
    """Without it heads or experts would not be those of the published model."""
    model = clip()
    said = {"hidden_act": "gelu", "num_attention_heads": 2}
    folder = hugging_face_folder(tmp_path / "a", model, model_type="clip", vision_config=said)
    save_file(hugging_face(model) | hugging_face_text(model), folder / "model.safetensors")
    family = open_family(Model(name="tiny-vit", pretrained=str(folder)), 0)
    state = family.encoder().state_dict()
    assert all(torch.equal(v, state[k]) for k, v in model.visual.state_dict().items())
    tokens = library.get_tokenizer("tiny-vit")(["dog"])
    with torch.no_grad():
        text = model.encode_text(tokens, normalize=True) * model.logit_scale.exp()
    assert torch.allclose(family.head(["dog"], ["{}"]), text, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["vision_model.", ""], ids=["version 4", "version 5"])
def test_a_model_without_projection_says_what_to_take(prefix: str, tmp_path: Path) -> None:
    """Without it the error would be of a missing `proj`, which no one finds in such a file."""
    state = hugging_face(clip(), prefix=prefix)
    del state["visual_projection.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(
        CheckpointError,
        match=r"CLIPVisionModel, which has no visual_projection.*take CLIPVisionModelWithProj",
    ) as caught:
        checkpoints.read(tmp_path)
    assert caught.value.public_reason == "its checkpoint does not fit the scenario's model"


def test_what_the_mapping_does_not_know_stays_as_it_is(tmp_path: Path) -> None:
    """Without it a changed architecture would be loaded in part."""
    state = hugging_face(clip()) | {
        "vision_model.encoder.layers.0.gate.weight": torch.zeros(1),
        "vision_model.encoder.layers.0.self_attn.q_norm.weight": torch.zeros(1),
        "vision_model.head.bias": torch.zeros(1),
        "classifier.weight": torch.zeros(1),
    }
    del state["vision_model.encoder.layers.0.self_attn.k_proj.bias"]
    save_file(state, tmp_path / "model.safetensors")
    found = checkpoints.read(tmp_path).entries
    for name in (
        "vision_model.encoder.layers.0.gate.weight",
        "vision_model.encoder.layers.0.self_attn.q_norm.weight",
        "vision_model.encoder.layers.0.self_attn.q_proj.bias",
        "vision_model.head.bias",
        "classifier.weight",
    ):
        assert name in found
    assert "visual.transformer.resblocks.0.attn.in_proj_bias" not in found


def test_the_configuration_tells_activation_and_heads(tmp_path: Path) -> None:
    """Without it QuickGELU and the number of heads, which no shape shows, would be guessed."""
    one = hugging_face_folder(tmp_path / "a", clip(), hidden_act="quick_gelu")
    assert checkpoints.read(one).activation == "quick_gelu"
    assert checkpoints.read(one).heads == 2
    assert checkpoints.read(one / "model.safetensors").activation == "quick_gelu"
    said = {"model_type": "clip", "vision_config": {"num_attention_heads": 4}}
    (one / "config.json").write_text(json.dumps(said))
    assert checkpoints.read(one).activation == "quick_gelu", "what transformers takes it for"
    assert checkpoints.read(one).heads == 4
    (one / "config.json").unlink()
    assert checkpoints.read(one).activation is None
    assert checkpoints.read(one).heads is None


def test_another_kind_of_hugging_face_model_is_named(tmp_path: Path) -> None:
    """Without it a model that only looks like CLIP would be mapped as if it were one."""
    folder = hugging_face_folder(tmp_path / "a", clip(), model_type="siglip_vision_model")
    with pytest.raises(
        CheckpointError, match="model_type 'siglip_vision_model'; allowed: clip, clip_vision_model"
    ):
        checkpoints.read(folder)


def test_open_ais_sizes_are_no_weights(tmp_path: Path) -> None:
    """Without it OpenAI's own files would have three entries too many, or another activation."""
    found = checkpoints.read(open_ai(tmp_path / "a.pt", clip(name="tiny-vit-quickgelu")))
    assert found.activation == "quick_gelu"
    assert set(found.entries) == set(clip().state_dict())
    family = open_family(Model(name="tiny-vit-quickgelu", pretrained=str(tmp_path / "a.pt")), 0)
    assert torch.equal(family.encoder().state_dict()["proj"], clip().visual.proj.half().float())


def test_open_ais_state_dict_is_of_open_ais_activation(tmp_path: Path) -> None:
    """Without it weights taken out of OpenAI's file would be run with GELU."""
    sizes = {k: torch.tensor(8) for k in ("input_resolution", "context_length", "vocab_size")}
    torch.save(clip().state_dict() | sizes, tmp_path / "a.pt")
    found = checkpoints.read(tmp_path / "a.pt")
    assert found.activation == "quick_gelu"
    assert list(found.entries) == list(clip().state_dict())


def test_a_class_that_is_named_like_the_activation_is_needed(tmp_path: Path) -> None:
    """Without it a plain state dict would be taken for one of a known activation."""
    with image_encoder() as model:
        torch.save(model.state_dict(), tmp_path / "a.pt")
    assert checkpoints.read(tmp_path / "a.pt").activation is None
