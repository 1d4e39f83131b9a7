"""YAML with a place for every value: plain data, and the line and column each piece came from.

Numbers and booleans are read as YAML 1.2 reads them: `3e-4` and `1e5` are numbers, `yes`, `no`,
`on` and `off` are text, `010` is ten and `1:30` is text. A key given twice, a key that is not text,
a tag beyond YAML's own and a document that aliases blow up are errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from neulig_fl.config.yaml_nodes import (
    CORE,
    MOST_LEVELS,
    MOST_VALUES,
    TOO_DEEP,
    TOO_MANY,
    FaultError,
    Place,
    composed,
    spot,
)
from neulig_fl.core import regular_files
from neulig_fl.core.errors import InputError, ScenarioError

Steps = tuple[str | int, ...]

Origin = Callable[[Steps, bool], str]
"""Where a value that replaces one of the file was written: of what lies at steps below it, or of
that one's key."""

STANDARD_INPUT = "standard input"
MOST_BYTES = 1_000_000
MOST_DIGITS = 100

_MERGE = CORE + "merge"
_IN_OUR_WORDS = {
    "'\\t'": "a tab where YAML wants spaces; write spaces instead",
    "but found ':'": "a key is empty; write `key: value`",
    "while scanning a quoted scalar": "the quote opened at line {began} is never closed",
    "while parsing a flow": "the bracket opened at line {began} is not closed, or lacks a comma",
    "mapping values are not allowed here": "a colon stands where none can: check the indentation "
    "and the line above, and put quotes around a text that holds ': '",
    "could not find expected ':'": "a key without its colon; write `key: value`",
    "found undefined alias": "an alias (*name) for which there is no anchor (&name)",
    "found duplicate anchor": "an anchor (&name) that is there already",
    "but found another document": "a second document (---); a file holds one document",
    "expected <block end>": "the indentation does not fit the lines above",
    "expected the node content": "a value is missing here, or this mark needs quotes",
    "found unknown escape character": "an unknown escape in double quotes; use single quotes",
    "that cannot start any token": "no plain text starts with that character; put it in quotes",
    "sequence entries are not allowed": "a list that starts beside its key; begin a new line for "
    "each `- entry`, or write [a, b]",
}


@dataclass(frozen=True)
class ScenarioText:
    """What a YAML file says, and where.

    Attributes:
        name: the file's name as messages give it.
        text: the whole file, as it was read.
        data: plain dicts, lists, strings, numbers, booleans and None.
        values: the place of every value, by its steps from the root.
        keys: the place of every mapping's keys, by the steps of their values.
        overrides: where values were written that took the place of the file's.
        placed: whether it is a file's, whose lines mean something to a reader.
    """

    name: str
    text: str = field(repr=False)
    data: dict[str, Any]
    values: Mapping[Steps, Place]
    keys: Mapping[Steps, Place]
    overrides: Mapping[Steps, Origin] = field(default_factory=dict)
    placed: bool = True

    def locate(self, steps: Steps, *, key: bool = False) -> Place:
        r"""Find the line and column, from 1, of a value (or of its key).

        Steps that lead nowhere, as for a key that is missing, are cut from the end.

        Example:
            >>> parse("a:\n  b: [1, 2]", "x.yaml").locate(("a", "b", 1))
            (2, 10)
        """
        places = self.keys if key else self.values
        while steps not in places and steps:
            steps, places = steps[:-1], self.values
        return places[steps]

    def origin(self, steps: Steps, *, key: bool = False) -> str:
        """Say where a value (or its key) was written: `file:line:column` or `--set key=value`."""
        for length in range(len(steps), 0, -1):
            if steps[:length] in self.overrides:
                return self.overrides[steps[:length]](steps[length:], key)
        if not self.placed:
            return self.name
        line, column = self.locate(steps, key=key)
        return f"{self.name}:{line}:{column}"


