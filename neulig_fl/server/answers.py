"""The clients' answers as an unfinished run keeps them: each is on the disk before it is acted on.

A server that is resumed goes through the run again, and is told from here what was answered before;
so it comes to the same, byte for byte, and asks nobody twice. What is kept of the records is what
the server knows already.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neulig_fl.core import kept_files, strict_json
from neulig_fl.core.errors import InputError
from neulig_fl.ledger.chain import canonical
from neulig_fl.records.transport import Answer, Ask, Transport

SUM = "sum"
_KEPT = ("prepare", "release", SUM)
_ENDING = ".answer"
_GRACE = 0.5
"""Seconds that a lost answer is held back: what loses it may be the end of the whole run."""


@dataclass
class Answers:
    """The answers in a folder.

    Args:
        folder: there; of the run alone.
    """

    folder: Path
    _files: dict[str, Path] = field(init=False, default_factory=dict)
    _hashes: dict[Path, str] = field(init=False, default_factory=dict)
    _sums: list[str] = field(init=False, default_factory=list)
    _count: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        for file in sorted(self.folder.glob(f"*{_ENDING}")):
            said, _ = kept_files.read(file)
            self._remember(said["of"], said["action"], file, kept_files.digest(file))
            self._count = max(self._count, int(file.stem))

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file, by its name; without messages of secure sums, which are erased."""
        gone = {self._files[of] for of in self._sums}
        return {file.name: digest for file, digest in self._hashes.items() if file not in gone}

    def _remember(self, of: str, action: str, file: Path, digest: str) -> None:
        self._files[of], self._hashes[file] = file, digest
        if action == SUM:
            self._sums.append(of)

    def find(self, ask: Ask) -> Answer | None:
        """What was answered before; None where it was not.

        Raises:
            InputError: its file was cut or changed.
        """
        file = self._files.get(_of(ask))
        if file is None:
            return None
        said, payload = kept_files.read(file, self._hashes[file])
        body = strict_json.parsed(said["body"])
        return Answer(ask.client, ask.action, said["status"], said["reason"], body, payload)

    def keep(self, ask: Ask, answer: Answer) -> None:
        """Keep an answer; on return it is on the disk.

        Raises:
            RunError: the disk refuses.
        """
        self._count += 1
        file, of = self.folder / f"{self._count:06}{_ENDING}", _of(ask)
        said: dict[str, Any] = {"of": of, "client": ask.client, "action": ask.action}
        # The body as text: what comes from a client may be nested as deep as is read at all.
        body = json.dumps(answer.body, allow_nan=False)
        said |= {"status": answer.status, "reason": answer.reason, "body": body}
        self._remember(of, ask.action, file, kept_files.write(file, said, answer.payload))

    def forget_sums(self) -> None:
        """Erase the messages of secure sums, whose outcome is kept: masked vectors are large."""
        for of in self._sums:
            file = self._files.pop(of)
            del self._hashes[file]
            file.unlink(missing_ok=True)
        self._sums.clear()


def _of(ask: Ask) -> str:
    """Identifies what is asked of whom."""
    payload = hashlib.sha256(ask.payload).hexdigest()
    return hashlib.sha256(
        canonical([ask.client, ask.action, ask.body, payload]).encode()
    ).hexdigest()


@dataclass
class KeptTransport:
    """The clients of an unfinished run: who answered before is not asked again.

    Args:
        transport: who carries the messages to them.
        answers: what was answered before; what is answered now is added.
        is_abandoned: whether the run is being ended.
        complete: whether everything that is asked must have been answered before, as in a stage
            that is finished.
    """

    transport: Transport
    answers: Answers
    is_abandoned: Callable[[], bool] = lambda: False
    complete: bool = False

    @property
    def carrier(self) -> str:
        """Flower's id of the run."""
        return self.transport.carrier

    def ask(self, asks: Sequence[Ask], timeout: float) -> Iterator[Answer]:
        """See `Transport.ask`.

        Raises:
            InputError: an answer of a finished stage is not there.
            InterruptedError: no answer came, and the run is being ended.
        """
        fresh = []
        for ask in asks:
            found = self.answers.find(ask) if ask.action in _KEPT else None
            if found is None:
                fresh.append(ask)
            else:
                yield found
        if not fresh:
            return
        if self.complete and fresh[0].action in _KEPT:
            raise InputError(
                f"{self.answers.folder}: the answer of client {fresh[0].client} in a finished "
                "stage is not there; the run cannot go on, begin it anew"
            )
        asked = {ask.client: ask for ask in fresh}
        for answer in self.transport.ask(fresh, timeout):
            if answer.status in ("missing", "failed"):
                self._require_wanted()
            if answer.action in _KEPT:
                self.answers.keep(asked[answer.client], answer)
            yield answer

    def _require_wanted(self) -> None:
        time.sleep(_GRACE)
        if self.is_abandoned():
            raise InterruptedError("the run is being ended")
