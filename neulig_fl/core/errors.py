"""Every error that neulig-fl raises on purpose.

    NeuligError
    |-- InputError            bad input; exit code 2
    |   |-- ScenarioError     the scenario file: file:line:column, value, what is allowed
    |   |-- DataError         a task's data: missing folder, unreadable image, empty class
    |   `-- CheckpointError   weights: missing file, other architecture, wrong keys
    `-- RunError              the run failed; exit code 1
        |-- ClientMissing     a client did not answer in time
        |-- ClientFailed      a client answered with an error
        |-- ClientRefused     a client's policy does not allow what was asked
        |-- BadReply          a reply with a wrong shape, dtype, size or a value that is not finite
        |-- EngineError       Flower could not run the apps
        `-- NotCovered        batched merging cannot run the model; one-at-a-time merging can

`NotAvailable` is no failure: what was released does not suffice for a method, and the report says
so.

A message names who, what, the value, what is allowed and the next step. What crosses from a client
to the server never holds a path or a tensor's value: `public_reason` is the only text that does.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Self

_JOINERS = "\u200c\u200d"
"""Invisible, but part of words in Persian and of Indian scripts."""


class NeuligError(Exception):
    """Base of every error of this project.

    Args:
        message: what went wrong, whose it is, and what to do next.
        public_reason: the text that may leave a client. Without one, only the class name does.
    """

    exit_code = 1

    def __init__(self, message: str, *, public_reason: str | None = None) -> None:
        super().__init__(message)
        self.public_reason = public_reason

    @classmethod
    def public(cls, reason: str) -> Self:
        """The error all of whose text may leave a client.

        Example:
            >>> BadReply.public("the request is not signed").public_reason
            'the request is not signed'
        """
        return cls(reason, public_reason=reason)


class InputError(NeuligError):
    """The user's input cannot be used as it is."""

    exit_code = 2


class ScenarioError(InputError):
    """A scenario file that is not valid; the message starts with file:line:column."""


class DataError(InputError):
    """A task's data cannot be read or are not enough."""


class CheckpointError(InputError):
    """Weights that cannot be read or do not fit the model."""


class RunError(NeuligError):
    """The run started and could not finish."""


class ClientMissing(RunError):
    """A client did not answer before its time was over."""


class ClientFailed(RunError):
    """A client answered that it failed."""


class ClientRefused(RunError):
    """A client's effective policy does not allow what was asked."""


class BadReply(RunError):
    """A client's reply is not what its kind of record must be."""


class EngineError(RunError):
    """The engine (Flower or the local one) could not carry the messages."""


class NotCovered(RunError):
    """The model does with a parameter what batched merged inference cannot do block by block."""


class NotAvailable(Exception):
    """A method cannot be computed from what was released; the text is the report's reason."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A hint for an error message: the allowed values, and the one that was probably meant.

    Example:
        >>> nearest("featurs", ["features", "logits"])
        'allowed: features, logits; did you mean features?'
        >>> nearest("x", [])
        'allowed: none in this version'
    """
    names = list(allowed)
    if not names:
        return "allowed: none in this version"
    hint = f"allowed: {', '.join(names)}"
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f"{hint}; did you mean {close[0]}?" if close else hint


def plain(text: object, most: int | None = None) -> str:
    r"""Text from elsewhere, such as a file's name, on one line and without control characters.

    Args:
        text: a name, a path, what a file or a library says.
        most: characters to keep; None: all.

    Example:
        >>> plain("a\x1b[2J\nb"), plain("\udce9t\xe9"), plain("abcdef", 3)
        ('a\\x1b[2J\\nb', '\\udce9té', 'abc...')
    """
    whole = str(text)
    kept = whole if most is None else whole[:most]
    shown = "".join(c if c.isprintable() or c in _JOINERS else ascii(c)[1:-1] for c in kept)
    return shown if len(kept) == len(whole) else f"{shown}..."


def one_line(reason: str | None, most: int = 400) -> str:
    r"""A client's public reason as the server notes it.

    Args:
        reason: as it came.
        most: characters to keep.

    Example:
        >>> one_line("never\x1b  parameters\n"), one_line(None)
        ('never parameters', 'no reason given')
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in reason or "").split())
    return text[:most] or "no reason given"
