"""Checkpoints that hold more than one encoder: a question to the user, and one rule for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from neulig_fl.config.scenario import Model
from neulig_fl.core.errors import CheckpointError
from neulig_fl.models.checkpoints import identity, read
from neulig_fl.models.families import open_clip, open_family
from neulig_fl.models.inspection import look

State = dict[str, torch.Tensor]


def _state(seed: int, name: str = "tiny-vit") -> State:
    return dict(open_clip.create(name, seed).visual.state_dict())


def _under(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


def _flat(first: str, second: str) -> Callable[[], Any]:
    return lambda: {**_under(first, _state(1)), **_under(second, _state(2))}


def _nested(*keys: str) -> Callable[[], Any]:
    return lambda: {"epoch": 3} | {key: _state(i + 1) for i, key in enumerate(keys)}


def _hugging_face(prefix: str, seed: int) -> State:
    """The weights of a tiny encoder under Hugging Face's names."""
    state: State = {}
    for name, held in _state(seed).items():
        block = name.removeprefix("transformer.resblocks.0.")
        to = f"vision_model.encoder.layers.0.{block}" if block != name else f"vision_model.{name}"
        for old, new in {
            "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1",
            "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj",
            "ln_pre": "pre_layrnorm", "ln_post": "post_layernorm",
            "class_embedding": "embeddings.class_embedding",
            "positional_embedding": "embeddings.position_embedding.weight",
            "conv1.weight": "embeddings.patch_embedding.weight",
        }.items():  # fmt: skip
            to = to.replace(f".{old}", f".{new}")
        if name == "proj":
            state[f"{prefix}visual_projection.weight"] = held.T.contiguous()
        elif "in_proj" in name:
            kind = name.rpartition("_")[2]
            for part, some in zip("qkv", held.chunk(3), strict=True):
                place = f"vision_model.encoder.layers.0.self_attn.{part}_proj.{kind}"
                state[prefix + place] = some.clone()
        else:
            state[prefix + to] = held
    return state


SEVERAL = {
    "an average": (_flat("model.visual.", "model.ema."), "model.visual", "model.ema"),
    "a momentum encoder": (_flat("encoder_q.", "encoder_k."), "encoder_q", "encoder_k"),
    "the other order": (_flat("encoder_k.", "encoder_q."), "encoder_k", "encoder_q"),
    "one at the top": (_flat("", "ema."), "", "ema"),
    "two state dicts": (_nested("state_dict", "state_dict_ema"), "state_dict", "state_dict_ema"),
    "known by no key": (_nested("student", "teacher"), "student", "teacher"),
    "deep down": (
        lambda: {"state": {"model": _state(1), "ema": {"module": _state(2)}}},
        "state.model",
        "state.ema.module",
    ),
    "Hugging Face's": (
        lambda: {**_hugging_face("student.", 1), **_hugging_face("teacher.", 2)},
        "student.visual",
        "teacher.visual",
    ),
}


def _saved(folder: Path, held: Any) -> Path:
    torch.save(held, folder / "own.pt")
    return folder / "own.pt"


def _fitted(path: Path, prefix: str | None = None) -> State:
    return open_family(Model(name="tiny-vit", pretrained="none"), 0).fitted(path, "it", prefix)


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("kind", SEVERAL)
def test_two_encoders_are_a_question(kind: str, tmp_path: Path) -> None:
    """Without it one of two would be taken, by the length of its name."""
    make, first, second = SEVERAL[kind]
    path = _saved(tmp_path, make())
    fault = str(look(path).fault)
    with pytest.raises(CheckpointError) as caught:
        _fitted(path)
    assert str(caught.value) == fault == str(look(path, "tiny-vit").fault), "one rule"
    assert f"2 whole encoders of different weights, under {first!r} and {second!r}" in fault
    assert "write prefix: " in fault
    assert _same(_fitted(path, first), _state(1))
    assert _same(_fitted(path, second), _state(2))
    assert look(path, prefix=second).fault is None
    with pytest.raises(CheckpointError, match="no names that begin with 'third'; they begin with"):
        _fitted(path, "third")
    assert len({identity(path, prefix) for prefix in (None, first, second)}) == 3