def read(path: Path, *, pipes: bool = False) -> ScenarioText:
    """Read a YAML file, once.

    Args:
        path: the file; `-` is the standard input.
        pipes: whether it may be a pipe or a device, as one that a command line names; what a file
            names may not, for whoever reads it would wait for ever.

    Raises:
        ScenarioError: the file cannot be read or is not YAML as neulig-fl reads it;
            the message starts with file:line:column, or the file alone where there is no line.
    """
    name = STANDARD_INPUT if is_standard_input(path) else str(path)
    return parse(_text(path, name, pipes), name)


def parse(text: str, name: str) -> ScenarioText:
    r"""Read YAML text; `name` stands for the file in messages.

    Raises:
        ScenarioError: as for `read`.

    Example:
        >>> parse("lr: 3e-4\nshuffle: no", "x.yaml").data
        {'lr': 0.0003, 'shuffle': 'no'}
    """
    builder = _Builder()
    try:
        data = builder.build(_root(text), ())
    except FaultError as fault:
        line, column = fault.place
        raise ScenarioError(f"{name}:{line}:{column}: {fault}") from fault
    return ScenarioText(name, text, data, builder.values, builder.keys)


def scalar(text: str) -> Any:
    """Read one value as YAML, for a command line; what is not YAML is the text itself.

    Example:
        >>> scalar("3e-4"), scalar("[A, B]"), scalar("no")
        (0.0003, ['A', 'B'], 'no')
    """
    try:
        return parse(f"value: {text}", "").data["value"]
    except ScenarioError:
        return text


def is_standard_input(path: Path) -> bool:
    """Tell whether a path means the standard input: a single `-`."""
    return str(path) == "-"


def _text(path: Path, name: str, pipes: bool) -> str:
    raw = _bytes(path, name, pipes)
    if len(raw) > MOST_BYTES:
        raise ScenarioError(f"{name}: more than {MOST_BYTES} bytes, and at most that many are read")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place_of(raw[: error.start].decode("utf-8-sig"))
        bad = f"0x{raw[error.start]:02x}"
        raise ScenarioError(
            f"{name}:{line}:{column}: byte {bad} is not UTF-8; save the file as UTF-8"
        ) from error


def _bytes(path: Path, name: str, pipes: bool) -> bytes:
    """At most one byte more than is allowed: a pipe or a device need not end."""
    try:
        with _opened(path, pipes) as file:
            return file.read(MOST_BYTES + 1)
    except InputError as error:
        raise ScenarioError(str(error)) from error
    except FileNotFoundError as error:
        raise ScenarioError(f"{name}: there is no such file; check the path") from error
    except IsADirectoryError as error:
        raise ScenarioError(f"{name}: is a folder; name a YAML file in it") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ScenarioError(f"{name}: cannot be read: {why}") from error


def _opened(path: Path, pipes: bool) -> BinaryIO:
    if is_standard_input(path):
        return open(0, "rb", closefd=False)
    return path.open("rb") if pipes else regular_files.opened(path)


