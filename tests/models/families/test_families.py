"""The contract of model families, and OpenCLIP's: entries, heads, weights, checkpoints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip as library
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from neulig_fl.config.schema import MICRO_MODELS, PRETRAINED_WORDS, Model
from neulig_fl.core.errors import CheckpointError, InputError
from neulig_fl.models.checkpoints import Checkpoint, StoredTensor
from neulig_fl.models.families import (
    Family,
    _lookalikes,
    _preprocessing,
    _weights,
    open_clip,
    open_family,
)
from neulig_fl.models.families.micro import MicroFamily

MODELS = ("micro-vit", "micro-rn", "tiny-vit")


def _family(name: str = "tiny-vit", pretrained: str = "none", seed: int = 0) -> Family:
    return open_family(Model(name=name, pretrained=pretrained), seed)


def _same(one: nn.Module, two: nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", MODELS)
def test_entries_are_the_floating_state_in_its_order(name: str) -> None:
    """Without it `plan` would announce other bytes, or a record be read into the wrong entries."""
    family = _family(name)
    state = family.encoder().state_dict()
    expected = {k: tuple(v.shape) for k, v in state.items() if v.is_floating_point()}
    assert list(family.entries().items()) == list(expected.items())


@pytest.mark.parametrize("name", MODELS)
def test_an_encoder_is_ready_to_answer(name: str) -> None:
    """Without it an expert would be in training mode, on another device, or of another size."""
    family = _family(name)
    encoder = family.encoder()
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
    features = encoder(family.normalise(images))
    assert features.shape == (3, family.dim)
    assert family.image_size == 32
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    assert {v.dtype for v in encoder.state_dict().values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("pretrained", PRETRAINED_WORDS)
@pytest.mark.parametrize("name", MICRO_MODELS)
def test_a_bundled_model_is_known_without_opening_it(name: str, pretrained: str) -> None:
    """Without it `check` would foresee another model than the run has."""
    model = Model(name=name, pretrained=pretrained)
    known, opened = open_family(model, 4), open_clip.OpenClipFamily(model, 4)
    assert isinstance(known, MicroFamily)
    assert list(known.entries().items()) == list(opened.entries().items())
    for fact in ("name", "image_size", "dim", "preprocessing", "resize", "activation"):
        assert getattr(known, fact) == getattr(opened, fact), fact
    assert known.weights_hash == opened.weights_hash


def test_openclips_own_preprocessing_is_openclips() -> None:
    """The numbers are written down, so that to name them does not load OpenCLIP."""
    own = _preprocessing.OPENAI
    assert (own["mean"], own["std"]) == (
        library.OPENAI_DATASET_MEAN,
        library.OPENAI_DATASET_STD,
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_start_and_another_seed_another(name: str) -> None:
    """Without it clients would not start from one theta_0, or `diverse` ones would."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    family = _family(name, seed=1)
    start = family.encoder()
    assert _same(start, _family(name, seed=1).encoder())
    assert not _same(start, _family(name, seed=2).encoder())
    assert _same(family.fresh_encoder(7), family.fresh_encoder(7))
    assert not _same(family.fresh_encoder(7), family.fresh_encoder(8))
    assert not _same(family.fresh_encoder(7), start)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_encoder_is_a_copy_of_its_own() -> None:
    """Without it training one expert would move the checkpoint of all."""
    family = _family()
    first = family.encoder()
    with torch.no_grad():
        next(first.parameters()).add_(1.0)
    assert not _same(first, family.encoder())


