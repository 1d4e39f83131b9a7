"""The contract of model families, and OpenCLIP's: entries, heads, weights, checkpoints."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from neulig_fl.errors import CheckpointError, InputError
from neulig_fl.families import Family, open_clip, open_family
from neulig_fl.scenario import Model

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
    pictures = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
    features = encoder(family.normalise(pictures))
    assert features.shape == (3, family.dim)
    assert family.image_size == 32
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    assert {v.dtype for v in encoder.state_dict().values()} <= {torch.float32, torch.int64}


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


def test_pictures_are_scaled_by_the_models_own_mean_and_deviation() -> None:
    """Without it a checkpoint would see other colours than it was trained on."""
    pictures = np.zeros((1, 3, 32, 32), np.uint8)
    pictures[0, 1] = 255
    found = _family().normalise(pictures)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    expected = [(v - m) / s for v, m, s in zip((0, 1, 0), mean, std, strict=True)]
    assert found[0, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert pictures.sum() == 255 * 32 * 32


def test_pictures_that_nobody_may_write_to_are_taken(recwarn: pytest.WarningsRecorder) -> None:
    """Without it queries that travel by value, and mapped files, would warn on every run."""
    pictures = np.frombuffer(bytes(3 * 32 * 32), np.uint8).reshape(1, 3, 32, 32)
    _family().normalise(pictures)
    assert not recwarn.list


# ---------------------------------------------------------------- heads


def test_a_head_is_the_scaled_mean_of_its_prompts(own_cache: Path) -> None:
    """Without it zero-shot logits would not be CLIP's."""
    family = _family("micro-vit")
    head = family.head(("cat", "dog", "emu"), ("a photo of a {}.", "{}"))
    assert head.shape == (3, family.dim)
    model = open_clip.create("micro-vit", family._seed).eval()  # type: ignore[attr-defined]
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
    for name in open_clip.MICRO_MODELS:
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


# ---------------------------------------------------------------- reading checkpoints


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    """Without it the error would not say which file."""
    with pytest.raises(CheckpointError, match=r"checkpoint .*none\.pt: no such file"):
        open_clip.read_state_dict(tmp_path / "none.pt")


class Attack:
    """Runs code when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("ending", ["pt", "bin", "safetensors"])
def test_a_checkpoint_that_would_run_code_is_not_run(ending: str, tmp_path: Path) -> None:
    """Without it a stranger's checkpoint could take over the machine, or the error invite it to."""
    path, witness = tmp_path / f"evil.{ending}", tmp_path / "witness"
    torch.save({"w": torch.zeros(1), "x": Attack(witness)}, path)
    with pytest.raises(CheckpointError, match=r"cannot be read .*tensors only") as caught:
        open_clip.read_state_dict(path)
    assert "weights_only" not in str(caught.value), "torch's own advice is to run it all the same"
    assert str(caught.value).isprintable()
    path.write_bytes(pickle.dumps(Attack(witness)))
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_clip.read_state_dict(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds list, not names and tensors; save model.state_dict"),
        ({"epoch": 3, "w": torch.zeros(1)}, "holds dict, not names and tensors"),
        (torch.zeros(2), "holds Tensor"),
    ],
    ids=["a list", "numbers in it", "a tensor"],
)
def test_what_is_no_state_dict_says_what_it_is(content: Any, message: str, tmp_path: Path) -> None:
    """Without it the user would get an error about an attribute."""
    path = tmp_path / "odd.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        open_clip.read_state_dict(path)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"text", bytes(64)], ids=["empty", "text", "zeros"])
def test_a_broken_file_is_an_error_of_ours(ending: str, content: bytes, tmp_path: Path) -> None:
    """Without it a torn download would end in a traceback."""
    path = tmp_path / f"broken.{ending}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint .*broken\..*: cannot be read"):
        open_clip.read_state_dict(path)


def _fits(change: Any) -> dict[str, torch.Tensor]:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = dict(module.state_dict())
    change(state)
    return open_clip.fit(state, module, "checkpoint own.pt of client 'ada'")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s.pop("0.bias"), "missing: 0.bias"),
        (lambda s: s.update(w=torch.zeros(1)), "extra: w"),
        (
            lambda s: s.update({"0.weight": torch.zeros(2, 3)}),
            r"wrong shape: 0.weight \(2, 3\) instead of \(3, 2\)",
        ),
        (
            lambda s: (s.clear(), s.update(x=torch.zeros(1))),
            "missing: 0.weight, 0.bias, 1.weight and 4 more; extra: x",
        ),
    ],
    ids=["missing", "extra", "misshapen", "another model"],
)
def test_a_checkpoint_of_another_model_says_what_differs(change: Any, problem: str) -> None:
    """Without it weights of another architecture would be loaded in part, or not explained."""
    with pytest.raises(
        CheckpointError,
        match=f"^checkpoint own.pt of client 'ada' does not fit the model; {problem}; check",
    ) as caught:
        _fits(change)
    assert caught.value.public_reason == "its checkpoint does not fit the scenario's model"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_with_values_that_are_not_finite_is_refused(value: float) -> None:
    """Without it every merge with this expert would be NaN."""
    with pytest.raises(CheckpointError, match=r"values that are not finite: 0.bias"):
        _fits(lambda s: s.update({"0.bias": torch.tensor([0.0, value, 0.0])}))


def test_half_precision_is_cast_and_what_overflows_in_it_is_not_hidden() -> None:
    """Without it an fp16 checkpoint would make an fp16 expert beside float32 ones."""
    found = _fits(lambda s: s.update({"0.weight": torch.ones(3, 2).half()}))
    assert {v.dtype for v in found.values()} == {torch.float32, torch.int64}


def test_safetensors_keeps_what_was_saved(tmp_path: Path) -> None:
    """Without it an expert would come back changed."""
    state = open_clip.create("tiny-vit", 3).visual.state_dict()
    save_file(state, tmp_path / "x.safetensors")
    found = open_clip.read_state_dict(tmp_path / "x.safetensors")
    assert all(torch.equal(found[k], state[k]) for k in state)
    assert load_file(tmp_path / "x.safetensors").keys() == found.keys()
