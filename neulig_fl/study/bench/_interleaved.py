"""Times several calls in turn, so that what else a machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neulig_fl.study.baseline_rows import peak_rss_bytes

Call = Callable[[], Tensor]


@dataclass(frozen=True)
class Timed:
    """What was found.

    Args:
        seconds: of every counted round, by call.
        results: what each call gave in the round that warms up.
        peaks: the process's largest resident set up to the end of each call's first run, bytes.
        failed: why a call that may fail has no times, by call.
    """

    seconds: dict[str, list[float]]
    results: dict[str, Tensor]
    peaks: dict[str, int]
    failed: dict[str, str]


def interleaved(
    calls: Mapping[str, Call],
    rounds: int,
    on_call: Callable[[], None],
    may_fail: frozenset[str] = frozenset(),
) -> Timed:
    """Run every call once a round, every other round in reverse; the first round is not counted.

    Args:
        calls: what is run; in this order in the round that warms up.
        rounds: that are counted.
        on_call: called after each.
        may_fail: calls that are left out of all other rounds if they fail in the first one.
    """
    found = Timed({}, {}, {}, {})
    for name, call in calls.items():
        try:
            found.results[name] = call()
        except (RuntimeError, ValueError) as error:  # what torch raises where it cannot do it
            if name not in may_fail:
                raise
            found.failed[name] = f"{type(error).__name__}: {_first_line(error)}"
        found.peaks[name] = peak_rss_bytes()
        on_call()
    able = [name for name in calls if name not in found.failed]
    found.seconds.update({name: [] for name in able})
    for turn in range(rounds):
        for name in able if turn % 2 else reversed(able):
            found.seconds[name].append(seconds_of(calls[name]))
            on_call()
    return found


def seconds_of(call: Call) -> float:
    """How long a call takes, until the device has done what it asked for."""
    _finish()
    start = time.perf_counter()
    call()
    _finish()
    return time.perf_counter() - start


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