def _wrapped(depth: int) -> Callable[[], Any]:
    def make() -> Any:
        inner: Any = _state(2)
        for _ in range(depth):
            inner = {"x": inner}
        return {"model": _state(1), "a": inner}

    return make


DEEP = {
    "ten dicts down": (_wrapped(10), "a" + 10 * ".x"),
    "in a list": (lambda: {"model": _state(1), "averages": [_state(2)]}, "averages.0"),
    "in a tuple": (lambda: {"model": _state(1), "old": {"best": (3, _state(2))}}, "old.best.1"),
    "by number": (lambda: {"model": _state(1), "average": {0.999: _state(2)}}, "average.0.999"),
    "a name in names": (
        lambda: {**_under("model.", _state(1)), **_under("a.b.c.d.e.f.", _state(2))},
        "a.b.c.d.e.f",
    ),
    "within the first": (
        lambda: {**_under("model.", _state(1)), **_under("model.transformer.old.", _state(2))},
        "model.transformer.old",
    ),
}


@pytest.mark.parametrize("kind", DEEP)
def test_a_second_encoder_is_found_wherever_it_stands(kind: str, tmp_path: Path) -> None:
    """Without it the first of two would be taken without a word if the other stands deeper."""
    make, second = DEEP[kind]
    path = _saved(tmp_path, make())
    assert f"under 'model' and {second!r}" in str(look(path).fault)
    with pytest.raises(CheckpointError, match="2 whole encoders"):
        _fitted(path)
    assert _same(_fitted(path, second), _state(2))
    assert _same(_fitted(path, "model"), _state(1))


def test_what_an_optimiser_numbers_is_no_state_dict(tmp_path: Path) -> None:
    """Without it every parameter of an optimiser would be called a state dict of its own."""
    moments = {i: {"exp_avg": torch.zeros(2)} for i in range(30)}
    logs = [{"loss": torch.zeros(1)} for _ in range(30)]
    path = _saved(tmp_path, {"model": _state(1), "optimizer": {"state": moments}, "logs": logs})
    assert read(path).notes == ("taken from under 'model'",)


def test_dicts_without_end_are_damaged(tmp_path: Path) -> None:
    """Without it a file of a few bytes would keep the program busy for ever."""
    many: Any = {}
    for _ in range(40):
        many = {"a": many, "b": many, "c": many}
    with pytest.raises(CheckpointError, match=r"damaged \(dicts within dicts without end"):
        read(_saved(tmp_path, {"model": _state(1), "x": many}))


