"""YAML text to nodes: the plain scalars of YAML 1.2, nodes and levels in bounds, fast."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.events import Event
from yaml.nodes import Node
from yaml.resolver import Resolver

Place = tuple[int, int]

MOST_VALUES = 100_000
MOST_LEVELS = 50
_LONG = 100_000
"""Characters of a text that PyYAML alone would take seconds to read."""

TOO_DEEP = f"nested more than {MOST_LEVELS} levels deep"
TOO_MANY = f"more than {MOST_VALUES} values once aliases are followed"
CORE = "tag:yaml.org,2002:"
_ENDS = "\0\r\n\x85\u2028\u2029"
"""Ends of a line, and of the text."""

_PLAIN_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
        r"|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
)


def composed(text: str) -> Node | None:
    """The root of a text. A long one is read by libyaml, where there is no odd mark in it.

    The two read tabs, explicit keys and bare tags differently. What libyaml finds wrong is found
    again, for words and place.
    """
    if len(text) >= _LONG and not any(mark in text for mark in "\t!?"):
        with contextlib.suppress(yaml.YAMLError, UnicodeEncodeError):
            return yaml.compose(text, Loader=_fast_loader())
    return yaml.compose(text, Loader=_Loader)


class FaultError(Exception):
    """What is wrong at one place of the text; `parse` adds the file."""

    def __init__(self, what: str, place: Place) -> None:
        super().__init__(what)
        self.place = place


class _Scalars(Resolver):
    """The plain scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in _PLAIN_SCALARS:
    _Scalars.add_implicit_resolver(CORE + _tag, re.compile(rf"^(?:{_pattern})$"), _first)


class _Bounded(Composer):
    """Makes nodes, and no more of them, nor deeper ones, than are read."""

    _nodes = _levels = 0

    peek_event: Callable[[], Event]  # of the parser beside it

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """As PyYAML's."""
        self._nodes, self._levels = self._nodes + 1, self._levels + 1
        if self._levels > MOST_LEVELS + 1:
            raise FaultError(TOO_DEEP, spot(self.peek_event().start_mark))
        if self._nodes > 2 * MOST_VALUES + 1:  # values, and their keys
            raise FaultError(TOO_MANY, spot(self.peek_event().start_mark))
        node: Node | None = super().compose_node(parent, index)
        self._levels -= 1
        return node


class _Loader(_Bounded, _Scalars, yaml.SafeLoader):
    """PyYAML's own loader, whose errors have words of ours, and with YAML's own rule for tabs.

    A tab parts what stands on a line as a space does, and indents nothing; PyYAML refuses both.
    """

    def scan_to_next_token(self) -> None:
        """As PyYAML's, and past tabs that indent nothing."""
        super().scan_to_next_token()
        while self.peek() == "\t" and (length := self._blanks()):
            self.forward(length)
            super().scan_to_next_token()

    def _blanks(self) -> int:
        """How many spaces and tabs are next; none where they indent a block's line."""
        length = self._white()
        last = self.peek(length) in _ENDS or self.peek(length) == "#"
        return length if self.flow_level or not self.allow_simple_key or last else 0

    def scan_plain_spaces(self, indent: int, start_mark: Any) -> Any:
        """As PyYAML's, where a tab is one of the spaces within a text or behind it."""
        length = self._white()
        white = self.prefix(length)
        if "\t" not in white:
            return super().scan_plain_spaces(indent, start_mark)
        self.forward(length)
        if self.peek() in _ENDS:
            return super().scan_plain_spaces(indent, start_mark)
        return [white]

    def _white(self) -> int:
        length = 0
        while self.peek(length) in " \t":
            length += 1
        return length


def _fast_loader() -> type[Any]:
    """The loader whose text is read by libyaml, ten times as fast; PyYAML's own without that."""
    if not yaml.__with_libyaml__:
        return _Loader

    parser: Any = vars(yaml.cyaml)["CParser"]

    class Fast(_Bounded, parser, _Scalars):  # type: ignore[misc]
        def __init__(self, stream: str) -> None:
            parser.__init__(self, stream)
            Composer.__init__(self)
            Resolver.__init__(self)

    return Fast


def spot(mark: Any) -> Place:
    """The line and column, from 1, of a mark, PyYAML's or libyaml's."""
    return mark.line + 1, mark.column + 1
