"""benchmarks/mutants.py: which mutants there are, which are noticed, and the table of the scores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from neulig_fl.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = '''"""Words."""

from x import y

Check = dict[int, str]
LEAST = 3


@y
def f(a: int, b: str = "some words") -> int:
    """More words."""
    if a < LEAST:
        raise ValueError(b)
    return a + 1
'''
MADE = [
    ("LEAST = 3", "LEAST = None"),
    ("3", "4"),
    ("a < LEAST", "not (a < LEAST)"),
    ("< LEAST", "<= LEAST"),
    ("ValueError(b)", "ValueError(None)"),
    ("a + 1", "a - 1"),
    ("1", "2"),
]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """benchmarks/mutants.py, which finds the modules beside it as when it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        yield import_module("mutants")


def part(name: str) -> ModuleType:
    """One of the modules that the script is made of; `script` must be loaded."""
    return sys.modules[f"mutation.{name}"]


def test_the_mutants_of_a_source(script: ModuleType) -> None:
    """If this fails, code that decides is left as it is, or words and annotations are changed."""
    made = part("mutants").mutants(SOURCE)
    assert [(each.before, each.after) for each in made] == MADE
    for each in made:
        compile(each.source, "mutant", "exec")
        changed = [
            at
            for at, line in enumerate(each.source.splitlines(), 1)
            if line != SOURCE.splitlines()[at - 1]
        ]
        assert changed == [each.line]  # fmt: skip


def test_a_sample_is_drawn_by_its_seed(script: ModuleType) -> None:
    """If this fails, a score cannot be had again, or every score is of the same mutants."""
    every = list(range(50))
    drawn = [script.sample(every, 10, f"{seed} m") for seed in range(20)]
    assert all(len(set(each)) == 10 and each == sorted(each) for each in drawn)
    assert len({tuple(each) for each in drawn}) == 20
    assert script.sample(every, 10, "3 m") == drawn[3]
    assert script.sample(every, 50, "0 m") == script.sample(every, 99, "0 m") == every


def test_the_score_leaves_out_what_is_equivalent(script: ModuleType, tmp_path: Path) -> None:
    """If this fails, a module looks better or worse tested than it is."""
    scores = part("scores")
    one, two = (scores.Survivor("at", "before", after) for after in "ab")
    found = scores.Found(mutants=10, tried=10, seed=None, timeouts=1, survived=(one, two))
    assert found.score({}) == (8, 10)
    assert found.score({two: "why"}) == (8, 9)
    assert found.score({scores.Survivor("elsewhere", "before", "a"): "why"}) == (8, 10)
    scores.write(tmp_path, "neulig_fl/privacy/secagg/wire.py", found)
    assert scores.read(tmp_path, "neulig_fl/privacy/secagg/wire.py") == found
    assert scores.read(tmp_path, "neulig_fl/client/gate.py") is None
    row = scores.table(tmp_path, ["neulig_fl/client/gate.py", "neulig_fl/privacy/secagg/wire.py"])
    assert row.splitlines()[2:] == ["| `privacy.secagg.wire` | 10 | 10 | 0 | 8 | 80.0 |"]


def test_the_score_of_a_sample_has_an_interval(script: ModuleType, tmp_path: Path) -> None:
    """If this fails, a sample's score reads as if the entire module had been tried."""
    scores = part("scores")
    each = scores.Survivor("at", "before", "after")
    scores.write(tmp_path, "neulig_fl/client/gate.py", scores.Found(900, 100, 0, 0, (each,) * 5))
    row = scores.table(tmp_path, ["neulig_fl/client/gate.py"]).splitlines()[2]
    assert row == "| `client.gate` | 900 | 100 | 0 | 95 | 95.0 (89 to 98) |"  # Wilson's, by hand


def test_the_table_is_made_from_its_data(script: ModuleType) -> None:
    """If this fails, CONTRIBUTING.md's table was edited by hand, or is behind its data."""
    text, files = script.PAGE.read_text(encoding="utf-8"), list(part("scores").pairs())
    assert script.with_table(text, script.DATA, files) == text
    assert "| `records.budgets` |" in text


