"""What was found of each module: kept as JSON, counted without what is equivalent, as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from scipy.stats import binomtest

from neulig_fl.core.files import write_atomically

FOLDER = Path(__file__).parent
MODULES = FOLDER / "modules.yaml"
EQUIVALENT = FOLDER / "equivalent.yaml"
LEAST = 90.0
"""Percent of a module's mutants that its tests notice at least."""

HEAD = (
    "| module | mutants | tried | equivalent | killed | score, % |",
    "| :-- | --: | --: | --: | --: | :-- |",
)


@dataclass(frozen=True)
class Survivor:
    """A mutant that no test noticed.

    Args:
        at: the line of the source, without its indentation.
        before: the code that was replaced.
        after: what stood there instead.
    """

    at: str
    before: str
    after: str


@dataclass(frozen=True)
class Found:
    """What a run found of one module.

    Args:
        mutants: that there are.
        tried: of them, all or a sample.
        seed: of the sample; None when all were tried.
        timeouts: of those noticed, how many took too long.
        survived: what no test noticed, equivalent ones included.
    """

    mutants: int
    tried: int
    seed: int | None
    timeouts: int = 0
    survived: tuple[Survivor, ...] = field(default=())

    def equivalent(self, reasons: Mapping[Survivor, str]) -> int:
        """How many of those that survived do what the module does."""
        return sum(each in reasons for each in self.survived)

    def score(self, reasons: Mapping[Survivor, str]) -> tuple[int, int]:
        """Mutants that were noticed, and those that could be."""
        could = self.tried - self.equivalent(reasons)
        return self.tried - len(self.survived), could


def pairs() -> dict[str, list[str]]:
    """Each module's tests, as pytest takes them."""
    read: dict[str, list[str]] = yaml.safe_load(MODULES.read_text(encoding="utf-8"))
    return {file: [*tests, file] for file, tests in read.items()}


def equivalents() -> dict[str, dict[Survivor, str]]:
    """By module the mutants that do what it does, each with the reason."""
    read = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8"))
    return {
        file: {Survivor(e["at"], e["before"], e["after"]): e["why"] for e in entries}
        for file, entries in read.items()
    }


def name(file: str) -> str:
    """A module in the table and of its file of data: `privacy.secagg.wire`."""
    return file.removeprefix("neulig_fl/").removesuffix(".py").replace("/", ".")


def write(folder: Path, file: str, found: Found) -> None:
    """Keep what was found of a module."""
    text = json.dumps(asdict(found), indent=1, ensure_ascii=False)
    write_atomically(folder / f"{name(file)}.json", (text + "\n").encode())


def read(folder: Path, file: str) -> Found | None:
    """What was found of a module; None when it was never tried."""
    path = folder / f"{name(file)}.json"
    if not path.is_file():
        return None
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    survived = tuple(Survivor(**each) for each in said.pop("survived"))
    return Found(**said, survived=survived)


def table(folder: Path, files: Sequence[str]) -> str:
    """The table of all modules, as Markdown."""
    return "\n".join([*HEAD, *_rows(folder, files)]) + "\n"


def _rows(folder: Path, files: Sequence[str]) -> Iterator[str]:
    reasons = equivalents()
    for file in files:
        found = read(folder, file)
        if found is not None:
            same = reasons.get(file, {})
            noticed, could = found.score(same)
            cells = (found.mutants, found.tried, found.equivalent(same), noticed)
            counts = " | ".join(str(cell) for cell in cells)
            yield f"| `{name(file)}` | {counts} | {_score(found, noticed, could)} |"


def _score(found: Found, noticed: int, could: int) -> str:
    """The score; of a sample with its 95 % interval (Wilson's)."""
    said = f"{100 * noticed / could:.1f}"
    if found.tried == found.mutants:
        return said
    ends = binomtest(noticed, could).proportion_ci(method="wilson")
    return f"{said} ({100 * ends.low:.0f} to {100 * ends.high:.0f})"