def test_images_are_scaled_by_the_models_own_mean_and_deviation() -> None:
    """Without it a checkpoint would see other colours than it was trained on."""
    images = np.zeros((1, 3, 32, 32), np.uint8)
    images[0, 1] = 255
    found = _family().normalise(images)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    expected = [(v - m) / s for v, m, s in zip((0, 1, 0), mean, std, strict=True)]
    assert found[0, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert images.sum() == 255 * 32 * 32


def test_images_that_nobody_may_write_to_are_taken(recwarn: pytest.WarningsRecorder) -> None:
    """Without it queries that travel by value, and mapped files, would warn on every run."""
    images = np.frombuffer(bytes(3 * 32 * 32), np.uint8).reshape(1, 3, 32, 32)
    _family().normalise(images)
    assert not recwarn.list


# ---------------------------------------------------------------- heads


def test_a_head_is_the_scaled_mean_of_its_prompts(own_cache: Path) -> None:
    """Without it zero-shot logits would not be CLIP's."""
    family = _family("micro-vit")
    head = family.head(("cat", "dog", "emu"), ("a photo of a {}.", "{}"))
    assert head.shape == (3, family.dim)
    model = open_clip.create("micro-vit", family._whole._seed).eval()  # type: ignore[attr-defined]
    tokens = open_clip.tokeniser("micro-vit")(["a photo of a dog.", "dog"])
    with torch.no_grad():
        mean = model.encode_text(tokens, normalize=True).mean(dim=0)
        expected = mean / mean.norm() * model.logit_scale.exp()
    assert torch.allclose(head[1], expected, rtol=1e-4, atol=1e-5)


def test_a_head_is_kept_and_a_damaged_file_made_again(own_cache: Path) -> None:
    """Without it every message would encode all prompts, or a torn file end every run."""
    head = _family().head(("cat", "dog"), ("{}",))
    (file,) = (own_cache / "heads").iterdir()
    before = file.stat().st_mtime_ns
    assert torch.equal(_family().head(("cat", "dog"), ("{}",)), head)
    assert file.stat().st_mtime_ns == before
    file.write_bytes(b"torn")
    assert torch.equal(_family().head(("cat", "dog"), ("{}",)), head)
    assert list((own_cache / "heads").iterdir()) == [file]


def test_other_prompts_or_weights_have_another_head(own_cache: Path) -> None:
    """Without it a changed template would silently use the old head."""
    variants = [
        (_family(), ("a", "b"), ("{}",)),
        (_family(), ("b", "a"), ("{}",)),
        (_family(), ("a", "b"), ("a {}",)),
        (_family(), ("a", "b"), ("{}", "{}")),
        (_family(seed=1), ("a", "b"), ("{}",)),
        (_family("micro-vit"), ("a", "b"), ("{}",)),
    ]
    for family, classes, templates in variants:
        family.head(classes, templates)
    assert len(list((own_cache / "heads").iterdir())) == len(variants)


# ---------------------------------------------------------------- models and weights


def test_an_unknown_model_says_where_the_names_are() -> None:
    """Without it a typo would be an error deep in OpenCLIP."""
    with pytest.raises(
        InputError, match="no model family knows 'micro-vitt'; see `neulig-fl models`"
    ):
        _family("micro-vitt")


def test_an_unknown_tag_names_the_models_tags() -> None:
    """Without it the user would not learn which weights there are."""
    family = _family("RN50", "opnai")
    with pytest.raises(
        CheckpointError, match=r"RN50 has no weights 'opnai'; allowed: .*did you mean openai"
    ):
        family.encoder()


def test_the_micro_models_are_as_small_as_promised() -> None:
    """Without it the quickstart would take longer than it says."""
    for name in MICRO_MODELS:
        assert sum(p.numel() for p in _family(name).encoder().parameters()) < 3_000_000


def test_the_resnet_has_batch_norm_and_an_attention_pool() -> None:
    """Without it merging of running statistics would never be tried."""
    entries = _family("micro-rn").entries()
    assert any(name.endswith("running_var") for name in entries)
    assert any(name.startswith("attnpool.") for name in entries)


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_come_from_a_file_of_the_users_own(ending: str, tmp_path: Path) -> None:
    """Without it a scenario could only start from bundled or downloaded weights."""
    source = open_clip.create("tiny-vit", 9)
    path = tmp_path / f"own.{ending}"
    if ending == "pt":
        torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, path)
    else:
        save_file(source.state_dict(), path)
    family = _family("tiny-vit", str(path))
    assert _same(family.encoder(), source.visual)
    assert family.weights_hash != _family("tiny-vit").weights_hash


