"""Where the classes of an image folder lie: below its root, or below the parts of a split.

`train/` and `test/` with the same class folders are a published split. Everything else that looks
like one is a question to the user, who answers with `train_splits`, `test_splits` or `classes`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from neulig_fl import split_names
from neulig_fl.errors import DataError, nearest
from neulig_fl.image_walk import NO_CLASS, NO_PART, Walk

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
            f"imagefolder {walk.root}: no such folder; `root` must hold one folder per class",
            public_reason="its image folder is missing",
        )
    walk.count_beside(walk.root, NO_CLASS)
    walk.require_reached()
    found = _folders(walk, walk.root)
    if answers.train is not None or answers.test is not None:
        return _by_parts(walk, found, answers)
    named = any(name in found for name in answers.classes or ())
    if not named:
        usual = _usual_split(walk, found)
        if usual is not None:
            return usual
        _ask_about_parts(walk, found)
    _require_two(walk, found)
    if not named:
        _require_unlike(walk, found)
    _ask_about_parts_of_classes(walk, found)
    return Layout({WHOLE: found}, {WHOLE: False})


def _folders(walk: Walk, folder: Path) -> dict[str, Path]:
    try:
        return walk.folders(folder)
    except ValueError as twice:
        raise DataError(
            f"imagefolder {folder}: two folders read as {twice.args[0]!r}, their accents written "
            "in two ways; move the images of one into the other",
            public_reason="two folders of its image folder have the same name",
        ) from twice


def _usual_split(walk: Walk, found: Folders) -> Layout | None:
    """The layout of `train/` and `test/`, if both hold folders."""
    parts = {name: _folders(walk, found[name]) for name in _CONVENTION if name in found}
    if not (parts.get("train") and parts.get("test")):
        return None
    odd = [name for name in found if name not in parts]
    if odd:
        train, test = split_names.proposed([*parts, *(n for n in odd if split_names.role(n))])
        raise _misfit(
            walk,
            f"{odd[0]}/ lies beside train/ and test/; say which folders are the parts "
            f"({_yaml(train, test)}), or exclude it (`exclude: [{_word(odd[0])}]`)",
        )
    _require_alike(walk, parts)
    _require_two(walk, parts["train"])
    for name in parts:
        walk.count_beside(found[name], NO_CLASS)
    return Layout(parts, {name: name == "test" for name in parts})


def _by_parts(walk: Walk, found: Folders, answers: Answers) -> Layout:
    """The layout of the parts that the user names: folders of the root, or of every class."""
    named = (*(answers.train or ()), *(answers.test or ()))
    inside = {name: _folders(walk, folder) for name, folder in found.items()}
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
            alike = {name for name in odd if _plain(name) == _plain(odd[0])}
            hint = (
                f" ({' and '.join(sorted(alike))} differ in case alone)" if alike > {odd[0]} else ""
            )
            raise _misfit(
                walk,
                f"{part}/ and {first}/ differ in the class folder {odd[0]!r}{hint}; every part of "
                "a split has the same class folders; for classes of that name, give the folders "
                "other names",
            )


def _require_two(walk: Walk, classes: Folders) -> None:
    if len(classes) >= 2:
        return
    hint = ""
    for name, folder in classes.items():
        if len(_folders(walk, folder)) >= 2:
            hint = f"; if the classes lie in {name}/, set root to that folder"
    raise DataError(
        f"imagefolder {walk.root}: {len(classes)} class folder(s); a task needs 2 or more{hint}",
        public_reason="its image folder has fewer than two classes",
    )


def _require_unlike(walk: Walk, classes: Folders) -> None:
    """No two folders whose names differ in case, spaces or underscores alone, as a copy's do."""
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(_plain(name), name)
        if other != name:
            mine = _classes((other, name))
            raise _unclear(
                walk,
                f"{other}/ and {name}/ look like one class in two spellings; move the images of "
                f"one into the other, or name all classes (`classes: {{{mine}, ...}}`)",
            )


def _ask_about_parts(walk: Walk, found: Folders) -> None:
    """Folders of the root that look like the parts of a split are no classes without a word."""
    looks = [name for name in found if split_names.role(name)]
    holds = [name for name in looks if len(_folders(walk, found[name])) >= 2]
    if len(looks) >= 2 or (holds and len(found) >= 2):
        train, test = split_names.proposed(looks)
        mine = _classes(list(found))
        verb = "looks like a part" if len(looks) == 1 else "look like the parts"
        raise _unclear(
            walk,
            f"{_listed(looks)} {verb} of a split and not like classes; say what they are: "
            f"{_yaml(train, test)} if they hold the class folders, or `classes: {{{mine}}}` "
            "if each is a class",
        )


def _ask_about_parts_of_classes(walk: Walk, classes: Folders) -> None:
    """Class folders that hold what looks like the parts of a split are not mixed without a word."""
    looks = {
        name: [each for each in _folders(walk, folder) if split_names.role(each)]
        for name, folder in classes.items()
    }
    for name, parts in looks.items():
        if len(parts) >= 2 or all(looks.values()):
            train, test = split_names.proposed(parts)
            all_ = _words(parts)
            raise _unclear(
                walk,
                f"class folder {name}/ holds {_listed(parts)}, which look like the parts of a "
                f"split; say what they are: {_yaml(train, test)}, or `train_splits: [{all_}]` and "
                "`test_splits: []` to take them together",
            )


def _yaml(train: Sequence[str], test: Sequence[str]) -> str:
    return f"`train_splits: [{_words(train)}]` and `test_splits: [{_words(test)}]`"


def _words(names: Sequence[str]) -> str:
    return ", ".join(map(_word, names))


def _word(name: str) -> str:
    """A name as YAML writes it, in quotes where it would read as something else."""
    return str(
        yaml.safe_dump([name], allow_unicode=True, width=10**6, default_flow_style=True)
    ).strip()[1:-1]


def _classes(names: Sequence[str]) -> str:
    return ", ".join(f"{_word(name)}: {_word(name)}" for name in names)


def _listed(names: Sequence[str]) -> str:
    *most, last = (f"{name}/" for name in names)
    return f"{', '.join(most)} and {last}" if most else last


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _misfit(walk: Walk, what: str) -> DataError:
    reason = "the parts of its image folder do not fit together"
    return DataError(f"imagefolder {walk.root}: {what}", public_reason=reason)


def _unclear(walk: Walk, what: str) -> DataError:
    reason = "it is not clear what the folders of its image folder are"
    return DataError(f"imagefolder {walk.root}: {what}", public_reason=reason)
