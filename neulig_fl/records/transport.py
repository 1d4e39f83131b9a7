"""What the server logic asks of the clients and what they answer, whatever carries the messages.

The seam between the stages, which know nothing of Flower, and `runtime`, which knows nothing of
stages: `ask` takes one `Ask` for each client and yields exactly one `Answer` for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Status = Literal["ok", "refused", "failed", "missing"]


@dataclass(frozen=True)
class Ask:
    """One request to one client.

    Args:
        client: the client's name in the scenario.
        action: `hello`, `prepare`, `release`, `sum` or `close`.
        body: JSON-able details of the request.
        payload: raw bytes that go with it, such as queries by value.
    """

    client: str
    action: str
    body: dict[str, Any] = field(default_factory=dict, repr=False)
    payload: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Answer:
    """What came of one `Ask`.

    Args:
        client: the client that was asked.
        action: the action that was asked for.
        status: `ok`; `refused` by the client's policy; `failed` with an error; `missing` when
            nothing came in time.
        reason: why it is not `ok`, one line that names no path; None when it is.
        body: the reply's details; empty unless the status is `ok`.
        payload: the reply's raw bytes; empty unless the status is `ok`.
    """

    client: str
    action: str
    status: Status
    reason: str | None
    body: dict[str, Any] = field(repr=False)
    payload: memoryview | bytes = field(repr=False)


class Transport(Protocol):
    """The clients of one run, as the server logic sees them."""

    @property
    def carrier(self) -> str:
        """The id under which Flower carries the run; empty where no Flower does."""
        ...

    def ask(self, asks: Sequence[Ask], timeout: float) -> Iterator[Answer]:
        """Send every request, then yield one answer for each, in the order of arrival.

        Args:
            asks: the requests; at most one for each client.
            timeout: seconds to wait without any answer before the rest is given up.

        Returns:
            Exactly one `Answer` for each `Ask`; the missing ones come last.
        """
        ...
