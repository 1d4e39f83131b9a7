"""Folders that may be something else than classes: questions to the user, with the YAML to answer.

Structure decides, not a list of names: folders that hold the same subfolders, as the parts of a
split, clients, domains or sizes do, and a folder that holds what lies beside it. Names help with
what structure cannot tell, and with the words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from glob import escape
from pathlib import Path

import yaml

from neulig_fl.core.errors import DataError, plain
from neulig_fl.data import split_names
from neulig_fl.data.image_copies import copies, is_size
from neulig_fl.data.image_walk import Walk, images_below

Folders = Mapping[str, Path]
Inside = Mapping[str, Folders]
"""Subfolders, by the folder that they are in."""

SHOWN = 3
"""Most names in one error."""

_MASKS = frozenset({"mask", "masks", "segmentation", "segmentations", "annotations", "labels"})


def ask_about_root(walk: Walk, found: Folders) -> None:
    """Ask about folders of the root that may be no classes.

    Args:
        walk: of the root.
        found: its folders.

    Raises:
        DataError: a question, with every answer to it.
    """
    inside = {name: walk.folders(folder) for name, folder in found.items()}
    _ask_about_names(walk, found, inside)
    _ask_about_sizes(walk, found, inside)
    _ask_about_copies_of_the_root(walk, found, inside)
    _ask_about_same(walk, found, inside)


def ask_about_classes(walk: Walk, classes: Folders) -> None:
    """Ask about class folders that hold what looks like the parts of a split.

    Raises:
        DataError: a question, with every answer to it.
    """
    inside = {name: walk.folders(folder) for name, folder in classes.items()}
    looks = {name: list(split_names.roles(folders)) for name, folders in inside.items()}
    _ask_about_parts_of_parts(walk, classes, inside, looks)
    for name, parts in looks.items():
        if len(parts) >= 2 or all(looks.values()):
            train, test = split_names.proposed(parts)
            apart = f"{splits(train, test)}, or " if train else ""
            raise unclear(
                walk,
                f"class folder {name}/ holds {listed(parts)}, which look like the parts of a "
                f"split; say what they are: {apart}{splits(parts, [])} to take them together",
            )


def _ask_about_parts_of_parts(
    walk: Walk, classes: Folders, inside: Inside, looks: Mapping[str, Sequence[str]]
) -> None:
    """Folders with a split of their own, each of the same classes: clients, domains, sizes."""
    held = {
        name: {spelling(each): each for part in parts for each in walk.folders(inside[name][part])}
        for name, parts in looks.items()
    }
    common = _common(held)
    alike = [name for name, names in held.items() if common & set(names)]
    if len(common) < 2 or len(alike) < 2:
        return
    one = alike[0]
    shown = [name for each, name in held[one].items() if each in common][:2]
    parts = list(dict.fromkeys(part for name in alike for part in looks[name]))
    raise unclear(
        walk,
        f"{listed(alike)} hold parts of a split ({listed(looks[one])}) and below these folders of "
        f"the same names ({listed(shown)}), as clients or domains do; say what they are: "
        f"`root: {word(str(classes[one]))}` to take that one alone (or a task "
        f"for each), or {splits(parts, [])} if each of them is a class",
    )


def _common(held: Mapping[str, Mapping[str, str]]) -> set[str]:
    """The spellings that two folders or more hold."""
    count = Counter(each for names in held.values() for each in names)
    return {each for each, times in count.items() if times >= 2}


def ask_about_spellings(walk: Walk, classes: Folders) -> None:
    """Ask about folders whose names differ in case, spaces or underscores alone, as a copy's do.

    Raises:
        DataError: a question, with the answer to it.
    """
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(spelling(name), name)
        if other != name:
            raise unclear(
                walk,
                f"{other}/ and {name}/ look like one class in two spellings; move the images of "
                f"one into the other, or name all classes ({as_classes(classes)})",
            )


def _ask_about_names(walk: Walk, found: Folders, inside: Inside) -> None:
    """Folders whose names look like the parts of a split."""
    looks = list(split_names.roles(found))
    holds = [name for name in looks if len(inside[name]) >= 2]
    if len(looks) >= 2 or (holds and len(found) >= 2):
        verb = "looks like a part" if len(looks) == 1 else "look like the parts"
        raise unclear(
            walk,
            f"{listed(looks)} {verb} of a split and not like classes; say what they are: "
            f"{_as_parts(walk, looks, holds, inside)}{as_classes(found)} if each is a class",
        )


def _as_parts(walk: Walk, looks: Sequence[str], holds: Sequence[str], inside: Inside) -> str:
    """The answer that takes folders for parts; only what holds class folders can be one."""
    train, test = split_names.proposed(holds)
    others = [name for name in inside if name not in looks and len(inside[name]) >= 2]
    train = train or others
    if train:
        return f"{splits(train, test)} if they hold the class folders, or "
    return f"{excluded(walk, looks)} to leave out what is no class, or " if holds else ""


def _ask_about_sizes(walk: Walk, found: Folders, inside: Inside) -> None:
    """Folders whose names are sizes: several of them, or one with copies of images beside it."""
    sizes = [name for name in found if is_size(name)]
    others = {name: folder for name, folder in found.items() if name not in sizes}
    if len(sizes) == 1:
        sizes = sizes if _copied(walk, found[sizes[0]], others.values()) else []
    if not sizes:
        return
    verb = "looks like a size" if len(sizes) == 1 else "look like sizes"
    if all(len(inside[name]) >= 2 for name in sizes):
        largest = max(sizes, key=lambda name: _bytes_below(found[name]))
        answer = f"{splits([largest], [])} to take {largest}/ alone"
    elif len(others) >= 2:
        answer = f"{excluded(walk, sizes)} to leave such folders out"
    else:
        answer = "put the images of one size into class folders if they are"
    raise unclear(
        walk,
        f"{listed(sizes)} {verb} of the same images and not like classes; say what they are: "
        f"{answer}, or {as_classes(found)} if each is a class",
    )


def _copied(walk: Walk, folder: Path, others: Collection[Path]) -> bool:
    silent = Walk(walk.root, walk.exclude)
    mine = silent.images(folder)
    beside = [image for other in others for image in silent.images(other)]
    return copies(mine, beside) is not None


def _ask_about_same(walk: Walk, found: Folders, inside: Inside) -> None:
    """Folders that hold folders of the same names: parts of a split, clients, domains."""
    # What looks like a part of a split or a size within every class is asked about elsewhere.
    held = {
        name: {
            spelling(each): each
            for each, path in folders.items()
            if images_below(path) and not split_names.role(each) and not is_size(each)
        }
        for name, folders in ((name, _choice(walk, below)) for name, below in inside.items())
    }
    common = _common(held)
    alike = [name for name, names in held.items() if 2 * len(common & set(names)) >= len(names) > 1]
    if len(held) > 2 and all(common & set(names) for names in held.values()):
        alike = list(held)  # clients of which each has some of the classes
    if len(common) < 2 or len(alike) < 2:
        return
    masks = [name for each in alike for key, name in held[each].items() if key in _MASKS]
    less = f"{excluded(walk, dict.fromkeys(masks))} to leave such folders out, " if masks else ""
    shown = [name for each, name in held[alike[0]].items() if each in common][:2]
    beyond = [name for name in found if name not in alike]
    odd = {
        each
        for name in alike
        for each in held[name]
        if sum(each in names for names in held.values()) != len(alike)
    }
    raise unclear(
        walk,
        f"{listed(alike)} hold folders of the same names ({listed(shown)}), as the parts of a "
        "split do, or clients, and classes do not; say what they are: "
        f"{less}{_parts(walk, found, alike, odd, held)}`root: {word(str(found[alike[0]]))}` to "
        "take that one alone (or a task for each), "
        f"or {as_classes([*alike, *beyond])} if each is a class",
    )


def _choice(walk: Walk, folders: Folders) -> Folders:
    """Some folders; where there is one alone, those in that one, if there are any."""
    while len(folders) == 1:
        (only,) = folders.values()
        below = walk.folders(only)
        if not below:
            break
        folders = below
    return folders


def _parts(
    walk: Walk,
    found: Folders,
    alike: Sequence[str],
    odd: Collection[str],
    held: Mapping[str, Mapping[str, str]],
) -> str:
    """The answers that take folders for parts, without classes that only some of them hold."""
    if len(odd) > SHOWN:  # parts of which each has classes of its own are none of one task
        return ""
    names = dict.fromkeys(n for each in held.values() for key, n in each.items() if key in odd)
    less = f" and {excluded(walk, names)}" if odd else ""
    smallest = min(reversed(alike), key=lambda name: images_below(found[name]))
    train = [name for name in alike if name != smallest]
    return (
        f"{splits(train, [smallest])}{less} for a split that is evaluated on {smallest}/, "
        f"{splits(alike, [])}{less} to take all together, "
    )


def _ask_about_copies_of_the_root(walk: Walk, found: Folders, inside: Inside) -> None:
    """A folder that holds folders called as those beside it, such as a backup."""
    beside = {spelling(name) for name in found}
    for name, folders in inside.items():
        same = [each for each, path in folders.items() if spelling(each) in beside]
        same = [each for each in same if images_below(folders[each])]
        if len(same) >= 2:
            raise unclear(
                walk,
                f"{name}/ holds folders called as those beside it ({listed(same[:2])}) and looks "
                f"like a copy of them and not like a class; say what it is: "
                f"{excluded(walk, [name])} to leave it out, or {as_classes(found)} if each is a "
                "class",
            )


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def splits(train: Sequence[str], test: Sequence[str]) -> str:
    """The YAML that names parts."""
    return f"`train_splits: [{words(train)}]` and `test_splits: [{words(test)}]`"


def excluded(walk: Walk, names: Iterable[str]) -> str:
    """The YAML that leaves folders out, beside what is left out already."""
    own = [re.sub("^!", "?", escape(name)) for name in names]  # a ! would take it
    return f"`exclude: [{words([*walk.exclude, *own])}]`"


def as_classes(names: Collection[str]) -> str:
    """The YAML that makes every folder a class."""
    return f"`classes: {{{_each(sorted(names))}}}`"


def _each(names: Sequence[str]) -> str:
    return ", ".join(f"{word(name)}: {word(name)}" for name in names)


def words(names: Sequence[str]) -> str:
    """Names as the items of a list in YAML."""
    return ", ".join(map(word, names))


def word(name: str) -> str:
    r"""A name as YAML writes it, in quotes where it would read as something else.

    Example:
        >>> print(word("a cat"), word("yes"), word("b\xa0"))
        a cat 'yes' "b\_"
    """
    style = None if name.isprintable() else '"'
    return str(
        yaml.safe_dump(
            [name],
            allow_unicode=style is None,
            width=10**6,
            default_flow_style=True,
            default_style=style,
        )
    ).strip()[1:-1]


def listed(names: Sequence[str]) -> str:
    """Folders in a sentence."""
    *most, last = (f"{plain(name)}/" for name in names)
    return f"{', '.join(most)} and {last}" if most else last


def spelling(name: str) -> str:
    """A name without case, and with spaces for underscores."""
    return " ".join(name.casefold().replace("_", " ").split())


def unclear(walk: Walk, what: str) -> DataError:
    """The error that is a question."""
    reason = "it is not clear what the folders of its image folder are"
    return DataError(f"imagefolder {plain(walk.root)}: {what}", public_reason=reason)
