"""Whether scenarios give the results of an earlier commit, bit for bit.

`keep FILE` runs the scenarios with the neulig-fl of the Python that runs this script, and writes
what their reports say; `compare FILE` runs them again and names the first differences. Run `keep`
with the Python of the earlier commit's environment, and both with the same cache folder
(NEULIG_CACHE), so that experts which the earlier commit trained are read and not trained again.
The same machine and engine are needed: figures differ by processor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS: dict[str, tuple[str, ...]] = {
    "scenarios/quickstart.yaml": (),
    "scenarios/micro/four-rn.yaml": (),
    "scenarios/micro/baselines-vit.yaml": ("seeds=[7]",),
    "scenarios/micro/diverse-origin.yaml": (),
    "scenarios/privacy/outputs-then-sums.yaml": (),
    "scenarios/privacy/never-parameters.yaml": (),
}
"""What the runs are of, and what is set in each."""
MEASURED = ("seconds", "peak_rss_bytes")
"""What differs between any two runs."""
MOST_NAMED = 10


def main() -> int:
    """Keep or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("keep", "compare"))
    parser.add_argument("file", type=Path, help="JSON: what the reports say, by scenario")
    parser.add_argument("scenarios", nargs="*", help=f"default: {', '.join(SCENARIOS)}")
    asked = parser.parse_args()
    kept = json.loads(asked.file.read_text(encoding="utf-8")) if asked.file.exists() else {}
    names = asked.scenarios or list(SCENARIOS)
    missing = [name for name in names if name not in kept]
    if missing and asked.action == "compare":
        parser.error(
            f"{asked.file} has no results of {', '.join(missing)}; keep them first, with the "
            f"Python of the earlier commit: same_results.py keep {asked.file} {' '.join(missing)}"
        )
    different = 0
    for name in names:
        now = said(name)
        if asked.action == "keep":
            kept[name] = now
            asked.file.write_text(json.dumps(kept, indent=1), encoding="utf-8")
            continue
        told = [*differences(kept[name], now, name)]
        different += len(told)
        sys.stdout.write(f"{name}: {figures(now)} figures, {len(told)} differ\n")
        for line in told[:MOST_NAMED]:
            sys.stdout.write(f"  {line}\n")
    return 1 if different else 0


def said(scenario: str) -> dict[str, Any]:
    """`results` of every stage, and `reference`, of one run under the local engine."""
    sys.stderr.write(f"{scenario} ...\n")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "neulig_fl", "run", str(ROOT / scenario)]
        settings = [part for each in SCENARIOS.get(scenario, ()) for part in ("--set", each)]
        subprocess.run(
            [*command, "--engine", "local", "--out", str(out), *settings],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    stages = {stage["name"]: stage["results"] for stage in report["stages"]}
    maps = report["coopvec_maps"]
    found: dict[str, Any] = _without(
        {"results": stages, "reference": report["reference"], "coopvec_maps": maps}
    )
    return found


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in MEASURED}
    return [_without(inner) for inner in value] if isinstance(value, list) else value


def figures(value: Any) -> int:
    """How many numbers, texts and nulls there are."""
    if isinstance(value, dict):
        return sum(map(figures, value.values()))
    return sum(map(figures, value)) if isinstance(value, list) else 1


def differences(one: Any, other: Any, where: str) -> Iterator[str]:
    """Every place at which two values differ, numbers to the last bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            yield from differences(one.get(key), other.get(key), f"{where}.{key}")
    elif _both_lists(one, other):
        for place, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from differences(first, second, f"{where}.{place}")
    elif one != other:
        yield f"{where}: {one!r}, now {other!r}"


def _both_lists(one: Any, other: Any) -> bool:
    lists = isinstance(one, Sequence) and isinstance(other, Sequence)
    return (
        lists
        and not isinstance(one, str)
        and not isinstance(other, str)
        and (len(one) == len(other))
    )


if __name__ == "__main__":
    sys.exit(main())
