"""Consoles on which nobody else's words move a cursor, whatever table or sentence they stand in."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from neulig_fl.core.errors import plain


class PlainConsole(Console):
    r"""Rich's console; control characters of texts are written as their escapes.

    Names of files, reasons of clients and reports of others are printed. Rich takes out a bell, and
    leaves an escape character as it is.

    Example:
        >>> import io
        >>> console = PlainConsole(file=io.StringIO())
        >>> console.print("a\x1b[2Jb", markup=False)
        >>> console.file.getvalue()
        'a\\x1b[2Jb\n'
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As Rich's; Rich's own control codes pass."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield segment._replace(text="\n".join(map(plain, segment.text.split("\n"))))
