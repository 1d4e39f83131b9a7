"""The mutants of a source: mutmut's operators at every place that decides something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

NOT_MUTATED = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom)
"""Places that decide nothing while a test runs, or break the import."""

ALIAS = m.SimpleStatementLine(body=[m.Assign(value=m.Subscript())])
"""`Check = Callable[...]`, which only annotations name."""

DOCSTRING = m.SimpleStatementLine(body=[m.Expr(value=m.SimpleString())])


@dataclass(frozen=True)
class Mutant:
    """One change of a source.

    Args:
        module: the source, parsed.
        node: what is replaced.
        changed: what stands there instead.
        line: where the node begins, from 1.
        last: the last line that it spans.
    """

    module: cst.Module
    node: cst.CSTNode
    changed: cst.CSTNode
    line: int
    last: int

    @property
    def source(self) -> str:
        """The entire source with the change."""
        return self.module.deep_replace(self.node, self.changed).code  # type: ignore[arg-type]

    @property
    def before(self) -> str:
        """The code that is replaced, on one line."""
        return _code(self.node)

    @property
    def after(self) -> str:
        """The code that stands there instead, on one line."""
        return _code(self.changed)


def mutants(source: str) -> list[Mutant]:
    r"""Every mutant of a source, in its order.

    mutmut's operators, and each `if` negated. Annotations, decorators, docstrings, and texts with
    a space in them, which are words to people, stay as they are; another string gets one mutant.

    Args:
        source: of a module.

    Example:
        >>> [each.after for each in mutants("def f(a):\n    return a < 2\n")]
        ['<= 2', '3']
    """
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    places = wrapper.resolve(PositionProvider)
    return [
        Mutant(wrapper.module, node, changed, places[node].start.line, places[node].end.line)
        for node in _nodes(wrapper.module)
        for changed in _changes(node)
    ]


def _nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A node and those below it, as far as they are mutated."""
    skipped = isinstance(node, NOT_MUTATED) or _is_text(node) or m.matches(node, DOCSTRING)
    if skipped or m.matches(node, ALIAS):
        return
    yield node
    for child in node.children:
        yield from _nodes(child)


def _changes(node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            changed = list(operator(node))
            yield from changed[:1] if operator is operator_string else changed
    if isinstance(node, cst.If):
        bare = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), bare))


def _is_text(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.SimpleString) and " " in node.value.strip("\"' ")


def _code(node: cst.CSTNode) -> str:
    """A node's code on one line; of an `if` its condition alone."""
    shown = node.test if isinstance(node, cst.If) else node
    return " ".join(cst.Module([]).code_for_node(shown).split())
