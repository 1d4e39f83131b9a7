"""Ending what was started: on success, on failure, on Ctrl-C, on SIGTERM and when a terminal goes.

Flower and Ray start processes in sessions of their own, which outlive the one that asked for them.
All of them inherit the environment, so a variable with a value that nobody else has finds them.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

MARK = "FLWR_HOME"
"""The variable whose value marks the processes of one run."""

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 4.0
_ROUNDS = 10


def marked(value: str) -> list[psutil.Process]:
    """List the processes, other than this one, whose environment holds the mark.

    Args:
        value: the value of the variable `MARK`.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == value:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def open_to_others(processes: Iterable[psutil.Process]) -> list[str]:
    """List the addresses, as HOST:PORT, at which processes listen for other machines.

    Args:
        processes: those of one user; one that has ended listens nowhere.
    """
    found = []
    for process in processes:
        try:
            connections = process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        listening = [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
        found += [f"{each.ip}:{each.port}" for each in listening if not is_loopback(each.ip)]
    return found


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address.

    Example:
        >>> [is_loopback(each) for each in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "::")]
        [True, True, True, False]
    """
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def end_marked(value: str) -> None:
    """End every process that holds the mark: politely first, then until none is left."""
    for attempt in range(_ROUNDS):
        processes = marked(value)
        if not processes:
            return
        for process in processes:
            _signal(process, gently=attempt == 0)
        psutil.wait_procs(processes, timeout=_PATIENCE if attempt == 0 else 1.0)


def _signal(process: psutil.Process, gently: bool) -> None:
    try:
        if gently:
            process.terminate()
        else:
            process.kill()
    except psutil.NoSuchProcess:
        pass


class Interrupts:
    """Turns the first signal to stop into an exception, once, and holds back later ones.

    Without it SIGTERM and SIGHUP end this process on the spot, and a second Ctrl-C breaks off the
    ending of the others.
    """

    def __init__(self) -> None:
        self._armed = True
        self._late: int | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Handle one signal."""
        if self._armed:
            self._armed = False
            _stop(number)
        self._late = number

    def hold(self) -> None:
        """Hold back every signal from now on."""
        self._armed = False

    def pass_on(self) -> None:
        """Raise for the signal that was held back, if there was one."""
        if self._late is not None:
            _stop(self._late)


def _stop(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Handle SIGINT, SIGTERM and SIGHUP within the block; restore the handlers after it.

    What is ignored stays so: that is how `nohup` keeps a run alive when its terminal goes, and a
    shell the commands that it runs in the background. Only a main thread may handle signals; in
    another one they stay with whoever has them.
    """
    interrupts = Interrupts()
    numbers: list[int] = []
    if threading.current_thread() is threading.main_thread():
        # None is a handler that was not set from Python and cannot be set again from here.
        numbers = [n for n in _STOPS if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, interrupts) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
