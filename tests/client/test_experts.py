"""Experts: what their names depend on, how they are trained, loaded and kept."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from neulig_fl.client import experts, schedule
from neulig_fl.config.scenario import Model, Scenario
from neulig_fl.core.errors import CheckpointError, DataError, InputError, RunError
from neulig_fl.core.randomness import derived_seed
from neulig_fl.data.sources import Task, open_task
from neulig_fl.models import outputs
from neulig_fl.models.families import open_clip, open_family


def _parts(scenario: Scenario, client: int = 0, seed: int = tiny.SEED) -> dict[str, Any]:
    chosen = scenario.clients[client]
    return {
        "scenario": scenario,
        "client": chosen,
        "family": open_family(scenario.model, seed),
        "task": open_task(scenario, chosen.task, seed),
        "seed": seed,
    }


def _obtain(
    scenario: Scenario, group: str = "A", client: int = 0, seed: int = tiny.SEED
) -> tuple[nn.Module, bool]:
    return experts.obtain(group=group, **_parts(scenario, client, seed))


def _key(scenario: Scenario, group: str = "A", client: int = 0, seed: int = tiny.SEED) -> str:
    return experts.recipe(group=group, **_parts(scenario, client, seed)).key


def _flat(encoder: nn.Module) -> torch.Tensor:
    floats = [v.flatten() for v in encoder.state_dict().values() if v.is_floating_point()]
    return torch.cat(floats)


def _with(**settings: Any) -> dict[str, Any]:
    return {"experts": {"epochs": 1, "lr": 1.0e-3, "batch_size": 16, **settings}}


@pytest.fixture
def make(tmp_path: Path, data: Path, own_cache: Path) -> Callable[..., Scenario]:
    """The tiny scenario with changes; experts go to an empty cache."""
    return lambda **changes: tiny.scenario(tmp_path, data, **changes)


# ---------------------------------------------------------------- names


OTHERS: dict[str, dict[str, Any]] = {
    "epochs": _with(epochs=2),
    "learning rate": _with(lr=2.0e-3),
    "batch size": _with(batch_size=8),
    "weight decay": _with(weight_decay=0.2),
    "warm-up": _with(warmup=0.3),
    "clip norm": _with(clip_norm=0.5),
    "origin": _with(origin="diverse"),
    "model": {"model": {"name": "micro-vit", "pretrained": "none"}},
    "client": {"clients": [{"name": "eve", "task": "first"}, {"name": "bob", "task": "second"}]},
    "task": {"clients": [{"name": "ada", "task": "second"}, {"name": "bob", "task": "second"}]},
}


@pytest.mark.parametrize("what", OTHERS)
def test_an_experts_name_changes_with_every_setting(
    what: str, make: Callable[..., Scenario]
) -> None:
    """Without it an expert that was trained otherwise would be taken from the cache."""
    assert _key(make(**OTHERS[what])) != _key(make())


def test_an_experts_name_changes_with_group_seed_and_code(
    make: Callable[..., Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it model-A would be used as model-B, or old code's experts for ever."""
    scenario = make()
    names = [_key(scenario), _key(scenario, "B"), _key(scenario, seed=4), _key(scenario, client=2)]
    monkeypatch.setattr(experts, "TRAINING_VERSION", experts.TRAINING_VERSION + 1)
    assert len({*names, _key(scenario)}) == 5


def test_an_experts_name_changes_with_its_images_and_prompts(
    make: Callable[..., Scenario], data: Path, tmp_path: Path
) -> None:
    """Without it new images in the same folder would not lead to a new expert."""
    names = {_key(make())}
    root = str(data / "first")
    prompts = {"source": "imagefolder", "root": root, "templates": ["a {}"]}
    second = {"source": "imagefolder", "root": str(data / "second")}
    names.add(_key(make(tasks={"first": prompts, "second": second})))
    for number, classes in enumerate([("dark", "light"), ("dark", "bright")]):
        folder = tiny.images(tmp_path / f"f{number}", classes, seed=1 + 5 * (1 - number))
        mine = {"source": "imagefolder", "root": str(folder)}
        names.add(_key(make(tasks={"first": mine, "second": second})))
    assert len(names) == 4


