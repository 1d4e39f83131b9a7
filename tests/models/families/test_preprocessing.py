"""How images are prepared for a model's weights: who says it, and that nobody guesses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import open_clip as library
import pytest
import tiny
import torch
import yaml
from PIL import Image
from pydantic import ValidationError

from neulig_fl.client import experts
from neulig_fl.config.scenario import Model
from neulig_fl.config.schema import Preprocess
from neulig_fl.core.errors import CheckpointError
from neulig_fl.models import checkpoints
from neulig_fl.models.families import _preprocessing, _published, open_clip, open_family
from neulig_fl.models.families._preprocessing import KEYS, OPENAI, Preprocessing, of_model

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
AMBIGUOUS = "ViT-L-14"
"""OpenCLIP's weights of this name have two means."""


def _of(name: str, pretrained: str | Path, **given: Any) -> Preprocessing:
    return of_model(Model(name=name, pretrained=str(pretrained), preprocess=Preprocess(**given)))


def _values(found: Preprocessing) -> dict[str, Any]:
    return {key: getattr(found, key) for key in KEYS}


def _weights(folder: Path, name: str = "tiny-vit", file: str = "own.pt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(open_clip.create(name, 9).state_dict(), folder / file)
    return folder / file


def _config(folder: Path, **said: Any) -> None:
    (folder / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": said}))


# ---------------------------------------------------------------- tags, and files called after them


def test_weights_as_a_file_are_fed_as_by_their_tag() -> None:
    """Without it a file of weights would silently be fed other inputs than its tag."""
    pairs = library.list_pretrained()
    assert len(pairs) > 150
    for name, tag in pairs:
        config = library.get_pretrained_cfg(name, tag)
        by_tag = _of(name, tag)
        assert _values(by_tag) == {key: config[key] for key in KEYS}, (name, tag)
        assert _of(name, f"/weights/{tag}.safetensors") == by_tag, (name, tag)
    assert len({_of(*pair).key for pair in pairs}) > 4


@pytest.mark.parametrize(
    "path",
    [
        "laion2b_s32b_b82k.safetensors",
        "CLIP-ViT-L-14-laion2B-s32B-b82K/open_clip_model.safetensors",
        "models--laion--CLIP-ViT-L-14-laion2B-s32B-b82K/snapshots/1a2b/open_clip_model.safetensors",
        "ViT-L-14_laion2b-s32b-b82k_finetuned.pt",
        "link.pt",
    ],
)
def test_many_names_mean_a_tag(path: str, tmp_path: Path) -> None:
    """Without it only a file of the tag's exact name would be known."""
    target = tmp_path / path
    if path == "link.pt":
        target.symlink_to(tmp_path / "laion2b_s32b_b82k.pt")
    found = _of(AMBIGUOUS, target)
    assert found.mean == (0.5, 0.5, 0.5)
    assert found.sources == ("OpenCLIP's weights laion2b_s32b_b82k",)


def test_the_longest_name_counts() -> None:
    """Without it weights whose tag begins like another's would be taken for those."""
    assert [w.tag for w in _published.named(Path("dfn2b_s39b.pt"), AMBIGUOUS)] == ["dfn2b_s39b"]
    assert {w.tag for w in _published.named(Path("dfn2b.pt"), AMBIGUOUS)} == {"dfn2b"}
    assert _published.named(Path("/data/openai/ViT-L-14.pt"), AMBIGUOUS)[0].tag == "openai"
    assert _published.named(Path("ViT-L-14.pt"), AMBIGUOUS) == []


def test_a_name_that_says_nothing_is_fed_as_all_of_the_models_weights() -> None:
    """Without it SigLIP's fine-tuned weights would be fed CLIP's mean."""
    for name, tag in (("ViT-B-16-SigLIP", "webli"), ("MobileCLIP-S1", "datacompdr")):
        found = _of(name, "/weights/epoch_3.pt")
        assert found == _of(name, tag)
        assert found.sources == (f"as all of OpenCLIP's weights of {name}",)
    assert _values(_of("tiny-vit", "/weights/own.pt")) == OPENAI
    assert _of("tiny-vit", "bundled").sources == ("OpenCLIP's own choice",)
    assert _of("ViT-B-16-SigLIP", "none").resize_mode == "squash"


def test_an_ambiguous_file_is_an_error_that_names_the_choices(tmp_path: Path) -> None:
    """Without it one of two means would be guessed, and every feature be a little wrong."""
    with pytest.raises(CheckpointError) as caught:
        _of(AMBIGUOUS, "/weights/finetuned.pt")
    words = str(caught.value)
    for part in (
        "finetuned.pt: nothing says which mean and std they were trained with",
        "mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] as laion2b_s32b_b82k",
        "mean: [0.481455, 0.457827, 0.408211], std: [0.26863, 0.261303, 0.275777] as openai, laion",
        "write model.preprocess: {mean: [",
        "open_clip_config.json",
    ):
        assert part in words
    with pytest.raises(CheckpointError, match=r"which resize_mode they .*squash as dfn5b; write"):
        _of("ViT-H-14", "/weights/finetuned.pt")
    assert _of(AMBIGUOUS, "/weights/finetuned.pt", **HALF).mean == (0.5, 0.5, 0.5)


def test_random_weights_are_never_ambiguous() -> None:
    """Without it training from scratch would need a mean that nobody has."""
    found = _of(AMBIGUOUS, "none")
    assert _values(found) == OPENAI
    assert found.unknown == ("mean", "std")


# ---------------------------------------------------------------- the scenario and the configs


def test_the_scenario_beats_what_else_is_said() -> None:
    """Without it a wrong config could not be set right."""
    found = _of("ViT-B-16-SigLIP", "webli", std=(1, 1, 0.25), interpolation="bilinear")
    assert _values(found) == {
        "mean": (0.5, 0.5, 0.5),
        "std": (1, 1, 0.25),
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    assert found.sources == ("OpenCLIP's weights webli", "model.preprocess")
    family = open_family(
        Model(name="tiny-vit", pretrained="none", preprocess=Preprocess(std=(1, 1, 0.25))), 0
    )
    white = np.full((1, 3, 1, 1), 255, np.uint8)
    expected = [(1 - m) / s for m, s in zip(OPENAI["mean"], (1, 1, 0.25), strict=True)]
    assert family.normalise(white).flatten().tolist() == pytest.approx(expected)


def test_the_config_beside_the_weights_says_it(tmp_path: Path) -> None:
    """Without it a folder as Hugging Face has it would be fed CLIP's mean."""
    file = _weights(tmp_path / "a", file="open_clip_model.safetensors")
    _config(tmp_path / "a", **HALF, resize_mode="squash", fill_color=0, size=224)
    for path in (tmp_path / "a", file):
        found = _of(AMBIGUOUS, path)
        assert _values(found) == {**HALF, "interpolation": "bicubic", "resize_mode": "squash"}
        assert found.sources[0] == "open_clip_config.json"
    (tmp_path / "link.pt").symlink_to(file)
    assert _of(AMBIGUOUS, tmp_path / "link.pt").mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2,
             "size": {"height": 8, "width": 8}},
            {**HALF, "interpolation": "bilinear", "resize_mode": "squash"},
        ),
        (
            {"image_mean": [0.1] * 3, "image_std": [0.2] * 3, "size": {"shortest_edge": 8}},
            {"mean": (0.1,) * 3, "std": (0.2,) * 3},
        ),
        ({"do_normalize": False, "size": 8}, {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
        (
            {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3,
             "resample": "BICUBIC"},
            {"mean": (0.5,) * 3, "std": (0.2,) * 3},
        ),
        (
            {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [0.5] * 3},
            {"mean": (0.5,) * 3, "std": (0.25,) * 3},
        ),
        (
            {"size": {"height": 8, "width": 8}, "do_center_crop": True,
             "crop_size": {"height": 8, "width": 8}, "rescale_factor": None},
            {"resize_mode": "squash"},
        ),
        ({"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}}, {}),
        ({"image_mean": [0.48145, 0.45783, 0.40821], "do_normalize": None}, {
            "mean": (0.48145, 0.45783, 0.40821)}),
    ],
    ids=["SigLIP", "CLIP", "plain", "in pixels", "in halves", "cropped", "CLIP 2", "rounded"],
)  # fmt: skip
def test_hugging_faces_image_processor_says_it(said: Any, expected: Any, tmp_path: Path) -> None:
    """Without it the folder that `save_pretrained` writes would be read in half."""
    _weights(tmp_path, file="model.safetensors")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert _values(_of("tiny-vit", tmp_path)) == {**OPENAI, **expected}


def test_the_newer_processor_config_is_read(tmp_path: Path) -> None:
    """Without it what newer versions of Hugging Face's library write would be left out."""
    _weights(tmp_path, file="model.safetensors")
    said = {"image_processor": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}}
    (tmp_path / "processor_config.json").write_text(json.dumps(said))
    found = _of("tiny-vit", tmp_path)
    assert _values(found) == {**OPENAI, **HALF, "interpolation": "bilinear"}
    assert found.sources[0] == "processor_config.json"


@pytest.mark.parametrize(
    ("said", "message", "answer"),
    [
        ({"resample": 1}, "interpolation: 'lanczos'", {"interpolation": "bicubic"}),
        ({"resample": 0}, "interpolation: 'nearest'", {"interpolation": "bicubic"}),
        ({"resample": 9}, "interpolation: 'resample 9'", {"interpolation": "bicubic"}),
        ({"resample": True}, "interpolation: True", {"interpolation": "bicubic"}),
        ({"resample": "Lanczos"}, "interpolation: 'lanczos'", {"interpolation": "bicubic"}),
        ({"resample": [2]}, r"interpolation: \[2\]", {"interpolation": "bicubic"}),
        (
            {"size": {"longest_edge": 8}},
            "resize_mode: \"size {'longest",
            {"resize_mode": "shortest"},
        ),
        (
            {"size": {"shortest_edge": 9}, "crop_size": {"height": 8, "width": 8}},
            "resize_mode: .*crop_size",
            {"resize_mode": "shortest"},
        ),
        ({"size": 8, "do_resize": False}, 'resize_mode: "?.size 8', {"resize_mode": "shortest"}),
        ({"image_mean": 0.5}, "mean: 0.5", {"mean": list(OPENAI["mean"])}),
        ({"image_mean": ["0.5"] * 3}, "mean.0: '0.5'", {"mean": list(OPENAI["mean"])}),
        ({"rescale_factor": "1/255"}, 'std: "rescale_factor', {"std": list(OPENAI["std"])}),
        ({"rescale_factor": 0}, "std: 'rescale_factor 0'", {"std": list(OPENAI["std"])}),
    ],
)
def test_what_a_processor_says_and_nobody_does_here_is_an_error_whose_answer_works(
    said: Any, message: str, answer: Any, tmp_path: Path
) -> None:
    """Without it images would silently be resized otherwise, or the advice not help."""
    path = _weights(tmp_path, file="model.safetensors").parent
    (path / "preprocessor_config.json").write_text(json.dumps(said))
    words = f"its preprocessor_config.json says {message}.*model.preprocess: .* own choice"
    with pytest.raises(CheckpointError, match=words) as caught:
        _of("tiny-vit", path)
    advice = re.search(r"model.preprocess: (\{.*\}) \(", str(caught.value))
    assert advice is not None
    proposed = yaml.safe_load(advice[1])
    assert set(proposed) == set(answer)
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in proposed.items()}
    assert getattr(_of("tiny-vit", path, **given), next(iter(answer))) == next(iter(given.values()))
    family = open_family(
        Model(name="tiny-vit", pretrained="none", preprocess=Preprocess(**given)), 0
    )
    assert family.fitted(path, "it")
    with pytest.raises(CheckpointError, match=message):
        open_family(Model(name="tiny-vit", pretrained="none"), 0).fitted(path, "it")


def test_a_scenario_that_says_all_needs_no_config_that_can_be_read(tmp_path: Path) -> None:
    """Without it a broken file would stand in the way of who knows what is right."""
    _weights(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("<html>")
    assert _of("tiny-vit", tmp_path, **{**OPENAI, **HALF}).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("digits", [4, 5, 6, 7])
def test_a_mean_that_is_rounded_is_no_contradiction(digits: int, tmp_path: Path) -> None:
    """Without it 0.48145 and 0.48145466 would be two means: 0.4814 and 0.4815."""
    folder = _weights(tmp_path, file="model.safetensors").parent
    _config(folder, mean=list(OPENAI["mean"]), std=list(OPENAI["std"]))
    said = {"image_mean": [round(v, digits) for v in OPENAI["mean"]]}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    assert _of("tiny-vit", folder).mean == OPENAI["mean"]


def test_configs_that_contradict_each_other_are_an_error_that_names_both(tmp_path: Path) -> None:
    """Without it the first of two files would win, whichever is wrong."""
    folder = _weights(tmp_path / "a", file="model.safetensors").parent
    _config(folder, **HALF)
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    words = (
        r"std is said in different ways: std: \[0.5, 0.5, 0.5\] \(open_clip_config.json\); std: "
        r"\[0.25, 0.25, 0.25\] \(preprocessor_config.json\); write what is right as model"
    )
    with pytest.raises(CheckpointError, match=words):
        _of(AMBIGUOUS, folder)
    found = _of(AMBIGUOUS, folder, std=(0.25, 0.25, 0.25))
    assert (found.mean, found.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    (folder / "preprocessor_config.json").unlink()
    link = tmp_path / "b" / "open_clip_model.safetensors"
    link.parent.mkdir()
    link.symlink_to(folder / "model.safetensors")
    _config(link.parent, mean=[0.25] * 3)
    with pytest.raises(
        CheckpointError, match=r"\(open_clip_config.json\); .*config.json in /.*/a\)"
    ):
        _of(AMBIGUOUS, link)


def test_activations_that_contradict_each_other_are_an_error_that_names_both(
    tmp_path: Path,
) -> None:
    """Without it the pickled model's activation would win over its config's without a word."""
    state = open_clip.create("tiny-vit-quickgelu", 1).state_dict()
    for key, value in (("input_resolution", 32), ("context_length", 32), ("vocab_size", 49408)):
        state[key] = torch.tensor(value)
    torch.save(state, tmp_path / "model.pt")
    for said, fits in (({}, True), ({"quick_gelu": True}, True), ({"quick_gelu": False}, False)):
        config = tmp_path / "open_clip_config.json"
        config.write_text(json.dumps({"model_cfg": {"vision_cfg": {}, **said}}))
        if fits:
            assert checkpoints.read(tmp_path).activation == "quick_gelu"
        else:
            with pytest.raises(CheckpointError, match=r"is quick_gelu, and open_clip_config\.json"):
                checkpoints.read(tmp_path)


def test_nulls_of_one_config_do_not_hide_the_other(tmp_path: Path) -> None:
    """Without it a config that says nothing would stand before one that says something."""
    _weights(tmp_path, file="model.safetensors")
    empty = {"preprocess_cfg": {"mean": None, "std": None}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(empty))
    said = {"image_mean": [0.1] * 3, "image_std": [0.2] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert _of("tiny-vit", tmp_path).mean == (0.1,) * 3


@pytest.mark.parametrize("values", [{"mean": [123.7, 116.3, 103.5]}, {"std": [58.0, 57.0, 57.0]}])
def test_a_mean_of_pixels_is_refused(values: Any) -> None:
    """Without it images would come out all but black, and every feature wrong."""
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Preprocess.model_validate(values)


def test_a_config_among_other_files_is_a_question(tmp_path: Path) -> None:
    """Without it the config of one download would be taken for another's, or dropped in silence."""
    file = _weights(tmp_path)
    _config(tmp_path, **HALF)
    assert _of("tiny-vit", file).mean == (0.5, 0.5, 0.5), "it is alone"
    _weights(tmp_path, file="other.pt")
    whose = r"open_clip_config.json, which may be of other weights in its folder"
    with pytest.raises(
        CheckpointError, match=rf"mean is said in different ways: .*\({whose}\); write"
    ):
        _of("tiny-vit", file)
    for given in (HALF, {key: OPENAI[key] for key in HALF}):
        assert _of("tiny-vit", file, **given).mean == given["mean"]
    with pytest.raises(CheckpointError, match=rf"own.pt \({whose}, says mean: .*: nothing says"):
        _of(AMBIGUOUS, file)
    started = Model(name="tiny-vit", pretrained="none")
    with pytest.raises(
        CheckpointError, match=rf"\({whose}\), .*model.preprocess: .*, else \{{mean"
    ):
        open_family(started, 0).fitted(file, "it")
    for given in (HALF, {key: OPENAI[key] for key in HALF}):
        family = open_family(started.model_copy(update={"preprocess": Preprocess(**given)}), 0)
        assert family.fitted(file, "it")
    _config(tmp_path, **{key: OPENAI[key] for key in HALF})
    assert _of("tiny-vit", file).sources == ("OpenCLIP's own choice",), "it says the same"
    (tmp_path / "open_clip_config.json").write_text("<html>")
    assert _of("tiny-vit", file).mean == OPENAI["mean"]


def test_what_contradicts_itself_is_an_error(tmp_path: Path) -> None:
    """Without it a folder called after other weights would be believed, or not, by chance."""
    folder = tmp_path / "openai"
    _weights(folder)
    _config(folder, **HALF)
    with pytest.raises(
        CheckpointError,
        match=r"ViT-L-14: mean is said in different ways: mean: \[0.5, 0.5, 0.5\] \(open_clip_config"
        r".json\); .*weights openai\); write what is right as model.preprocess: \{mean",
    ):
        _of(AMBIGUOUS, folder)
    assert _of(AMBIGUOUS, folder, **HALF).std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"preprocess_cfg": {"mean": [0.5, 0.5]}}',
            r"its open_clip_config.json says mean: .*at least 3",
        ),
        ('{"preprocess_cfg": {"std": [0, 1, 1]}}', r"says std.0: 0: .*greater than 0"),
        ('{"preprocess_cfg": {"interpolation": "random"}}', "interpolation: 'random'"),
        ("<html>", "is not JSON"),
    ],
)
def test_a_config_that_cannot_be_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    """Without it a broken config would be left out without a word."""
    _weights(tmp_path)
    (tmp_path / "open_clip_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        _of("tiny-vit", tmp_path)


def test_openais_own_format_says_openais_mean(tmp_path: Path) -> None:
    """Without it the file that OpenAI published would be called ambiguous."""
    state = open_clip.create("tiny-vit-quickgelu", 1).state_dict()
    for key, value in (("input_resolution", 32), ("context_length", 32), ("vocab_size", 49408)):
        state[key] = torch.tensor(value)
    torch.save(state, tmp_path / "ViT-L-14.pt")
    found = _of(AMBIGUOUS, tmp_path / "ViT-L-14.pt")
    assert (found.mean, found.sources) == (OPENAI["mean"], ("OpenAI's format",))


# ---------------------------------------------------------------- clients' checkpoints


def test_a_clients_checkpoint_of_another_mean_is_an_error(tmp_path: Path) -> None:
    """Without it an expert fine-tuned from other weights would be fed what it never saw."""
    folder = tmp_path / "expert"
    _weights(folder)
    _config(folder, **HALF)
    with pytest.raises(
        CheckpointError,
        match=r"^it was trained on images of mean: \[0.5, .*open_clip_config.json\), and tiny-vit "
        r"gets mean: \[0.48.*; if the checkpoint is right, write model.preprocess: \{mean: \[0.5",
    ) as caught:
        open_family(Model(name="tiny-vit", pretrained="none"), 0).fitted(folder, "it")
    assert "mean" not in caught.value.public_reason
    given = Model(name="tiny-vit", pretrained="none", preprocess=Preprocess(**HALF))
    assert open_family(given, 0).fitted(folder, "it")


def test_a_checkpoint_is_not_ambiguous_because_the_start_is_random() -> None:
    """Without it `pretrained: none` would be a way round the question."""
    chosen = _of(AMBIGUOUS, "none")
    with pytest.raises(CheckpointError, match="it: nothing says which mean and std"):
        _preprocessing.require_alike(chosen, [], AMBIGUOUS, "it")
    openai = _preprocessing.of_file(Path("openai.pt"), AMBIGUOUS)
    _preprocessing.require_alike(chosen, openai, AMBIGUOUS, "it")


# ---------------------------------------------------------------- activation


@pytest.mark.parametrize(
    ("name", "file", "right"),
    [
        ("ViT-B-32", "openai.safetensors", "ViT-B-32-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k.safetensors", "ViT-B-32"),
        ("ViT-L-14", "l14_fullcc2.5b.pt", "ViT-L-14-quickgelu"),
    ],
)
def test_a_files_name_tells_its_activation(name: str, file: str, right: str) -> None:
    """Without it the same weights would run with GELU as a file and be refused as a tag."""
    with pytest.raises(CheckpointError, match=f"QuickGELU.*; write model.name: {right}$"):
        open_family(Model(name=name, pretrained=f"/weights/{file}"), 0)
    assert open_family(Model(name=right, pretrained=f"/weights/{file}"), 0)


@pytest.mark.parametrize("quick", [True, False])
def test_openclips_config_tells_the_activation(quick: bool, tmp_path: Path) -> None:
    """Without it a downloaded folder would run with the other activation, silently."""
    own, other = ("tiny-vit-quickgelu", "tiny-vit") if quick else ("tiny-vit", "tiny-vit-quickgelu")
    _weights(tmp_path, own)
    model = {"embed_dim": 16, "vision_cfg": {}} | ({"quick_gelu": True} if quick else {})
    said = {"model_cfg": model}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(said))
    assert open_family(Model(name=own, pretrained=str(tmp_path)), 0).encoder()
    with pytest.raises(CheckpointError, match=f"activation .* write model.name: {own}$"):
        open_family(Model(name=other, pretrained=str(tmp_path)), 0).encoder()


