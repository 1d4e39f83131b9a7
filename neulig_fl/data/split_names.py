"""What looks like a part of a published split by its name, and which parts are evaluated on.

A name alone decides nothing: what looks like a split is a question to the user.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

TEST = ("test", "validation", "valid", "val")
"""Names of a part that is evaluated on; the first that is there."""

_TRAINING = frozenset({"train", "training", "trn", "trainset", "trainval", "trainingset", "tr"})
_VALIDATION = frozenset({"val", "valid", "validation", "dev", "devset", "valset", "validationset"})
_TESTING = frozenset(
    {"test", "testing", "tst", "eval", "evaluation", "holdout", "heldout", "testset", "evalset"}
)
_PIECES = frozenset({"fold", "cv", "split", "part", "batch", "chunk"})
_FILLERS = frozenset(
    {
        "set", "sets", "data", "dataset", "split", "part", "image", "images", "img", "imgs",
        "photos", "pictures", "folder", "hold", "out", "held",
    }
)  # fmt: skip


def role(name: str) -> str | None:
    """What a folder or split is by its name: `train`, `validation`, `test`, `fold`, or None.

    Case, digits and words such as "set" or "images" do not count.

    Example:
        >>> [role(each) for each in ("Training", "val2017", "test_images", "fold_3", "a train")]
        ['train', 'validation', 'test', 'fold', None]
    """
    words = re.findall(r"[^\W\d_]+", name.casefold())
    if re.search(r"\d", name) and len(words) == 1 and words[0] in _PIECES:
        return "fold"
    if "".join(words) in ("holdout", "heldout"):
        return "test"
    left = [word for word in words if word not in _FILLERS]
    kinds = (("train", _TRAINING), ("validation", _VALIDATION), ("test", _TESTING))
    return next((kind for kind, known in kinds if len(left) == 1 and left[0] in known), None)


def roles(names: Collection[str]) -> dict[str, str]:
    """The role of each name that has one, also of those that differ in such a word alone.

    Example:
        >>> roles(["cat_train", "cat_test", "dog train", "val"])
        {'cat_train': 'train', 'cat_test': 'test', 'val': 'validation'}
    """
    parts = {name: part for name in names if (part := _without_role(name))}
    found = {}
    for name in names:
        kind = role(name)
        if kind is None and name in parts:
            rest, mine = parts[name]
            differ = any(rest == other and mine != its for other, its in parts.values())
            kind = mine if differ else None
        if kind is not None:
            found[name] = kind
    return found


def _without_role(name: str) -> tuple[tuple[str, ...], str] | None:
    """The words of a name without the one that is a role, and that role."""
    words = re.findall(r"[^\W\d_]+", name.casefold())
    found = [(i, kind) for i, word in enumerate(words) if (kind := role(word))]
    if len(found) != 1:
        return None
    place, kind = found[0]
    return (*words[:place], *words[place + 1 :]), kind


def proposed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which of some parts would train, and which would be evaluated on, if they are a split.

    Example:
        >>> proposed(["Test", "Train", "valid"]), proposed(["fold1", "fold2"])
        ((['Train', 'valid'], ['Test']), (['fold1'], ['fold2']))
    """
    known = roles(names)
    by = {
        kind: [n for n in names if known.get(n) == kind] for kind in ("test", "validation", "fold")
    }
    test = by["test"] or by["validation"] or by["fold"][-1:]
    return [name for name in names if name not in test], test


def chosen(
    there: Sequence[str], train: Sequence[str] | None, test: Sequence[str] | None
) -> dict[str, bool]:
    """The parts that are used, and whether each is held out.

    Args:
        there: all parts, in order.
        train: those that the user named for training; None: `train`, or the only one.
        test: those that the user named for evaluation; None: the first of `TEST` that is there.

    Returns:
        Training parts first. Names that are not there are kept; the caller refuses them.
    """
    training = tuple(train or (("train",) if len(there) > 1 else there))
    if test is None:
        test = [name for name in TEST if name in there and name not in training][:1]
    return dict.fromkeys(training, False) | dict.fromkeys(test, True)