def test_what_is_listed_is_there(script: ModuleType) -> None:
    """If this fails, an excuse or a pair of module and tests outlived the code that it is about."""
    scores = part("scores")
    for file, tests in scores.pairs().items():
        paths = [each.partition("::")[0] for each in (file, *tests)]
        assert all((ROOT / each).is_file() for each in paths), file
    for file, reasons in scores.equivalents().items():
        source = (ROOT / file).read_text(encoding="utf-8")
        lines = [line.strip() for line in source.splitlines()]
        made = {script.survivor(each, lines) for each in part("mutants").mutants(source)}
        assert set(reasons) <= made, f"{file}: {set(reasons) - made}"
        assert all(len(why) > 10 for why in reasons.values()), file


def test_each_module_reaches_its_score(script: ModuleType) -> None:
    """If this fails, a module that decides has tests that would not notice its mutants."""
    scores = part("scores")
    reasons = scores.equivalents()
    for file in scores.pairs():
        found = scores.read(script.DATA, file)
        if found is not None:
            noticed, could = found.score(reasons.get(file, {}))
            assert 100 * noticed >= scores.LEAST * could, file


def test_a_module_that_is_not_listed(script: ModuleType) -> None:
    """If this fails, a mistyped name looks like a module without survivors."""
    with pytest.raises(
        InputError, match=r"no module 'limit' in modules\.yaml; allowed: .*records\.budgets"
    ):
        script.chosen(["limit"], list(part("scores").pairs()))
    files = list(part("scores").pairs())
    assert script.chosen(None, files) == files
    assert script.chosen(["privacy.secagg.wire"], files) == ["neulig_fl/privacy/secagg/wire.py"]


def test_what_hangs_on_a_mutant_is_loaded_anew(script: ModuleType) -> None:
    """If this fails, a trial runs with modules that hold the code without the mutant."""
    loaded = ["torch", "neulig_fl", "neulig_fl.core.errors", "neulig_fl.records.budgets", "neulig_fl.records.policy_layers",
              "neulig_fl.client.gate", "neulig_fl.client.handler", "neulig_fl.ledger.chain"]  # fmt: skip
    kept = part("trials").independent("neulig_fl.records.policy_layers", loaded)
    assert kept == [
        "torch",
        "neulig_fl",
        "neulig_fl.core.errors",
        "neulig_fl.records.budgets",
        "neulig_fl.ledger.chain",
    ]


TRIED = """
import sys
from pathlib import Path
from mutation import trials

file, test = "neulig_fl/privacy/secagg/wire.py", sys.argv[1]
source = Path(file).read_text()
known = trials.clean(file, [test])
ends = "without end", source + "\\nwhile True: pass\\n"
wrong = "wrong", source.replace('(2, "big")', '(2, "little")')
for name, mutant in (("same", source), wrong, ends):
    if name == "without end":
        trials.TIMES, trials.SECONDS = 0, 2
    print(name, trials.trial(file, mutant, [test], known, range(1, 2)))
print([Path(each).name for each in known.tests], sum(len(lines) for lines in known.lines.values()) > 3)
"""


@pytest.mark.slow
def test_a_trial_notices_what_the_tests_notice(tmp_path: Path) -> None:
    """If this fails, a score is that of the module as it is, or a trial never ends."""
    (tmp_path / "test_it.py").write_text(
        "from neulig_fl.privacy import secagg\nfrom neulig_fl.privacy.secagg import wire\n\n\n"
        "def test_it():\n"
        "    assert wire.pack_count(258) == b'\\1\\2'\n    assert secagg.Terms\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")}
    command = [sys.executable, "-c", TRIED, str(tmp_path / "test_it.py")]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines() == [
        "same survived",
        "wrong killed",
        "without end timeout",
        "['test_it.py::test_it'] True",
    ], ended.stderr