# ---------------------------------------------------------------- what follows from it


def test_other_inputs_make_another_expert(data: Path, tmp_path: Path) -> None:
    """Without it an expert trained on other inputs would be taken from the cache."""
    keys = []
    for given in ({}, OPENAI, HALF, {"resize_mode": "squash"}):
        model = {
            **tiny.MODEL,
            "preprocess": {k: v if isinstance(v, str) else list(v) for k, v in given.items()},
        }
        known = tiny.released(tmp_path, data, model=model).setting
        task = known.tasks["first"]
        client = known.scenario.clients[0]
        recipe = experts.recipe(known.scenario, client, "A", known.family, task, 3)
        keys.append(recipe.key)
    assert keys[0] == keys[1], "the same, said aloud"
    assert len(set(keys)) == 3


def test_every_party_resizes_as_the_model_wants_it(tmp_path: Path) -> None:
    """Without it the server's queries and the clients' would be different images."""
    for name in ("first", "second"):
        tiny.images(tmp_path / name, ("dark", "light"), each=9, seed=len(name))
        for path in (tmp_path / name).glob("*/*.bmp"):
            Image.open(path).resize((24, 12)).save(path)
    model = {**tiny.MODEL, "preprocess": {"resize_mode": "squash"}}
    known = tiny.released(tmp_path, tmp_path, model=model)
    task = known.setting.tasks["first"]
    question = known.questions_at("A", "evaluation", 1.0)[0]
    at = task.indices("evaluation", len(question.images))
    assert np.array_equal(question.images, task.pixels(at, known.setting.family.resize))
    assert not np.array_equal(question.images, task.pixels(at, 32))


def test_weights_that_cannot_be_fetched_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the error would be a class name, and its advice lose the weights' own mean."""

    def fails(*args: Any, **options: Any) -> None:
        try:
            raise OSError("Name or service not known")
        except OSError as error:
            raise RuntimeError("Failed to download weights") from error

    monkeypatch.setattr(library, "create_model", fails)
    with pytest.raises(
        CheckpointError,
        match=r"'laion2b_s32b_b82k' of ViT-L-14 cannot be fetched: Name or service not known; fetch "
        r".*call the file laion2b_s32b_b82k.safetensors .*as `pretrained`$",
    ) as caught:
        open_family(Model(name=AMBIGUOUS, pretrained="laion2b_s32b_b82k"), 0).encoder()
    reason = caught.value.public_reason or ""  # what the line of a run's error has
    assert "cannot be fetched; fetch laion2b_s32b_b82k.safetensors where there is" in reason
