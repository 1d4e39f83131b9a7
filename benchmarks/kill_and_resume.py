"""Whether a run that is killed and resumed is the run that nobody killed: results and ledgers.

    python benchmarks/kill_and_resume.py scenarios/quickstart.yaml --work /tmp/killed
    python benchmarks/kill_and_resume.py scenarios/quickstart.yaml --work /tmp/killed --rounds 3

Runs the scenario once, then kills it (SIGKILL) in each of its stages in turn, at random moments,
resumes it and compares with the unbroken run: `results`, comparisons, Portland and CoopVec Maps to
the bit; each client's ledger entry by entry, without times and keys; `neulig-fl verify`. What was
done is kept in `--work`, so the same command adds rounds. Writes WORK/rounds.jsonl, a line a round;
the exit code is 1 if any round differs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neulig_fl.core import unfinished_runs
from neulig_fl.ledger import chain
from neulig_fl.report import Report

COMMAND = [sys.executable, "-m", "neulig_fl"]
MEASURED = {"seconds", "peak_rss_bytes"}
FACTS = ("event", "stage", "kind", "queries", "protection", "rows", "bytes", "repeats", "survivors")
POLL = 0.01


def found(run: Path) -> Any:
    """What of a report follows from the scenario alone."""
    data = Report.load(run).data
    rows = [
        [{k: v for k, v in row.items() if k not in MEASURED} for row in stage["results"]]
        for stage in data["stages"]
    ]
    portland = {k: v for k, v in (data["portland"] or {}).items() if "second" not in k}
    comparisons = [stage["comparisons"] for stage in data["stages"]]
    rest = (data["stage_comparisons"], data["coopvec_maps"], data["notes"])
    return json.loads(json.dumps([rows, comparisons, portland, rest]))


def entered(run: Path) -> dict[str, list[Any]]:
    """Every client's ledger, without times, keys and random bytes."""
    return {
        file.parent.name: [[entry.get(fact) for fact in FACTS] for entry in chain.read(file)]
        for file in sorted((run / "clients").glob("*/ledger.jsonl"))
    }


def killed(scenario: str, engine: str, run: Path, stage: int, delay: float) -> float:
    """Run a scenario and kill it some time after a stage began; how many seconds it lived.

    Args:
        scenario: the file.
        engine: that runs it.
        run: its folder.
        stage: from 0; it begins when the one before it is finished, the first when the run does.
        delay: seconds.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "run", scenario, "--engine", engine, "--out", str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    begun = run / "unfinished" / "run.json"
    while process.poll() is None and not (
        begun.exists() and unfinished_runs.stages_done(run) >= stage
    ):
        time.sleep(POLL)
    until = time.monotonic() + delay
    while process.poll() is None and time.monotonic() < until:
        time.sleep(POLL)
    process.kill()
    process.wait()
    return time.monotonic() - start


def one_round(arguments: argparse.Namespace, number: int, whole: Path) -> dict[str, Any]:
    """Kill a run, resume it, and compare it with the unbroken one; a line of the results."""
    stages = [stage["name"] for stage in Report.load(whole).data["stages"]]
    stage, run = number % len(stages), arguments.work / "killed"
    shutil.rmtree(run, ignore_errors=True)
    seconds = Report.load(whole).data["seconds"]
    length = float(seconds[f"stage {stages[stage]}"]) + (
        float(seconds.get("prepare", 0.0)) if stage == 0 else 0.0
    )
    delay = random.SystemRandom().uniform(0.0, length)
    lived = killed(arguments.scenario, arguments.engine, run, stage, delay)
    done = unfinished_runs.stages_done(run)
    broken = not (run / "report.json").exists()
    answers = len([*(run / "unfinished" / "answers").glob("*")]) if broken else 0
    resumed = subprocess.run(
        [*COMMAND, "run", "--resume", str(run)], capture_output=True, text=True, check=False
    )
    ended = resumed.returncode == 0
    verified = (
        ended
        and subprocess.run(
            [*COMMAND, "verify", str(run)], capture_output=True, check=False
        ).returncode
        == 0
    )
    return {
        "round": number,
        "in": stages[done] if broken and done < len(stages) else "the end",
        "lived": round(lived, 2),
        "answers": answers,
        "resumed": ended,
        "same results": ended and found(run) == found(whole),
        "same ledgers": ended and entered(run) == entered(whole),
        "verified": verified,
        "said": "" if ended else resumed.stderr[-400:],
    }


def main(given: Sequence[str] | None = None) -> int:
    """Do what this module says; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scenario")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--engine", default="local", help="local or simulation")
    arguments = parser.parse_args(given)
    arguments.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole, lines = arguments.work / "whole", arguments.work / "rounds.jsonl"
    if not (whole / "report.json").exists():
        shutil.rmtree(whole, ignore_errors=True)
        command = [*COMMAND, "run", arguments.scenario, "--engine", arguments.engine]
        subprocess.run([*command, "--out", str(whole)], check=True, stdout=subprocess.DEVNULL)
    before = len(lines.read_text().splitlines()) if lines.exists() else 0
    wrong = 0
    for number in range(before, before + arguments.rounds):
        line = one_round(arguments, number, whole)
        with lines.open("a") as file:
            file.write(json.dumps(line) + "\n")
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        wrong += not all(line[key] for key in ("same results", "same ledgers", "verified"))
    sys.stdout.write(f"{arguments.rounds} rounds, {wrong} differ\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
