"""JSON of others, read as strictly as it is written here: finite numbers, whole text, few levels.

Python's own reader makes infinity of `1e999` and half a surrogate pair of an escape, and nests as
deep as its stack lasts; each of them fails later, in a place that knows nothing of the file.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MOST_LEVELS = 50
MOST_DIGITS = 100
"""Of a whole number: more than any count or size has."""


def parsed(text: str | bytes) -> Any:
    r"""The value of a JSON text.

    Args:
        text: `bytes` are UTF-8.

    Raises:
        ValueError: it is not JSON, or a number, a text or the nesting in it is out of bounds.

    Example:
        >>> parsed('{"a": [1, 2.5, null]}')
        {'a': [1, 2.5, None]}
        >>> parsed("1e999")
        Traceback (most recent call last):
        ValueError: the number 1e999 is not finite
    """
    try:
        written = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(
            written, parse_float=_float, parse_int=_int, parse_constant=_not_a_number
        )
        _require_few_levels(value)
        if "\\u" in written:  # nothing else can make half a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise _too_deep() from error
    except UnicodeError as error:
        raise ValueError("it holds half a character, which is no text") from error
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is not finite")
    return value


def _int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; at most {MOST_DIGITS} are read")
    return int(text)


def _not_a_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _require_few_levels(value: Any) -> None:
    """Level by level, so that no depth is too deep for the check itself."""
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"nested more than {MOST_LEVELS} levels deep")
