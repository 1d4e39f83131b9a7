"""Where the classes of an image folder lie: below its root, or below the parts of a split.

`train/` and `test/` with the same class folders are a published split. Everything else that looks
like one is a question to the user, who answers with `train_splits`, `test_splits` or `classes`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from neulig_fl.core.errors import DataError, nearest, plain
from neulig_fl.data import split_names
from neulig_fl.data.image_questions import (
    as_classes,
    ask_about_classes,
    ask_about_root,
    ask_about_spellings,
    excluded,
    spelling,
    splits,
    word,
)
from neulig_fl.data.image_walk import NO_CLASS, NO_PART, Walk

WHOLE = ""
"""The only part, where there is no split."""

_CONVENTION = ("train", "val", "test")
"""Parts that need no word in the scenario; `val` may be missing, and counts as training."""

Folders = Mapping[str, Path]


@dataclass(frozen=True)
class Layout:
    """Class folders by part and by class, and which parts are held out."""

    parts: Mapping[str, Folders]
    held_out: Mapping[str, bool]


@dataclass(frozen=True)
class Answers:
    """What the user says of a folder.

    Args:
        train: parts that train; None: not said.
        test: parts that are evaluated on; None: not said.
        classes: names of class folders; None: not said.
    """

    train: Sequence[str] | None = None
    test: Sequence[str] | None = None
    classes: Collection[str] | None = None


def layout(walk: Walk, answers: Answers) -> Layout:
    """Find the class folders.

    Args:
        walk: of the root; what is left out is counted there.
        answers: the user's.

    Raises:
        DataError: no such folder, fewer than two classes, parts that do not fit together, or a
            folder of which it is not clear what it is.
    """
    if not walk.root.is_dir():
        raise DataError(
            f"imagefolder {plain(walk.root)}: no such folder; `root` must hold one folder per "
            "class",
            public_reason="its image folder is missing",
        )
    walk.count_beside(walk.root, NO_CLASS)
    walk.require_reached()
    found = _named(walk, walk.root)
    if answers.train is not None or answers.test is not None:
        return _by_parts(walk, found, answers)
    named = any(name in found for name in answers.classes or ())
    if not named:
        usual = _usual_split(walk, found)
        if usual is not None:
            return usual
        ask_about_root(walk, found)
    _require_two(walk, found)
    if not named:
        ask_about_spellings(walk, found)
    ask_about_classes(walk, found)
    return Layout({WHOLE: found}, {WHOLE: False})


def _named(walk: Walk, folder: Path) -> dict[str, Path]:
    """Folders in a folder, whose names can stand in prompts, scenarios and reports.

    Raises:
        DataError: a name is not UTF-8, or holds a line break or another control character.
    """
    found = walk.folders(folder)
    for name, path in found.items():
        bad = {unicodedata.category(sign) for sign in name} & {"Cc", "Cs"}
        if bad:
            what = "is not UTF-8" if "Cs" in bad else "holds a line break or control character"
            pattern = "".join("?" if unicodedata.category(c) in bad else escape(c) for c in name)
            raise DataError(
                f"imagefolder {plain(walk.root)}: the name of folder {walk.name(path)} {what}; "
                f"rename it, or leave it out (`exclude: [{word(pattern)}]`)",
                public_reason="a folder of its image folder has a name that is no text",
            )
    return found


def _usual_split(walk: Walk, found: Folders) -> Layout | None:
    """The layout of `train/` and `test/`, if both hold folders."""
    parts = {name: _named(walk, found[name]) for name in _CONVENTION if name in found}
    if not (parts.get("train") and parts.get("test")):
        return None
    odd = [name for name in found if name not in parts]
    if odd:
        train, test = split_names.proposed(
            [*parts, *(n for n in odd if n in split_names.roles(odd))]
        )
        raise _misfit(
            walk,
            f"{odd[0]}/ lies beside train/ and test/; say which folders are the parts "
            f"({splits(train, test)}), or leave out what is none ({excluded(walk, odd)})",
        )
    _require_alike(walk, parts)
    _require_two(walk, parts["train"])
    for name in parts:
        walk.count_beside(found[name], NO_CLASS)
    return Layout(parts, {name: name == "test" for name in parts})


def _by_parts(walk: Walk, found: Folders, answers: Answers) -> Layout:
    """The layout of the parts that the user names: folders of the root, or of every class."""
    named = (*(answers.train or ()), *(answers.test or ()))
    inside = {name: _named(walk, folder) for name, folder in found.items()}
    within = any(name in each for each in inside.values() for name in named)
    first = not within or any(name in found for name in named)
    there = list(found) if first else sorted({name for each in inside.values() for name in each})
    held_out = split_names.chosen(there, answers.train, answers.test)
    for name in held_out:
        if name not in there:
            raise _misfit(walk, f"no part {name!r}; {nearest(name, there)}")
    beside = found if first else {f"{c}/{n}": p for c in inside for n, p in inside[c].items()}
    for name, path in beside.items():
        if name.rpartition("/")[2] not in held_out:
            walk.leave(NO_PART, path)
    for name, folder in found.items():
        if not first or name in held_out:
            walk.count_beside(folder, NO_CLASS if first else NO_PART)
    parts = {
        part: inside[part] if first else {c: inside[c][part] for c in inside if part in inside[c]}
        for part in held_out
    }
    _require_alike(walk, parts)
    _require_two(walk, next(iter(parts.values())))
    return Layout(parts, held_out)


def _require_alike(walk: Walk, parts: Mapping[str, Folders]) -> None:
    """Every part has the same classes."""
    first, *others = parts
    for part in others:
        odd = sorted(set(parts[part]) ^ set(parts[first]))
        if odd:
            alike = {name for name in odd if spelling(name) == spelling(odd[0])}
            hint = (
                f" ({' and '.join(sorted(alike))} differ in case alone)" if alike > {odd[0]} else ""
            )
            raise _misfit(
                walk,
                f"{part}/ and {first}/ differ in the class folder {odd[0]!r}{hint}; every part of "
                f"a split has the same class folders; leave it out ({excluded(walk, [odd[0]])})"
                f"{_as_classes(walk, parts)}",
            )


def _as_classes(walk: Walk, parts: Mapping[str, Folders]) -> str:
    """The answer that takes parts for classes, where they lie in the root."""
    beside = set(parts) <= set(walk.folders(walk.root))
    return f", or if parts are classes, name them ({as_classes(parts)})" if beside else ""


def _require_two(walk: Walk, classes: Folders) -> None:
    if len(classes) >= 2:
        return
    hint = ""
    for name, folder in classes.items():
        if len(walk.folders(folder)) >= 2:
            hint = f"; if the classes lie in {plain(name)}/, set root to that folder"
    raise DataError(
        f"imagefolder {plain(walk.root)}: {len(classes)} class folder(s); a task needs 2 or "
        f"more{hint}",
        public_reason="its image folder has fewer than two classes",
    )


def _misfit(walk: Walk, what: str) -> DataError:
    reason = "the parts of its image folder do not fit together"
    return DataError(f"imagefolder {plain(walk.root)}: {what}", public_reason=reason)
