"""Asking several clients, and showing who is waited for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from neulig_fl.core.progress import Bar
from neulig_fl.records.transport import Answer, Ask, Transport

_NAMED = 3


def answers(
    clients: Transport,
    asks: Sequence[Ask],
    timeout: float,
    bar: Bar,
    *,
    one_by_one: bool = False,
) -> Iterator[Answer]:
    """Ask clients, and count their answers.

    Args:
        clients: who carries the messages.
        asks: the requests; at most one for each client.
        timeout: seconds to wait without any answer.
        bar: one step for each answer.
        one_by_one: each is asked when the one before has answered, so that no two large payloads
            are held at once.

    Returns:
        As `Transport.ask`.
    """
    waiting = dict.fromkeys(ask.client for ask in asks)
    if waiting:
        bar.say(waited_for(waiting))
    for group in [[ask] for ask in asks] if one_by_one else [asks]:
        for answer in clients.ask(group, timeout):
            waiting.pop(answer.client, None)
            bar.advance(says=waited_for(waiting))
            yield answer
            del answer  # its payload must not live on while the next one comes


def waited_for(names: Collection[str]) -> str:
    """Who is waited for, in a few words.

    Example:
        >>> waited_for(["ada", "bob"])
        'waiting for ada, bob'
        >>> waited_for(["ada", "bob", "cyd", "dan", "eve"])
        'waiting for ada, bob, cyd and 2 more'
    """
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"waiting for {', '.join(list(names)[:_NAMED])}{more}"