WHOLE = {
    "at the top": ("", "ema."),
    "under a name": ("model.", "ema."),
    "the other order": ("model.", "ema."),
    "within the other": ("model.", "model.ema."),
    "another whole": ("model.", "ema.visual."),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_clip_beside_another_encoder_is_a_question(kind: str, tmp_path: Path) -> None:
    """Without it a run would start from one of two encoders without a word, or from none."""
    top, at = WHOLE[kind]
    clip = dict(open_clip.create("tiny-vit", 1).state_dict())
    parts = [_under(top, clip), _under(at, _state(2))]
    held = {**parts[1], **parts[0]} if kind == "the other order" else {**parts[0], **parts[1]}
    path = _saved(tmp_path, held)

    def encoder(prefix: str | None = None) -> State:
        start = Model(name="tiny-vit", pretrained=str(path), prefix=prefix)
        return dict(open_family(start, 0).encoder().state_dict())

    with pytest.raises(CheckpointError) as caught:
        encoder()
    for prefix in (f"{top}visual", at[:-1]):
        assert repr(prefix) in str(caught.value)
    assert str(look(path).fault)[2:] in str(caught.value), "one rule"
    for prefix in (f"{top}visual", top.rstrip(".")):
        assert _same(encoder(prefix), _state(1))
    with pytest.raises(CheckpointError, match=f"the image encoder {at[:-1]!r}, and not the text"):
        encoder(at[:-1])


@pytest.mark.parametrize("at", ["a.", "z."])
def test_a_clip_beside_the_same_encoder_is_taken(at: str, tmp_path: Path) -> None:
    """Without it a copy of the encoder would be a question, or hide the text tower."""
    clip = _under("model.", dict(open_clip.create("tiny-vit", 1).state_dict()))
    copy = _under(at, _state(1))
    path = _saved(tmp_path, {**copy, **clip} if at == "a." else {**clip, **copy})
    start = Model(name="tiny-vit", pretrained=str(path))
    assert _same(dict(open_family(start, 0).encoder().state_dict()), _state(1))


def test_the_first_part_of_a_prefix_is_enough(tmp_path: Path) -> None:
    """Without it a user would have to know how the encoder is called within the student."""
    whole = [dict(open_clip.create("tiny-vit", seed).state_dict()) for seed in (1, 2)]
    path = _saved(tmp_path, {"student": whole[0], "teacher": whole[1]})
    assert _same(_fitted(path, "teacher"), _state(2))
    start = Model(name="tiny-vit", pretrained=str(path), prefix="teacher")
    assert _same(dict(open_family(start, 0).encoder().state_dict()), _state(2))
    with pytest.raises(CheckpointError, match=r"under 'student\.visual' and 'teacher\.visual'"):
        open_family(Model(name="tiny-vit", pretrained=str(path)), 0).encoder()


def test_one_encoder_under_two_names_is_no_question(tmp_path: Path) -> None:
    """Without it a module that is registered twice would be asked about, to no end."""
    path = _saved(tmp_path, {**_under("clip.visual.", _state(1)), **_under("visual.", _state(1))})
    assert look(path).fault is None
    assert _same(_fitted(path), _state(1))


def test_what_is_no_second_encoder_is_left_out(tmp_path: Path) -> None:
    """Without it optimisers, heads and half encoders would be asked about."""
    half = dict(list(_state(2).items())[:5])
    held = {"model": _state(1), "head": {"weight": torch.zeros(3)}, "old": half, "epoch": 1,
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}  # fmt: skip
    path = _saved(tmp_path, held)
    found = look(path)
    assert (found.fault, found.like.prefix) == (None, "model.")
    assert {"head", "old"} <= set(found.left_out)
    assert read(path).notes == ("holds 3 state dicts: model, head, old",)
    assert _same(_fitted(path), _state(1))


def test_whole_models_side_by_side_keep_their_activation(tmp_path: Path) -> None:
    """Without it a pickled average beside the model would hide that both have QuickGELU."""
    models = [open_clip.create("tiny-vit-quickgelu", seed) for seed in (1, 2)]
    path = _saved(tmp_path, {"model": models[0], "ema": models[1]})
    assert read(path).activation == "quick_gelu"
    with pytest.raises(CheckpointError, match="trained with the activation quick_gelu"):
        _fitted(path, "ema")


def test_averaged_counters_are_taken_by_inspect_and_by_a_run(tmp_path: Path) -> None:
    """Without it `inspect` would call usable what a run refuses."""
    states = [_state(seed, "micro-rn") for seed in (1, 2)]
    mean = {k: (states[0][k] + states[1][k]) / 2 for k in states[0]}
    path = _saved(tmp_path, mean)
    assert look(path).fault is None
    found = open_family(Model(name="micro-rn", pretrained="none"), 0).fitted(path, "it")
    assert {v.dtype for k, v in found.items() if k.endswith("tracked")} == {torch.int64}
    mean["layer1.0.bn1.num_batches_tracked"] = torch.tensor(float("inf"))
    path = _saved(tmp_path, mean)
    assert "not finite: layer1.0.bn1.num" in str(look(path).fault)
    with pytest.raises(CheckpointError, match="not finite"):
        open_family(Model(name="micro-rn", pretrained="none"), 0).fitted(path, "it")