def test_images_that_changed_under_the_same_name_size_and_time_lead_to_a_new_expert(
    make: Callable[..., Scenario], data: Path, tmp_path: Path
) -> None:
    """Without it the expert of the old images would be the expert of the new ones."""
    folder = tiny.images(tmp_path / "mine", ("dark", "light"), seed=1)
    tasks = {name: {"source": "imagefolder", "root": str(folder)} for name in ("first", "second")}
    names = set()
    for seed in (1, 2):
        for number, image in enumerate(sorted(folder.rglob("*.bmp"))):
            fresh = np.random.default_rng([seed, number]).integers(0, 256, (12, 12, 3))
            Image.fromarray(fresh.astype(np.uint8)).save(image)
            os.utime(image, (1e9, 1e9))
        names.add(_key(make(tasks=tasks)))
    assert len(names) == 2


def test_an_experts_name_changes_when_images_change_their_class(
    make: Callable[..., Scenario], data: Path, tmp_path: Path
) -> None:
    """Without it mended labels would not lead to a new expert."""
    folder = tiny.images(tmp_path / "own", ("a", "b"), seed=4)
    mine = {"source": "imagefolder", "root": str(folder)}
    scenario = make(tasks={"first": mine, "second": mine})
    before = _key(scenario)
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        (folder / old).rename(folder / new)
    assert _key(scenario) != before


def test_an_experts_name_changes_with_nothing_else(make: Callable[..., Scenario]) -> None:
    """Without it a change of the analysis would train all experts again."""
    changed = make(
        name="renamed",
        portland={"epochs": 9, "alignment": "code"},
        queries={"pool": 3},
        resources={"client_cpus": 2},
        on_refusal="continue",
        **_with(groups=["A", "B"]),
        tasks={
            "second": {"source": "imagefolder", "root": str(make().tasks["second"].root)},
            "first": {"source": "imagefolder", "root": str(make().tasks["first"].root)},
        },
    )
    assert _key(changed) == _key(make())


# ---------------------------------------------------------------- the cache


