"""What OpenCLIP and Hugging Face fetch: the reason where it fails, and no logs beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from neulig_fl.core.errors import plain

_LOGGERS = ("", "huggingface_hub", "transformers")


@contextmanager
def quiet() -> Iterator[None]:
    """Errors are raised here, and say why; random weights, which OpenCLIP warns of, are meant."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def reason(error: BaseException) -> str:
    """Why something could not be fetched: what was raised first, not what was made of it.

    Example:
        >>> try:
        ...     try:
        ...         raise OSError("Name or service not known")
        ...     except OSError as error:
        ...         raise RuntimeError("Failed to download") from error
        ... except RuntimeError as error:
        ...     reason(error)
        'Name or service not known'
    """
    first = error
    found: BaseException | None = error
    while found is not None:
        # A missing package is better named by who asked for it: "Using SOCKS proxy, but ...".
        if not isinstance(found, ModuleNotFoundError):
            first = found
        found = found.__cause__ or found.__context__
    text = str(first).strip()
    return plain(text.splitlines()[0], 300) if text else type(first).__name__
