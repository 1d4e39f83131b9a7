"""Changes the modules that decide about privacy and figures, one change at a time, and tests them.

    python benchmarks/mutants.py
    python benchmarks/mutants.py --only records.budgets privacy.secagg.wire
    python benchmarks/mutants.py --only gate --again

A change that no test notices is a test that is missing, or is listed as equivalent with its reason
in benchmarks/mutation/equivalent.yaml. What was found is kept in benchmarks/results/mutants/, and
the table in CONTRIBUTING.md is made from there. Progress goes to the standard error.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mutation import scores, trials
from mutation.mutants import Mutant, mutants
from mutation.scores import Found, Survivor

from neulig_fl.core.errors import InputError, nearest
from neulig_fl.core.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
DATA = Path(__file__).with_name("results") / "mutants"
TABLE = re.compile(r"(<!-- mutants -->\n).*?(<!-- end of mutants -->)", re.DOTALL)


def asked_for(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--only", nargs="*", metavar="NAME", help="these modules (none: the table alone); else all")
    add("--most", type=int, default=120, help="mutants of a module; of more, a sample is drawn")
    add("--seed", type=int, default=0, help="of the samples")
    add("--again", action="store_true", help="only what survived the last time")
    add("--data", type=Path, default=DATA, help="folder of what was found")
    add("--page", type=Path, default=PAGE, help="the page that has the table")
    return parser.parse_args(arguments)


def main(asked: argparse.Namespace) -> None:
    """Try every module, keep what was found and write the table.

    Raises:
        InputError: a module that is not in benchmarks/mutation/modules.yaml.
    """
    os.chdir(ROOT)
    pairs = scores.pairs()
    wanted = chosen(asked.only, list(pairs))
    if wanted:
        trials.load_libraries()
    for file in wanted:
        # Each module gets a process: another's mutants must not find its modules loaded.
        child = os.fork()
        if child == 0:
            try:
                scores.write(asked.data, file, of_module(asked, file, pairs[file]))
                os._exit(0)
            except Exception as error:
                _say(f"{scores.name(file)}: {error}")
            finally:
                os._exit(1)
        if os.waitpid(child, 0)[1]:
            raise InputError(f"{file}: not tried; the reason stands above")
    write_table(asked, list(pairs))


def chosen(names: Sequence[str] | None, files: Sequence[str]) -> list[str]:
    """The modules of these names, in the list's order."""
    known = {scores.name(file): file for file in files}
    for name in names or ():
        if name not in known:
            raise InputError(f"no module {name!r} in {scores.MODULES.name}; {nearest(name, known)}")
    return [file for name, file in known.items() if names is None or name in names]


def of_module(asked: argparse.Namespace, file: str, tests: Sequence[str]) -> Found:
    """Try a module's mutants, or a sample of them."""
    source = (ROOT / file).read_text(encoding="utf-8")
    lines, every = source.splitlines(), mutants(source)
    drawn = sample(every, asked.most, f"{asked.seed} {file}")
    before = scores.read(asked.data, file) if asked.again else None
    tried, same = drawn, scores.equivalents().get(file, {})
    if before is not None:
        left = {each for each in before.survived if each not in same}
        tried = [each for each in every if survivor(each, lines) in left]
    known = trials.clean(file, tests)
    _say(f"{scores.name(file)}: {len(tried)} of {len(every)} mutants, {len(known.tests)} tests")
    statuses: Counter[str] = Counter()
    survived = []
    for at, mutant in enumerate(tried, 1):
        span = range(mutant.line, mutant.last + 1)
        status = trials.trial(file, mutant.source, tests, known, span)
        statuses[status] += 1
        if status == "survived":
            survived.append(survivor(mutant, lines))
            if survived[-1] not in same:
                _say(f"  {file}:{mutant.line}: {mutant.before} -> {mutant.after}")
        if at % 20 == 0:
            _say(f"  {at} of {len(tried)}: {dict(statuses)}")
    if before is not None:
        kept = [each for each in before.survived if each in same]
        timeouts = before.timeouts + statuses["timeout"]
        return replace(before, timeouts=timeouts, survived=(*kept, *survived))
    seed = None if len(tried) == len(every) else asked.seed
    return Found(len(every), len(tried), seed, statuses["timeout"], tuple(survived))


def survivor(mutant: Mutant, lines: Sequence[str]) -> Survivor:
    """A mutant as it is kept."""
    return Survivor(lines[mutant.line - 1].strip(), mutant.before, mutant.after)


def sample(every: Sequence[Mutant], most: int, seed: str) -> list[Mutant]:
    """At most so many mutants, in their order; another seed draws others."""
    drawn = set(random.Random(seed).sample(range(len(every)), min(most, len(every))))
    return [each for at, each in enumerate(every) if at in drawn]


def write_table(asked: argparse.Namespace, files: Sequence[str]) -> None:
    """Put the table into its page, between the marks."""
    text = asked.page.read_text(encoding="utf-8")
    write_atomically(asked.page, with_table(text, asked.data, files).encode())


def with_table(text: str, data: Path, files: Sequence[str]) -> str:
    """The page with the table of what was found."""
    made = scores.table(data, files)
    return TABLE.sub(lambda found: found[1] + made + found[2], text)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    try:
        main(asked_for())
    except InputError as error:
        sys.exit(f"mutants: {error}")