def test_a_second_time_nothing_is_trained(
    make: Callable[..., Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it every message to a new process would train the expert again."""
    scenario = make()
    first, trained = _obtain(scenario)
    assert trained
    monkeypatch.setattr(experts, "_train", None)
    again, trained_again = _obtain(scenario)
    assert not trained_again
    for encoder in (first, again):
        assert not any(module.training for module in encoder.modules())
        assert not any(p.requires_grad for p in encoder.parameters())
    assert torch.equal(_flat(first), _flat(again))


def test_training_that_is_cut_off_leaves_no_file(
    make: Callable[..., Scenario], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it half an expert would be taken for a whole one."""
    scenario = make()

    def half(state: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(experts, "save_file", half)
        with pytest.raises(KeyboardInterrupt):
            _obtain(scenario)
    assert list((own_cache / "experts").iterdir()) == []
    assert _obtain(scenario)[1]


def test_a_damaged_expert_is_trained_again(make: Callable[..., Scenario], own_cache: Path) -> None:
    """Without it a torn file in the cache would end every later run with a riddle."""
    scenario = make()
    whole, _ = _obtain(scenario)
    (file,) = (own_cache / "experts").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    again, trained = _obtain(scenario)
    assert trained
    assert torch.equal(_flat(whole), _flat(again))


# ---------------------------------------------------------------- training


def test_training_repeats_itself_and_leaves_the_global_generator_alone(
    make: Callable[..., Scenario], own_cache: Path
) -> None:
    """Without it the same scenario and seed would give other experts on the next machine."""
    scenario = make()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, _ = _obtain(scenario)
    assert torch.equal(torch.get_rng_state(), before)
    next((own_cache / "experts").iterdir()).unlink()
    torch.manual_seed(2)
    second, trained = _obtain(scenario)
    assert trained
    assert torch.equal(_flat(first), _flat(second))


def test_clients_groups_and_seeds_have_experts_of_their_own(make: Callable[..., Scenario]) -> None:
    """Without it two clients of one task would hold the same expert."""
    scenario = make()
    found = [
        _obtain(scenario),
        _obtain(scenario, "B"),
        _obtain(scenario, client=2),
        _obtain(scenario, seed=4),
    ]
    flat = [_flat(encoder) for encoder, _ in found]
    assert not any(torch.equal(a, b) for i, a in enumerate(flat) for b in flat[:i])


def test_a_shared_origin_is_one_point_and_a_diverse_one_is_not(
    make: Callable[..., Scenario],
) -> None:
    """Without it `diverse` experts would secretly share theta_0, or shared ones not."""
    still = {"lr": 1e-12, "weight_decay": 0.0}
    shared, diverse = make(**_with(**still)), make(**_with(origin="diverse", **still))
    start = _flat(open_family(shared.model, tiny.SEED).encoder())
    assert all(
        torch.allclose(_flat(_obtain(shared, client=i)[0]), start, atol=1e-6) for i in (0, 2)
    )
    one, two = (_flat(_obtain(diverse, client=i)[0]) for i in (0, 2))
    assert not torch.allclose(one, two, atol=1e-2)
    assert not torch.allclose(one, start, atol=1e-2)


def test_an_expert_learns_its_task(make: Callable[..., Scenario]) -> None:
    """Without it fine-tuning could go up the loss and no test would say so."""
    scenario = make(
        model={"name": "micro-vit", "pretrained": "none"}, **_with(epochs=8, lr=1e-3, batch_size=4)
    )
    parts = _parts(scenario)
    steps: list[tuple[int, int]] = []
    encoder, _ = experts.obtain(group="A", on_step=lambda *s: steps.append(s), **parts)
    held_out = parts["task"].indices("evaluation")
    assert experts.accuracy(encoder, parts["task"], held_out, parts["family"]) > 90
    total = 8 * -(-len(parts["task"].indices("train-A")) // 4)
    assert abs(total - len(steps)) <= 8
    assert steps == [(i + 1, len(steps)) for i in range(len(steps))]


def test_the_gradient_is_clipped_and_weights_decay(make: Callable[..., Scenario]) -> None:
    """Without it `clip_norm` and `weight_decay` would be words without effect."""
    start = _flat(open_family(make().model, tiny.SEED).encoder())
    clipped = _flat(_obtain(make(**_with(clip_norm=1e-14, weight_decay=0.0)))[0])
    assert torch.allclose(clipped, start, atol=1e-6)
    assert not torch.allclose(_flat(_obtain(make(**_with(weight_decay=0.0)))[0]), start, atol=1e-4)
    decayed = _flat(_obtain(make(**_with(clip_norm=1e-14, weight_decay=50.0)))[0])
    assert decayed.norm() < 0.97 * start.norm()


def test_the_rate_follows_the_schedule(
    make: Callable[..., Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it warm-up would be a word without effect."""
    asked: list[tuple[int, int, float]] = []

    def noting(step: int, steps: int, warmup: float) -> float:
        asked.append((step, steps, warmup))
        return schedule.warmup_cosine(step, steps, warmup)

    monkeypatch.setattr(experts, "warmup_cosine", noting)
    _obtain(make(**_with(epochs=2, warmup=0.4)))
    assert asked == [(i, len(asked), 0.4) for i in range(len(asked))]
    assert len(asked) >= 2


def test_training_that_diverges_says_what_to_do(
    make: Callable[..., Scenario], own_cache: Path
) -> None:
    """Without it NaN would be merged, or kept as an expert."""
    with pytest.raises(RunError, match=r"client 'ada': training diverged .*lower experts.lr"):
        _obtain(make(**_with(lr=1e6, epochs=3)))
    assert not (own_cache / "experts").exists()


def test_batch_norm_is_trained_when_one_image_is_left_for_the_last_batch(
    make: Callable[..., Scenario],
) -> None:
    """Without it some numbers of images would end the run in torch."""
    rn = {"model": {"name": "micro-rn", "pretrained": "none"}}
    images = len(_parts(make())["task"].indices("train-A"))
    encoder, trained = _obtain(make(**rn, **_with(batch_size=images - 1)))
    assert trained
    assert bool(torch.isfinite(_flat(encoder)).all())


def test_batch_norm_with_batches_of_one_says_what_to_change(make: Callable[..., Scenario]) -> None:
    """Without it torch's error would speak of values per channel."""
    scenario = make(model={"name": "micro-rn", "pretrained": "none"}, **_with(batch_size=1))
    with pytest.raises(
        InputError, match=r"experts.batch_size is 1, and micro-rn has BatchNorm; allowed: 2"
    ):
        _obtain(scenario)
    assert _obtain(make(**_with(batch_size=1)))[1]


def test_a_class_without_training_images_is_an_error(
    make: Callable[..., Scenario], tmp_path: Path
) -> None:
    """Without it an expert would silently never see one of its classes."""
    folder = tiny.images(tmp_path / "few", ("a", "b"), each=1)
    mine = {"source": "imagefolder", "root": str(folder)}
    scenario = make(tasks={"first": mine, "second": mine})
    with pytest.raises(DataError, match=r"task 'first': class .* has no image in split train-A"):
        _obtain(scenario)


# ---------------------------------------------------------------- given checkpoints


def _encoder(seed: int = 5, name: str = "tiny-vit") -> nn.Module:
    return open_family(Model(name=name, pretrained="none"), seed).encoder()


def _bring(make: Callable[..., Scenario], checkpoint: Any) -> Scenario:
    clients = [
        {"name": "ada", "task": "first", "checkpoint": checkpoint},
        {"name": "bob", "task": "second"},
    ]
    return make(clients=clients)


@pytest.mark.parametrize("prefix", ["", "visual.", "module.visual."])
def test_a_clients_own_checkpoint_is_used_as_it_is(
    prefix: str, make: Callable[..., Scenario], own_cache: Path, tmp_path: Path
) -> None:
    """Without it an expert that a party already has could not take part."""
    state = {prefix + k: v for k, v in _encoder().state_dict().items()}
    extra = {"module.logit_scale": torch.zeros(1)} if prefix.startswith("module") else {}
    torch.save({**state, **extra}, tmp_path / "own.pt")
    encoder, trained = _obtain(_bring(make, str(tmp_path / "own.pt")))
    assert not trained
    assert torch.equal(_flat(encoder), _flat(_encoder()))
    assert not encoder.training
    assert not (own_cache / "experts").exists()


def _write(form: str, folder: Path) -> Path:
    """The expert of `_encoder()` in one of the forms in which people have theirs."""
    whole = open_clip.create("tiny-vit", _encoder_seed())
    path = folder / "own.pt"
    if form == "fp16":
        torch.save({k: v.half() for k, v in whole.visual.state_dict().items()}, path)
    elif form == "a whole model":
        torch.save(whole, path)
    elif form == "pickled":
        path.write_bytes(pickle.dumps(torch.nn.DataParallel(whole)))
    elif form == "old":
        torch.save({"model": whole.state_dict()}, path, _use_new_zipfile_serialization=False)
    else:
        path = folder / "own"
        path.mkdir()
        save_file(
            {f"visual.{k}": v for k, v in whole.visual.state_dict().items()}, path / "a.safetensors"
        )
    return path


@pytest.mark.parametrize("form", ["fp16", "a whole model", "pickled", "old", "a folder"])
def test_an_expert_comes_in_any_form(
    form: str, make: Callable[..., Scenario], tmp_path: Path
) -> None:
    """Without it a published expert would have to be converted by hand before it could take part."""
    scenario = make()
    own = scenario.clients[0].model_copy(update={"checkpoint": {"A": str(_write(form, tmp_path))}})
    scenario = scenario.model_copy(update={"clients": (own, *scenario.clients[1:])})
    encoder, trained = _obtain(scenario)
    expected = _encoder().state_dict()
    assert not trained
    assert {v.dtype for v in encoder.state_dict().values()} == {torch.float32}
    for name, value in encoder.state_dict().items():
        found = expected[name].half().float() if form == "fp16" else expected[name]
        assert torch.equal(value, found)


@pytest.mark.parametrize(
    ("content", "message", "reason"),
    [
        (b"", "cannot be read: it is empty", "its checkpoint file cannot be read"),
        (b"<html>", "cannot be read: it is a web page", "its checkpoint file cannot be read"),
        (pickle.dumps(print), "asks for builtins.print", "its checkpoint file asks to run code"),
        (None, "no such file", "its checkpoint file is missing"),
    ],
    ids=["empty", "a page", "code", "gone"],
)
def test_what_cannot_be_read_names_the_client_and_tells_the_server_no_path(
    content: bytes | None,
    message: str,
    reason: str,
    make: Callable[..., Scenario],
    tmp_path: Path,
) -> None:
    """Without it the user would not learn whose file is wrong, or the server where it lies."""
    path = tmp_path / "own.pt"
    path.write_bytes(content or b"")
    scenario = _bring(make, str(path))
    if content is None:
        path.unlink()
    with pytest.raises(CheckpointError, match=f"client 'ada': checkpoint .*own.pt: {message}") as c:
        _obtain(scenario)
    assert c.value.public_reason == reason


def test_a_given_checkpoint_is_checked_without_the_models_weights(
    make: Callable[..., Scenario], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it `check` would load, or fetch, the model that every client starts from."""
    save_file(_encoder().state_dict(), tmp_path / "own.safetensors")
    scenario = _bring(make, str(tmp_path / "own.safetensors"))
    parts = _parts(scenario)
    monkeypatch.setattr(open_clip, "create", None)
    found = experts.given(parts["client"], "A", parts["family"])
    assert found.keys() == _encoder_names()


def _encoder_names() -> Any:
    return open_family(Model(name="tiny-vit", pretrained="none"), 0).entries().keys()


def _encoder_seed() -> int:
    """The seed that `_encoder()`'s weights are made from."""
    return derived_seed(5, "initial-weights", "tiny-vit")


def test_each_group_has_its_own_checkpoint(make: Callable[..., Scenario], tmp_path: Path) -> None:
    """Without it model-B would be model-A."""
    paths = {}
    for seed, group in enumerate("AB"):
        paths[group] = str(tmp_path / f"{group}.safetensors")
        save_file(_encoder(seed).state_dict(), paths[group])
    scenario = _bring(make, paths)
    for seed, group in enumerate("AB"):
        assert torch.equal(_flat(_obtain(scenario, group)[0]), _flat(_encoder(seed)))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda s: s.pop("proj"), "missing: proj"),
        (lambda s: s.update(more=torch.zeros(1)), "extra: more"),
        (lambda s: s.update(proj=torch.zeros(1, 2)), r"wrong shape: proj \(1, 2\) instead of"),
        (lambda s: s["proj"].fill_(float("nan")), "not finite: proj"),
    ],
    ids=["missing", "extra", "misshapen", "NaN"],
)
def test_a_wrong_checkpoint_names_the_client_and_the_file(
    break_it: Any, message: str, make: Callable[..., Scenario], tmp_path: Path
) -> None:
    """Without it the user would not learn whose file is wrong, or the expert be half random."""
    state = _encoder().state_dict()
    break_it(state)
    save_file(state, tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match=f"own.safetensors of client 'ada' .*{message}"):
        _obtain(_bring(make, str(tmp_path / "own.safetensors")))


# ---------------------------------------------------------------- answering


def test_features_do_not_depend_on_the_batch() -> None:
    """Without it a client that answers in parts would release other features."""
    family = open_family(Model(name="micro-rn", pretrained="none"), 0)
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32)).astype(np.uint8)
    encoder = family.encoder().train()
    whole = outputs.encode(encoder, images, family)
    parts = outputs.encode(encoder, images, family, batch_size=2)
    assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-5)
    assert not encoder.training
    assert whole.dtype == torch.float32
    assert outputs.encode(encoder, images[:0], family).shape == (0, family.dim)


def test_logits_are_the_head_on_features_of_unit_length() -> None:
    """Without it a long feature would count for more than a short one."""
    features, head = torch.tensor([[3.0, 4.0], [0.3, 0.4]]), torch.tensor([[10.0, 0.0], [0.0, 5.0]])
    assert outputs.classify(features, head).tolist() == [pytest.approx([6.0, 4.0])] * 2


def test_accuracy_is_in_percent_on_the_given_images(make: Callable[..., Scenario]) -> None:
    """Without it a reference of 0.9 would be read as 0.9 percent."""
    scenario = make()
    parts = _parts(scenario)
    task: Task = parts["task"]
    encoder = _encoder()
    at = task.indices("evaluation")
    head = parts["family"].head(task.source.class_names, task.source.templates)
    guesses = [
        int(
            outputs.classify(
                outputs.encode(encoder, task.pixels(at[i : i + 1], 32), parts["family"]), head
            ).argmax()
        )
        for i in range(len(at))
    ]
    right = [g == int(t) for g, t in zip(guesses, task.labels(at), strict=True)]
    assert experts.accuracy(encoder, task, at, parts["family"]) == pytest.approx(
        100 * sum(right) / len(right)
    )


def test_the_cache_holds_nothing_but_tensors(
    make: Callable[..., Scenario], own_cache: Path
) -> None:
    """Without it a shared cache folder could run code."""
    _obtain(make())
    (file,) = (own_cache / "experts").iterdir()
    assert file.suffix == ".safetensors"
    assert load_file(file).keys() == _encoder().state_dict().keys()
