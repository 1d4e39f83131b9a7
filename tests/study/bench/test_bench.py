"""The benchmarks: that they measure what they say. No test here asserts a time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tiny

from neulig_fl.config.scenario import PortlandOptions, Scenario
from neulig_fl.core import progress, variants
from neulig_fl.ledger import manifest
from neulig_fl.runtime.engines.local import threads
from neulig_fl.study import runs, server_loop
from neulig_fl.study.bench import Measurement, engine, memory, portland, sentence


@pytest.mark.parametrize("name", variants.names("neulig_fl.study.bench"))
def test_every_benchmark_can_be_run_by_its_name(name: str) -> None:
    """Without it a new benchmark would be offered that cannot be measured."""
    module = variants.load("neulig_fl.study.bench", name)
    assert module.REPEATS >= 1
    assert callable(module.measure)
    assert module.__doc__


def test_portland_is_measured_on_quickstarts_shapes() -> None:
    """Without it the figure would be that of another problem."""
    queries = portland.made_up()
    assert [tuple(q.outputs.shape) for q in queries] == [(300, 4, 128)] * 4
    assert all(q.head is not None and q.head.shape == (10, 128) for q in queries)
    found = portland.measure(repeats=2)
    assert len(found.values) == 2
    assert found.figure > 0
    assert found.met is (found.figure > portland.GOAL)
    assert found.details["times slower than bare"] > 0


def test_the_bare_layer_sees_as_many_samples() -> None:
    """Without it the ratio to the bare layer would compare different amounts of work."""
    queries, options = portland.made_up(), PortlandOptions(epochs=1)
    seen = sum(
        len(rows)
        for _, rows in portland.portland.batches(
            [len(q.outputs) for q in queries], options.batch_size, portland.torch.Generator()
        )
    )
    assert seen == 4 * 300


def test_direct_calls_do_what_the_engine_does(data: Path, tmp_path: Path) -> None:
    """Without it the engine would be compared with other work than its own."""
    report = tiny.run(tmp_path, data)
    scenario = tiny.scenario(tmp_path, data)
    out = tmp_path / "direct"
    out.mkdir()
    with threads(1):
        show = progress.to_file(out / progress.FILE)
        server_loop.serve(scenario, scenario.seed, engine.Direct(scenario, out), out, show)
    stages = json.loads((out / manifest.OUTCOME).read_text())["stages"]
    direct = runs.Report({**report.data, "stages": stages})
    assert tiny.results(direct) == tiny.results(report)
    assert tiny.releases(direct) == tiny.releases(report)


def test_the_engine_is_measured_in_a_cache_of_its_own(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a benchmark would leave experts in the user's cache, or measure training."""
    before = os.environ["NEULIG_CACHE"]
    monkeypatch.setattr(engine, "SCENARIO", tiny.said(data))
    found = engine.measure(repeats=2)
    assert os.environ["NEULIG_CACHE"] == before
    assert len(found.values) == 2
    assert found.met is (found.figure < engine.GOAL)
    assert all(value > 0 for value in found.details.values())


def test_the_benchmarks_scenarios_are_valid() -> None:
    """Without it a change of the scenario's models would break a benchmark unseen."""
    for module in (engine, memory):
        assert Scenario.model_validate(module.SCENARIO).name == "bench"


@pytest.mark.slow
def test_memory_is_seen_from_outside_torch() -> None:
    """Without it a copy that torch makes would not be in the figure."""
    found = memory.measure(repeats=1)
    assert found.figure > memory.EXPERTS / (memory.EXPERTS + 1) * 0.95
    assert found.figure < 2.0
    assert found.details["MiB of one expert"] > 80


def test_a_measurement_is_told_with_its_goal() -> None:
    """Without it a reader would not know whether a figure is good."""
    found = Measurement("x", "time", 1.2, "of direct", "under 1.05", False, [1.1, 1.2, 1.3])
    assert sentence(found).splitlines() == [
        "x: time: 1.2 of direct (goal: under 1.05; NOT met)",
        "  from 1.1 to 1.3 over 3 repetitions",
    ]