def _root(text: str) -> MappingNode:
    try:
        root = composed(text)
    except yaml.reader.ReaderError as error:
        raise FaultError(
            f"the character U+{error.character:04X} has no place in YAML; remove it",
            _place_of(text[: error.position]),
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FaultError(_in_our_words(error), spot(mark) if mark else (1, 1)) from error
    if root is None:
        raise FaultError("the file is empty; write lines of `key: value`", (1, 1))
    if not isinstance(root, MappingNode):
        raise FaultError(
            "the file is no mapping; write lines of `key: value`", spot(root.start_mark)
        )
    return root


def _in_our_words(error: yaml.MarkedYAMLError) -> str:
    """Say what PyYAML found in words for someone who has never read YAML's specification."""
    problem = f"{error.context or ''} {error.problem or ''}".strip()
    ours = next((words for found, words in _IN_OUR_WORDS.items() if found in problem), problem)
    began = error.context_mark.line + 1 if error.context_mark else 1
    return f"not valid YAML: {ours.replace('{began}', str(began))}"


class _Builder:
    """Turns nodes into plain data and notes where each piece stands."""

    def __init__(self) -> None:
        self.values: dict[Steps, Place] = {}
        self.keys: dict[Steps, Place] = {}
        self._visits = 0

    def build(self, node: Node, steps: Steps) -> Any:
        """Return the plain data of a node, which stands at `steps` from the root."""
        self._visit(node, steps)
        self.values[steps] = spot(node.start_mark)
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if isinstance(node, SequenceNode) and node.tag == CORE + "seq":
            return [self.build(item, (*steps, i)) for i, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and node.tag == CORE + "map":
            data = {}
            for name, (key, value) in self._pairs(node, steps).items():
                self.keys[*steps, name] = spot(key.start_mark)
                data[name] = self.build(value, (*steps, name))
            return data
        raise FaultError(_wrong_tag(node), spot(node.start_mark))

    def _pairs(self, node: MappingNode, steps: Steps) -> dict[str, tuple[Node, Node]]:
        """Key and value nodes by name; the mapping's own win over those that `<<` brings in."""
        self._visit(node, steps)
        own: dict[str, tuple[Node, Node]] = {}
        inherited: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for base in _bases(value):
                    self._visits += len(base.value)  # they are brought in again each time
                    inherited = {**self._pairs(base, (*steps, "<<")), **inherited}
                continue
            name = _name(key)
            if name in own:
                first = own[name][0].start_mark.line + 1
                what = f"the key {name!r} is there twice, first at line {first}; keep one of them"
                raise FaultError(what, spot(key.start_mark))
            own[name] = (key, value)
        return {**inherited, **own}

    def _visit(self, node: Node, steps: Steps) -> None:
        """Refuse what aliases make endless: the nodes are few, the paths through them are not."""
        self._visits += 1
        if len(steps) > MOST_LEVELS:
            raise FaultError(TOO_DEEP, spot(node.start_mark))
        if self._visits > MOST_VALUES:
            raise FaultError(TOO_MANY, spot(node.start_mark))


def _bases(node: Node) -> Iterator[MappingNode]:
    for base in node.value if isinstance(node, SequenceNode) else [node]:
        if not isinstance(base, MappingNode):
            raise FaultError("`<<` takes a mapping, or a list of them", spot(base.start_mark))
        yield base


def _name(key: Node) -> str:
    if isinstance(key, ScalarNode) and not key.value:
        raise FaultError("a key is empty; write `key: value`", spot(key.start_mark))
    if isinstance(key, ScalarNode) and key.tag == CORE + "str":
        return str(_scalar(key))
    shown = repr(key.value) if isinstance(key, ScalarNode) else "a list or mapping"
    raise FaultError(f"a key must be text (got {shown}); put it in quotes", spot(key.start_mark))


def _scalar(node: ScalarNode) -> Any:
    convert = _CONVERT.get(node.tag)
    if convert is None:
        raise FaultError(_wrong_tag(node), spot(node.start_mark))
    try:
        return convert(node.value)
    except ValueError as error:
        kind = node.tag.removeprefix(CORE)
        what = f"{ascii(node.value)[:40]} cannot be read as {kind}; write it out plainly"
        raise FaultError(what, spot(node.start_mark)) from error


def _wrong_tag(node: Node) -> str:
    tag = node.tag.replace(CORE, "!!")
    return f"the tag {tag!r} has no place here; write the plain value"


def _str(text: str) -> str:
    text.encode()  # half a surrogate pair, from an escape, is no text
    return text


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _int(text: str) -> int:
    if len(text) > MOST_DIGITS:  # Python writes no number of more than 4,300 digits in an error
        raise ValueError(text)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text, base)


def _float(text: str) -> float:
    return float(re.sub(r"(?i)\.(inf|nan)$", r"\1", text))


_CONVERT: dict[str, Callable[[str], Any]] = {
    CORE + "null": lambda _: None,
    CORE + "str": _str,
    CORE + "bool": _bool,
    CORE + "int": _int,
    CORE + "float": _float,
}


def _place_of(before: str) -> Place:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
