"""Every name that OpenCLIP knows: what runs, what is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip as library
import pytest
import tiny
import torch
from command_line import Line

from neulig_fl.config.scenario import Model
from neulig_fl.core.errors import CheckpointError
from neulig_fl.models.families import _text, open_clip, open_family
from neulig_fl.models.inspection import look
from neulig_fl.study import runs

COCA = ("coca_base", "coca_ViT-B-32", "coca_ViT-L-14", "coca_roberta-ViT-B-32")
WORDS = ("[PAD]", "[UNK]", "[EOS]", "a", "photo", "of", "dark", "light", "low", "middle", "high")


def _names() -> list[str]:
    """OpenCLIP's own, without those of the tests."""
    ours = {path.stem for path in Path(__file__).parents[1].joinpath("tiny_models").glob("*.json")}
    return [name for name in open_clip.model_names() if name not in ours]


def _need_transformers() -> list[str]:
    texts = {name: library.get_model_config(name)["text_cfg"] for name in _names()}
    return [n for n, said in texts.items() if {"hf_model_name", "hf_tokenizer_name"} & set(said)]


@pytest.mark.parametrize("there", [True, False])
def test_every_name_is_opened_or_says_what_it_needs(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a name of the list would pass `check` and end a run, or ask to be reported."""
    monkeypatch.setattr(_text, "installed", lambda: there)
    needing = _need_transformers()
    refused: dict[str, str] = {}
    assert len(_names()) > 140
    assert len(needing) >= 49
    for name in _names():
        config = library.get_model_config(name)
        try:
            family = open_family(Model(name=name, pretrained="none"), 0)
        except CheckpointError as error:
            refused[name] = str(error)
            continue
        assert family.dim == config["embed_dim"]
        assert family.image_size == config["vision_cfg"].get("image_size", 224)
    assert list(refused) == ([] if there else needing)
    for name, words in refused.items():
        assert words.startswith(f"model {name} has a t")
        assert words.endswith(
            "of Hugging Face's, which needs the package transformers; pip install "
            "'neulig-fl[transformers]'"
        )


@pytest.mark.slow
def test_every_image_encoder_gives_features_of_its_width() -> None:
    """Without it a tower that gives tokens as well, or of another width, would pass `check`."""
    seen: dict[str, torch.Size] = {}
    for name in _names():
        family = open_clip.encoder_alone(name)
        config = library.get_model_config(name)
        said = json.dumps([config["vision_cfg"], config["embed_dim"]], sort_keys=True)
        if said not in seen:
            images = torch.empty(2, 3, family.image_size, family.image_size, device="meta")
            features = family._meta_visual.eval()(images)
            assert isinstance(features, torch.Tensor), name
            seen[said] = features.shape
        assert seen[said] == (2, family.dim), name
    assert len(seen) > 80


def test_images_that_are_not_square_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the width would be taken for the height."""
    config = library.get_model_config("tiny-vit")
    config["vision_cfg"]["image_size"] = [32, 48]
    monkeypatch.setitem(library.factory._MODEL_CONFIGS, "tiny-vit", config)
    with pytest.raises(CheckpointError, match="tiny-vit sees images of 32 x 48, and only square"):
        open_family(Model(name="tiny-vit", pretrained="none"), 0)


def test_check_says_what_is_to_be_installed(
    line: Line, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the first error would come when the first head is made."""
    monkeypatch.setattr(_text, "installed", lambda: False)
    model = {"name": "roberta-ViT-B-32", "pretrained": "none"}
    ended = line("check", tiny.write(tmp_path, data, model=model))
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert (
        "has a text tower of Hugging Face's, which needs the package transformers; pip" in ended.err
    )


def test_inspect_needs_no_text_tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the image encoder of a SigLIP could not be looked at without its tokeniser."""
    monkeypatch.setattr(_text, "installed", lambda: False)
    torch.save(open_clip.create("tiny-siglip", 1).visual.state_dict(), tmp_path / "own.pt")
    assert look(tmp_path / "own.pt", "tiny-siglip").fault is None


def test_coca_is_an_encoder_like_the_others(data: Path, tmp_path: Path) -> None:
    """Without it CoCa's four names, whose tower gives a tuple, would crash after `check`."""
    assert all(library.get_model_config(name)["vision_cfg"]["output_tokens"] for name in COCA)
    family = open_family(Model(name="tiny-coca", pretrained="none"), 0)
    images = np.zeros((2, 3, 32, 32), np.uint8)
    whole = open_clip.create("tiny-coca", family._seed).eval()  # type: ignore[attr-defined]
    for encoder in (family.encoder(), family.fresh_encoder(family._seed)):  # type: ignore[attr-defined]
        features = encoder(family.normalise(images))
        expected = whole.encode_image(family.normalise(images), normalize=False)
        assert torch.equal(features, expected)
    report = tiny.run(tmp_path, data, model={"name": "tiny-coca", "pretrained": "none"})
    assert [row["status"] for row in tiny.results(report)[1] if row["method"] == "neulig"] == ["ok"]


# ---------------------------------------------------------------- with transformers


@pytest.fixture
def text_files(tmp_path: Path) -> Path:
    """A folder as `hf download` makes it: a tokeniser of a few words, and RoBERTa's config."""
    import tokenizers
    import transformers

    folder = tmp_path / "text"
    words = tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)
    transformers.RobertaConfig(
        vocab_size=64, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=40, pad_token_id=0,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.mark.parametrize("name", ["tiny-siglip", "tiny-roberta"])
def test_text_of_hugging_faces_runs_from_a_folder(
    name: str, text_files: Path, data: Path, tmp_path: Path, line: Line
) -> None:
    """Without it 49 of OpenCLIP's names could not be used without a network."""
    model = {"name": name, "pretrained": "none", "text_files": "text"}
    ended = line("check", tiny.write(tmp_path, data, model=model))
    assert (ended.code, ended.err) == (0, "")
    report = runs.run(tmp_path / "scenario.yaml", engine="local", out=tmp_path / "out")
    rows = [row for row in tiny.results(report)[1] if row["method"] == "neulig"]
    assert [row["status"] for row in rows] == ["ok"]


def test_text_files_are_found_with_the_weights(text_files: Path) -> None:
    """Without it a folder that was downloaded whole would need to be named twice."""
    torch.save(open_clip.create("tiny-siglip", 4).state_dict(), text_files / "own.pt")
    for path in (text_files, text_files / "own.pt"):
        family = open_family(Model(name="tiny-siglip", pretrained=str(path)), 0)
        assert family.tokens(["A photo, of LIGHT"])[0][:4] == (3, 4, 5, 7)
        assert family.head(("dark", "light"), ("a {}",)).shape == (2, 24)


@pytest.mark.parametrize(("name", "part"), [("tiny-siglip", "tokeniser"), ("tiny-roberta", "text")])
def test_missing_text_files_are_named(
    name: str, part: str, text_files: Path, data: Path, tmp_path: Path, line: Line
) -> None:
    """Without it the error would be a traceback of another library's."""
    (tmp_path / "empty").mkdir()
    model = {"name": name, "pretrained": "none", "text_files": "empty"}
    ended = line("check", tiny.write(tmp_path, data, model=model))
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert f"model {name}: the {part}" in ended.err
    assert f"of nobody/{name} is not in {tmp_path / 'empty'}: " in ended.err
    assert f"`hf download nobody/{name} --local-dir FOLDER`" in ended.err
    assert "write model.text_files: FOLDER" in ended.err
