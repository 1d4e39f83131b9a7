"""What looks like a part of a split, by its name."""

from __future__ import annotations

import pytest

from neulig_fl.data import split_names


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (("train", "TRAIN", "Training", "train_set", "train2017", "images-train", "trainval"), "train"),
        (("val", "Valid", "validation", "dev", "val_images", "02_val"), "validation"),
        (("test", "Testing", "eval", "Evaluation", "hold-out", "holdout", "test.set"), "test"),
        (("fold1", "Fold_2", "cv 3", "split-0", "part2", "batch10"), "fold"),
        (("dog", "train station", "test tube", "valley", "devil", "part", "fold", "batch", "3"), None),
        (("trains", "testament", "7", "猫", "data", "images", ""), None),
    ],
)  # fmt: skip
def test_a_name_tells_a_part_from_a_class(names: tuple[str, ...], role: str | None) -> None:
    """Without it a split would become classes, or classes be taken for a split."""
    assert {name: split_names.role(name) for name in names} == dict.fromkeys(names, role)


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (["train", "val"], ["train"], ["val"]),
        (["Test", "Train", "valid"], ["Train", "valid"], ["Test"]),
        (["dev", "test"], ["dev"], ["test"]),
        (["fold1", "fold2", "fold3"], ["fold1", "fold2"], ["fold3"]),
        (["train"], ["train"], []),
    ],
)
def test_the_proposal_evaluates_on_the_test_part(
    names: list[str], train: list[str], test: list[str]
) -> None:
    """Without it the YAML that an error proposes would train on the test part."""
    assert split_names.proposed(names) == (train, test)


def test_parts_that_nobody_named_are_chosen_by_their_exact_names() -> None:
    """Without it a data set without a word on its splits would have none, or be guessed at."""
    chosen = split_names.chosen
    assert chosen(["train", "test", "val"], None, None) == {"train": False, "test": True}
    assert chosen(["train", "val"], None, None) == {"train": False, "val": True}
    assert chosen(["all"], None, None) == {"all": False}
    assert chosen(["a", "b"], ["b"], ["a"]) == {"b": False, "a": True}
    assert chosen(["train", "test"], ["train", "test"], []) == {"train": False, "test": False}
