"""Stores that outlive a run, and what a run leaves out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from neulig_fl.client.store import ClientStore
from neulig_fl.report import Report
from neulig_fl.study import runs
from neulig_fl.verification import whole_run

POOL = [{"kind": "features", "queries": ["pool"]}]


def _run(folder: Path, data: Path, out: str, stores: Path | None = None, **changes: Any) -> Report:
    changes = {"stages": [{"name": "one", "share": POOL}], **changes}
    path = tiny.write(folder / out, data, **changes)
    return runs.run(path, "local", folder / out / "run", stores=stores)


def test_stores_outlive_a_run(data: Path, tmp_path: Path) -> None:
    """Without it each run would have clients with other keys, who know of nothing that left."""
    stores = tmp_path / "stores"
    first, second = (_run(tmp_path, data, out, stores) for out in ("a", "b"))
    keys = [report.data["ledger"]["trust"] for report in (first, second)]
    assert keys[0] == keys[1]
    assert [r["sha256"] for r in tiny.releases(first)] == [
        r["sha256"] for r in tiny.releases(second)
    ]
    for name in tiny.CLIENTS:
        entries = ClientStore(stores / name).entries()
        assert [e["event"] for e in entries] == ["release", "repeat"]
        assert not (tmp_path / "b" / "run" / "clients").exists()
    other = _run(tmp_path, data, "c")
    assert other.data["ledger"]["trust"] != keys[0]
    assert (tmp_path / "c" / "run" / "clients" / "ada" / "ledger.jsonl").is_file()


def test_stores_elsewhere_are_verified_too(data: Path, tmp_path: Path) -> None:
    """Without it a run with stores of its own would never be held against them."""
    stores = tmp_path / "stores"
    for out in ("a", "b"):
        _run(tmp_path, data, out, stores)
    for out in ("a", "b"):
        (found,) = whole_run.verify(tmp_path / out / "run", stores=stores)
        assert found.holds
        assert [client.own for client in found.clients] == [2, 2, 2]
        (unseen,) = whole_run.verify(tmp_path / out / "run")
        assert [client.own for client in unseen.clients] == [None] * 3
    ledger = stores / "bob" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[1])
    (found,) = whole_run.verify(tmp_path / "a" / "run", stores=stores)
    assert [failure.file for failure in found.failures] == [ledger]


def test_the_reference_is_this_runs_alone(data: Path, tmp_path: Path) -> None:
    """Without it a report would show how good another run's experts are."""
    stores, groups = tmp_path / "stores", {"epochs": 1, "lr": 1e-3, "batch_size": 16}
    stages = [{"name": "one", "share": POOL}, {"name": "two", "group": "B", "share": POOL}]
    experts = {**groups, "groups": ["A", "B"]}
    both = _run(tmp_path, data, "a", stores, stages=stages, experts=experts)
    assert [e["group"] for e in both.data["reference"]["experts"]] == ["A"] * 3 + ["B"] * 3
    one = _run(tmp_path, data, "b", stores)
    assert [e["group"] for e in one.data["reference"]["experts"]] == ["A"] * 3


@pytest.mark.parametrize("asked", [True, False])
def test_the_python_call_leaves_the_reference_out(asked: bool, data: Path, tmp_path: Path) -> None:
    """Without it a notebook could not do what the command line does."""
    path = tiny.write(tmp_path, data, stages=[{"name": "one", "share": POOL}])
    report = runs.run(path, "local", tmp_path / "out", with_reference=asked)
    assert bool(report.data["reference"]["experts"]) == asked
    words = "Exact ground truth that only a simulation has"
    assert words in (tmp_path / "out" / "report.md").read_text()