def test_the_hash_follows_the_weights(tmp_path: Path) -> None:
    """Without it experts of another checkpoint would be taken from the cache."""
    state = open_clip.create("tiny-vit", 9).state_dict()
    path = tmp_path / "own.safetensors"
    save_file(state, path)
    before = _family("tiny-vit", str(path)).weights_hash
    assert before == _family("tiny-vit", str(path)).weights_hash
    save_file({**state, "logit_scale": state["logit_scale"] + 1}, path)
    assert _family("tiny-vit", str(path)).weights_hash != before
    assert (
        len({_family(n, "none", s).weights_hash for n in ("tiny-vit", "micro-vit") for s in (0, 1)})
        == 4
    )


def test_a_weights_file_without_an_ending_is_read_too(tmp_path: Path) -> None:
    """Without it a file that the scenario's check accepts would be taken for a tag."""
    path = tmp_path / "weights"
    torch.save(open_clip.create("tiny-vit", 9).state_dict(), path)
    assert _same(_family("tiny-vit", str(path)).encoder(), open_clip.create("tiny-vit", 9).visual)


# ---------------------------------------------------------------- checkpoints of one's own


def _save(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, folder / "own.pt")
    return folder / "own.pt"


def _fitted(state: dict[str, torch.Tensor], folder: Path, name: str = "tiny-vit") -> Any:
    return _family(name).fitted(_save(folder, state), "checkpoint own.pt of client 'ada'")


@pytest.mark.parametrize("prefix", ["", "visual.", "module.visual.", "model.visual.", "a.b.c."])
@pytest.mark.parametrize("name", MODELS)
def test_an_encoder_is_found_in_whatever_it_was_wrapped(
    name: str, prefix: str, tmp_path: Path
) -> None:
    """Without it an expert would have to be saved anew before it could take part."""
    expected = open_clip.create(name, 9).visual.state_dict()
    state = {prefix + k: v for k, v in expected.items()}
    others = {"logit_scale": torch.ones(1), "transformer.x": torch.ones(1)} if prefix else {}
    found = _fitted(state | others, tmp_path, name)
    assert list(found) == list(expected)
    assert all(torch.equal(found[k], v) for k, v in expected.items())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s.pop("ln_pre.bias"), "missing: ln_pre.bias"),
        (lambda s: s.update(w=torch.zeros(1)), "extra: w"),
        (
            lambda s: s.update(proj=torch.zeros(2, 3)),
            r"wrong shape: proj \(2, 3\) instead of \(16, 16\)",
        ),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_a_checkpoint_that_does_not_fit_says_what_differs(
    change: Any, problem: str, tmp_path: Path
) -> None:
    """Without it weights of another architecture would be loaded in part, or not explained."""
    state = open_clip.create("tiny-vit", 9).visual.state_dict()
    change(state)
    with pytest.raises(
        CheckpointError,
        match=f"^checkpoint own.pt of client 'ada' does not fit the model tiny-vit; {problem}; "
        "check the model's name",
    ) as caught:
        _fitted(state, tmp_path)
    assert caught.value.public_reason == "its checkpoint does not fit the scenario's model"


def test_a_checkpoint_of_another_model_says_which(tmp_path: Path) -> None:
    """Without it the user would have to find out from shapes what a file is."""
    state = open_clip.create("micro-rn", 9).state_dict()
    with pytest.raises(CheckpointError, match="; it looks like micro-rn; check the model's name"):
        _fitted(state, tmp_path)


def _whole(folder: Path, name: str) -> Path:
    torch.save(open_clip.create(name, 9), folder / "whole.pt")
    return folder / "whole.pt"


def test_another_activation_is_an_error_that_names_the_right_model(tmp_path: Path) -> None:
    """Without it an expert of OpenAI's CLIP would run with GELU: the same shapes, wrong answers."""
    with pytest.raises(
        CheckpointError,
        match=r"trained with the activation quick_gelu, and tiny-vit has gelu; write model.name: "
        "tiny-vit-quickgelu$",
    ):
        _family("tiny-vit").fitted(_whole(tmp_path, "tiny-vit-quickgelu"), "it")
    with pytest.raises(CheckpointError, match=r"write model\.name: tiny-vit$"):
        _family("tiny-vit-quickgelu").fitted(_whole(tmp_path, "tiny-vit"), "it")
    assert _family("tiny-vit").fitted(_whole(tmp_path, "tiny-vit"), "it")
    with pytest.raises(
        CheckpointError, match=r"whole\.pt of model tiny-vit was trained with the act"
    ):
        _family("tiny-vit", str(_whole(tmp_path, "tiny-vit-quickgelu"))).encoder()


