"""What a merge method needs released, and what it needs at the merger."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """What a merge method needs released, and what it needs at the merger.

    Args:
        each: kinds of record of which it reads each client's own.
        sums: kinds of which sums over the clients are enough, so that secure sums fit.
        start: whether it needs theta_0, so that experts of diverse origin cannot be merged by it.
        queries: whether it needs inputs at the merger: unlabelled ones of the public pool.
        outputs: query sets whose outputs of each client its ensemble counterpart reads; none where
            there is no counterpart.
        experts: how many experts it merges; None for any number.

    Example:
        >>> print(Needs(each=("parameters",), start=True))
        parameters of each client, theta_0
        >>> print(Needs(sums=("gram", "parameters")))
        sums of gram and parameters
    """

    each: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    start: bool = False
    queries: bool = False
    outputs: tuple[str, ...] = ()
    experts: int | None = None

    def __str__(self) -> str:
        """In words, as tables and refusals have it."""
        return ", ".join((*self.released, *self.besides))

    @property
    def released(self) -> tuple[str, ...]:
        """What the clients have to give away, in words."""
        each = f"{' and '.join(self.each)} of each client"
        sums = f"sums of {' and '.join(self.sums)}"
        return tuple(words for words, kinds in ((each, self.each), (sums, self.sums)) if kinds)

    @property
    def besides(self) -> tuple[str, ...]:
        """What the merger has to have itself, in words."""
        found = ["theta_0"] if self.start else []
        found += ["unlabelled queries"] if self.queries else []
        found += [f"{self.experts} experts"] if self.experts else []
        return tuple(found)
