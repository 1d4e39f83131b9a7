"""A pickle read without Python's unpickler: data come out of it, and nothing is run.

A pickle is a program for a small stack machine. This is that machine with its teeth drawn: a name
becomes a `Global`, an object a `StandIn`, a call is refused unless its meaning is written in
`pickle_rules`. Python's `pickletools` takes the file apart; it executes nothing either.
"""

from __future__ import annotations

import os
import pickletools
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

from neulig_fl.models.checkpoints.pickle_rules import (
    CALLS,
    Global,
    Means,
    Refused,
    StandIn,
    call,
    global_of,
)
from neulig_fl.models.checkpoints.storages import Malformed

MOST_STEPS = 5_000_000
"""Steps of one pickle; a large model's state dict takes some ten thousand."""

Stored = Callable[[Any], Any]
"""What a persistent id (a storage, in a torch file) stands for."""


def read(stream: BinaryIO, stored: Stored, loads: Callable[[bytes | bytearray], Any]) -> Any:
    """The object in a pickle.

    Args:
        stream: is read up to the pickle's end.
        stored: resolves persistent ids.
        loads: reads a storage that is held as bytes.

    Returns:
        Dicts, lists, tuples, texts, numbers, `Entry`s, `StandIn`s and `Global`s. A set is a list;
        a key that is neither text, bytes nor number is left out with its value.

    Raises:
        Refused: it names or calls what weights do not need.
        Malformed: it is no pickle, or breaks off.
    """
    bounded = _Bounded(stream)
    machine = _Machine(stored, Means(loads, 2 * bounded.size))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in a damaged file's texts
            return _run(machine, bounded)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise Malformed("the pickle is broken off or damaged") from error


def none_inside(_: object) -> Any:
    """As `loads` of `read`, for a file whose storages stand beside the pickle."""
    raise Malformed("a storage within the pickle")


def _run(machine: _Machine, stream: Any) -> Any:
    for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if step > MOST_STEPS:
            raise Malformed(f"more than {MOST_STEPS:,} steps")
        if opcode.name == "STOP":
            return machine.pop()
        machine.step(opcode.name, argument)
    raise Malformed("the pickle has no end")


class _Bounded:
    """A stream that sets no memory aside for more than it has, whatever length a pickle claims."""

    def __init__(self, stream: BinaryIO) -> None:
        here = stream.tell()
        self._end = stream.seek(0, os.SEEK_END)
        self.size = self._end - here
        stream.seek(here)
        self._stream = stream
        self.readline = stream.readline
        self.tell = stream.tell

    def read(self, count: int) -> bytes:
        return self._stream.read(min(count, self._end - self._stream.tell()))


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, stored: Stored, means: Means) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._protocol = 0
        self._stored = stored
        self._means = means

    def step(self, name: str, argument: Any) -> None:
        """Carry out one step."""
        if name in _LITERALS:
            self.push(argument)
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name == "PROTO":
            self._protocol = argument
        elif name != "FRAME":
            raise Refused(f"the pickle step {name}")

    def push(self, item: Any) -> None:
        self._stack.append(item)

    def pop(self) -> Any:
        return self._stack.pop()

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def marked(self) -> list[Any]:
        """Everything down to the mark, taken from the stack."""
        items = self._stack
        self._stack = self._below.pop()
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        """The uppermost items, taken from the stack."""
        items = tuple(self._stack[-count:])
        if len(items) < count:
            raise IndexError
        del self._stack[-count:]
        return items

    def again(self) -> None:
        self.push(self._stack[-1])

    def keep(self, place: int | None = None) -> None:
        self._memo[len(self._memo) if place is None else place] = self._stack[-1]

    def fetch(self, place: int) -> None:
        self.push(self._memo[place])

    def extend(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)

    def put(self, items: list[Any]) -> None:
        """Keys and values into the dict below. Other keys could take long to hash, or for ever."""
        target = self._stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                if isinstance(key, str | int | float | bytes):
                    target[key] = value

    def new_dict(self) -> None:
        items = self.marked()
        self.push({})
        self.put(items)

    def name(self, module: Any, name: Any) -> Global:
        if not isinstance(name, str) or not isinstance(module, str):
            raise Malformed("a name that is no text")
        return global_of(module, name, old=self._protocol < 3)

    def call(self, function: Any, arguments: Any) -> None:
        self.push(call(function, arguments, self._means))

    def call_marked(self) -> None:
        function, *arguments = self.marked()
        self.call(function, tuple(arguments))

    def instance(self, kind: Any, arguments: Any) -> None:
        """An object of a class; of what is on the list (a container), what the list says."""
        if not isinstance(kind, Global):
            raise Malformed("an object without a class")
        if kind.name in CALLS:
            self.call(kind, arguments)
        else:
            self.push(StandIn(kind.name))

    def build(self) -> None:
        """Attributes of a stand-in; those of anything else (a state dict's version) are dropped."""
        state = self.pop()
        target = self._stack[-1]
        if isinstance(state, tuple) and state:
            state = state[0]
        if isinstance(target, StandIn) and isinstance(state, dict):
            target.state = state

    def stored(self, reference: Any) -> None:
        self.push(self._stored(reference))


_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_STEPS: dict[str, Callable[[_Machine, Any], object]] = {
    "MARK": lambda m, _: m.mark(),
    "POP": lambda m, _: m.pop(),
    "POP_MARK": lambda m, _: m.marked(),
    "DUP": lambda m, _: m.again(),
    "PUT": lambda m, place: m.keep(place),
    "BINPUT": lambda m, place: m.keep(place),
    "LONG_BINPUT": lambda m, place: m.keep(place),
    "MEMOIZE": lambda m, _: m.keep(),
    "GET": lambda m, place: m.fetch(place),
    "BINGET": lambda m, place: m.fetch(place),
    "LONG_BINGET": lambda m, place: m.fetch(place),
    "TUPLE": lambda m, _: m.push(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.push(m.last(1)),
    "TUPLE2": lambda m, _: m.push(m.last(2)),
    "TUPLE3": lambda m, _: m.push(m.last(3)),
    "LIST": lambda m, _: m.push(m.marked()),
    "FROZENSET": lambda m, _: m.push(m.marked()),
    "DICT": lambda m, _: m.new_dict(),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.marked()),
    "ADDITEMS": lambda m, _: m.extend(m.marked()),
    "SETITEM": lambda m, _: m.put([*m.last(2)]),
    "SETITEMS": lambda m, _: m.put(m.marked()),
    "GLOBAL": lambda m, words: m.push(m.name(*words.split(" ", 1))),
    "STACK_GLOBAL": lambda m, _: m.push(m.name(*m.last(2))),
    "REDUCE": lambda m, _: m.call(*m.last(2)),
    "OBJ": lambda m, _: m.call_marked(),
    "INST": lambda m, words: m.call(m.name(*words.split(" ", 1)), tuple(m.marked())),
    "NEWOBJ": lambda m, _: m.instance(*m.last(2)),
    "NEWOBJ_EX": lambda m, _: m.instance(*m.last(3)[:2]),
    "BUILD": lambda m, _: m.build(),
    "PERSID": lambda m, reference: m.stored(reference),
    "BINPERSID": lambda m, _: m.stored(m.pop()),
}