def test_another_number_of_heads_is_an_error(tmp_path: Path) -> None:
    """Without it attention would be split at the wrong places: the same shapes, wrong answers."""
    visual = open_clip.create("tiny-vit", 9).visual
    held = Checkpoint(
        {k: StoredTensor(tuple(v.shape), v.dtype, v.clone) for k, v in visual.state_dict().items()},
        "safetensors",
        heads=4,
    )
    with pytest.raises(CheckpointError, match="it has 4 attention heads, and tiny-vit has 2"):
        _weights.fit(held, visual, "tiny-vit", "it")
    assert _weights.fit(dataclasses.replace(held, heads=2), visual, "tiny-vit", "it")


def test_an_image_encoder_is_no_whole_model_to_start_from(tmp_path: Path) -> None:
    """Without it the error would be a list of the text tower's layers."""
    path = _save(tmp_path, open_clip.create("tiny-vit", 9).visual.state_dict())
    with pytest.raises(
        CheckpointError,
        match=r"own\.pt of model tiny-vit holds the image encoder, and not the text tower.*CLIPModel",
    ):
        _family("tiny-vit", str(path)).encoder()


@pytest.mark.parametrize("tag", ["openai", "metaclip_400m"])
def test_a_tag_of_another_activation_names_the_right_model(tag: str) -> None:
    """Without it OpenCLIP would warn, and the published weights be run with GELU."""
    with pytest.raises(
        CheckpointError, match=f"weights '{tag}' were .*QuickGELU.*model.name: ViT-B-32-quickgelu"
    ):
        _family("ViT-B-32", tag)
    assert _family("ViT-B-32-quickgelu", tag).dim == 512
    assert _family("ViT-B-32", "laion2b_s34b_b79k").dim == 512


# ---------------------------------------------------------------- lookalikes


def _like(name: str, prefix: str = "") -> open_clip.Lookalikes:
    """What the shapes of a model's image encoder look like; nothing is in memory."""
    config = library.get_model_config(name)
    said = {k: config[k] for k in ("embed_dim", "vision_cfg")}
    shapes = _lookalikes.visual_shapes(json.dumps(said))
    assert shapes
    return open_clip.lookalikes(
        {prefix + k: StoredTensor(v, torch.float32, torch.Tensor) for k, v in shapes.items()}
    )


@pytest.mark.parametrize(
    "name",
    [
        *("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14", "RN50", "RN50x4"),
        *("coca_ViT-B-32", "ViT-B-16-SigLIP", "convnext_base", "EVA02-B-16", "tiny-vit"),
        *("micro-vit", "micro-rn"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.visual."])
def test_a_model_looks_like_itself_and_like_its_twins(name: str, prefix: str) -> None:
    """Without it a published checkpoint would not be told from another architecture."""
    found = _like(name, prefix)
    assert name in found.same
    assert found.prefix == prefix
    assert found.close == ()
    twins = [n for n in open_clip.model_names() if n == f"{name}-quickgelu"]
    assert set(twins) <= set(found.same)
    others = {"ViT-B-32", "ViT-B-16", "ViT-L-14", "RN50", "tiny-vit", "micro-vit"} - {name}
    assert not others & set(found.same)


def test_what_is_nearly_a_model_is_near_it() -> None:
    """Without it a missing entry would leave the user without a name to look for."""
    shapes = {
        k: StoredTensor(v, torch.float32, torch.Tensor) for k, v in _shapes("tiny-vit").items()
    }
    del shapes["ln_post.bias"]
    found = open_clip.lookalikes(shapes)
    assert (found.same, found.close) == ((), ("tiny-vit", "tiny-vit-quickgelu"))
    nothing = open_clip.lookalikes({"w": StoredTensor((2,), torch.float32, torch.Tensor)})
    assert (nothing.same, nothing.close, list(nothing.encoder)) == ((), (), ["w"])


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    state = open_clip.create(name, 0).visual.state_dict()
    return {k: tuple(v.shape) for k, v in state.items()}
