"""What a checkpoint is found to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from neulig_fl.core.errors import CheckpointError, InputError
from neulig_fl.models import checkpoints, inspection
from neulig_fl.models.families import open_clip
from neulig_fl.models.inspection import look


def _state(seed: int = 1, name: str = "tiny-vit") -> dict[str, torch.Tensor]:
    return dict(open_clip.create(name, seed).visual.state_dict())


def _file(folder: Path, state: Any, name: str = "own.pt") -> Path:
    torch.save(state, folder / name)
    return folder / name


def test_an_expert_is_what_it_is(tmp_path: Path) -> None:
    """Without it the command would describe something else than what a run loads."""
    state = {f"visual.{k}": v.half() for k, v in _state().items()}
    path = _file(tmp_path, state | {"logit_scale": torch.ones(1), "transformer.a": torch.ones(2)})
    found = look(path)
    assert found.fault is None
    assert found.models() == (["tiny-vit", "tiny-vit-quickgelu"], [])
    assert found.like.prefix == "visual."
    assert found.dtypes == {"float16": len(state)}
    assert found.numbers == sum(v.numel() for v in state.values())
    assert found.left_out == ["logit_scale", "transformer"]
    assert found.sha256 == checkpoints.sha256(path)


def test_a_known_activation_leaves_the_models_that_have_it(tmp_path: Path) -> None:
    """Without it the user would be sent to a model of the same shapes and other answers."""
    for name, other in (("tiny-vit", "tiny-vit-quickgelu"), ("tiny-vit-quickgelu", "tiny-vit")):
        found = look(_file(tmp_path, open_clip.create(name, 1)))
        assert found.models() == ([name], [other])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: s["proj"].fill_(float("nan")), "holds values that are not finite: proj"),
        (lambda s: s["proj"][0].fill_(float("inf")), "holds values that are not finite: proj"),
        (
            lambda s: s.update({k: v.to(torch.int8) for k, v in s.items()}),
            "it holds class_embedding as int8; allowed: float16.*quantised model",
        ),
        (lambda s: s.pop("proj"), "no model that OpenCLIP knows"),
        (lambda s: s.clear() or s.update(w=torch.ones(1)), "no model that OpenCLIP knows"),
    ],
    ids=["NaN", "inf", "integers", "missing", "another"],
)
def test_what_no_scenario_can_use_has_a_fault(change: Any, fault: str, tmp_path: Path) -> None:
    """Without it the command would call good what ends a run."""
    state = _state()
    change(state)
    found = look(_file(tmp_path, state))
    with pytest.raises(CheckpointError, match=fault):
        raise CheckpointError(str(found.fault))


def test_batch_norms_counts_are_no_fault(tmp_path: Path) -> None:
    """Without it every ResNet would be called quantised."""
    found = look(_file(tmp_path, _state(name="micro-rn")))
    assert found.fault is None
    assert found.dtypes["int64"] > 0


def test_a_model_of_ones_choice_has_to_fit(tmp_path: Path) -> None:
    """Without it `--model` would ask for less than a run does."""
    path = _file(tmp_path, _state())
    assert look(path, "tiny-vit").fault is None
    assert look(path, "tiny-vit-quickgelu").fault is None
    assert str(look(path, "micro-vit").fault).startswith("it does not fit the model micro-vit; ")
    with pytest.raises(InputError, match="no model family knows 'tiny'"):
        look(path, "tiny")
    whole = _file(tmp_path, open_clip.create("tiny-vit", 1), "whole.pt")
    assert "write model.name: tiny-vit" in str(look(whole, "tiny-vit-quickgelu").fault)


def test_what_can_be_merged_and_what_not(tmp_path: Path) -> None:
    """Without it experts of two architectures would be found out in the middle of a run."""
    save_file(_state(1), tmp_path / "a.safetensors")
    found = [
        look(tmp_path / "a.safetensors"),
        look(_file(tmp_path, {f"module.{k}": v.bfloat16() for k, v in _state(2).items()}, "b.pt")),
        look(_file(tmp_path, _state(name="micro-vit"), "c.pt")),
        look(_file(tmp_path, open_clip.create("tiny-vit", 1), "d.pt")),
        look(_file(tmp_path, open_clip.create("tiny-vit-quickgelu", 1), "e.pt")),
    ]
    faults = inspection.misfits(found)
    assert [faults[0], faults[1], faults[3], faults[4]] == [None] * 4
    assert str(faults[2]).startswith("extra: ")
    assert "wrong shape: class_embedding (" in str(faults[2])
    assert inspection.misfits(found[3:]) == [None, "activation quick_gelu instead of gelu"]
    same, other = inspection.compare([found[0], found[3], found[1]])[:2]
    assert same.distance == 0.0
    assert other.distance > 0.5
