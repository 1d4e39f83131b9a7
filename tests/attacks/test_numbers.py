"""Attacks by numbers: noise beyond what can be calculated, in scenarios, signed entries, reports."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from neulig_fl.client.store import ClientStore
from neulig_fl.config import values
from neulig_fl.config.policy_rules import Budgets
from neulig_fl.config.stages import Share
from neulig_fl.core.errors import BadReply, ScenarioError
from neulig_fl.ledger import chain, expert_account
from neulig_fl.privacy import accountant
from neulig_fl.records.protections import Case, Stated, gaussian
from neulig_fl.report import contract
from neulig_fl.study import runs
from neulig_fl.verification import whole_run

POOL = tiny.noised({"kind": "features", "queries": ["pool"]}, clip=1.0, delta=1e-5)
SAID: dict[str, Any] = {
    "clients": [{"name": "ada", "task": "first"}, {"name": "bob", "task": "second"}],
    "portland": {"epochs": 1, "batch_size": 4, "alignment": "none"},
    "stages": [{"name": "one", "share": [tiny.noised(POOL, noise_multiplier=2.0)]}],
}
MILLION = "at least 1e-06, at most 1000000.0"
BEYOND = [
    *(("noise_multiplier", value, MILLION) for value in (1e200, 1e-200)),
    *(("epsilon", value, "at least 0.001, at most 1000000.0") for value in (1e300, 1e-300)),
    *(("clip", value, MILLION) for value in (1e300, 1e-300)),
    *(("delta", value, "at least 1e-100, below 1") for value in (1e-300, 1e300)),
]


# ---------------------------------------------------------------- a scenario's author


@pytest.mark.parametrize(("key", "value", "allowed"), BEYOND)
def test_noise_that_cannot_be_calculated_is_refused_where_it_stands(
    key: str, value: float, allowed: str, data: Path, tmp_path: Path
) -> None:
    """The attacker, a scenario's author, would end clients with an error that no policy foresees."""
    one = {} if key in ("epsilon", "noise_multiplier") else {"epsilon": 1.0}
    stages = [{"name": "one", "share": [tiny.noised(POOL, **{**one, key: value})]}]
    told = (
        f": stages.0.share.0.protection.gaussian.{key}: out of range (got {value}); allowed: "
        f"a number, {allowed}"
    )
    with pytest.raises(ScenarioError, match=rf"scenario.yaml:\d+:\d+{re.escape(told)}"):
        tiny.scenario(tmp_path, data, stages=stages)


@pytest.mark.parametrize(
    ("where", "rules"),
    [
        ("secure_aggregation.clip", {"secure_aggregation": {"clip": 1e300}}),
        ("clients.0.policy.budgets.max_epsilon", {"max_epsilon": 1e300}),
        ("clients.0.policy.budgets.max_delta", {"max_delta": 1e-300}),
    ],
)
def test_limits_that_cannot_be_judged_are_refused(
    where: str, rules: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    """The attacker would have a budget that is judged at numbers without a meaning."""
    clients = [{"name": "ada", "task": "first", "policy": {"budgets": rules}}, SAID["clients"][1]]
    changes = rules if "secure_aggregation" in rules else {"clients": clients}
    with pytest.raises(ScenarioError, match=rf"\.yaml:\d+:\d+: {where}: out of range"):
        tiny.scenario(tmp_path, data, **changes)


def _ends(key: str) -> tuple[float, float]:
    about = gaussian.GaussianOptions.model_json_schema()["properties"][key]
    rules = about["anyOf"][0] if "anyOf" in about else about
    return rules["minimum"], rules.get("maximum", math.nextafter(1.0, 0.0))


@pytest.mark.parametrize(
    ("multiplier", "clip", "delta"),
    list(itertools.product(*(_ends(key) for key in ("noise_multiplier", "clip", "delta")))),
)
def test_all_noise_that_a_scenario_can_ask_for_can_be_made(
    multiplier: float, clip: float, delta: float
) -> None:
    """Without it the range would be a promise that the calculation does not keep."""
    noise = {"noise_multiplier": multiplier, "clip": clip, "delta": delta}
    share = Share.model_validate(tiny.noised(POOL, **noise))
    rows = np.full((3, 4), clip, np.float32)
    case = Case("features", 3, share)
    sent = gaussian.PROTECTION.treated({"features": rows}, case)["features"]
    assert np.isfinite(np.square(sent)).all()
    assert math.isfinite(gaussian.PROTECTION.stated(case).facts["epsilon"])
    entry = {"event": "release", "expert": "e", "kind": "features", "noise_multiplier": multiplier}
    found = expert_account.account([], {**entry, "delta": delta, "adjacency": "one model"})
    assert found is not None
    assert expert_account.problem({**entry, "delta": delta, "adjacency": "one model",
                                   "account": found}, []) is None  # fmt: skip


@pytest.mark.parametrize("epsilon", _ends("epsilon"))
@pytest.mark.parametrize("delta", _ends("delta"))
def test_every_epsilon_has_its_noise(epsilon: float, delta: float) -> None:
    """Without it an epsilon that `check` allows would end the run."""
    least, most = _ends("noise_multiplier")
    queries = values.QUERY_SETS
    said = tiny.noised({**POOL, "queries": queries}, epsilon=epsilon, delta=delta)
    share = Share.model_validate(said)
    assert least <= gaussian.PROTECTION.settings(share, "features")["noise_multiplier"] <= most


def test_a_policys_delta_is_a_stages_delta() -> None:
    """Without it a stage could ask for noise that no policy can allow."""
    rules = Budgets.model_json_schema()["properties"]
    assert rules["max_delta"]["minimum"] == _ends("delta")[0]
    assert rules["max_epsilon"]["anyOf"][0]["maximum"] == _ends("epsilon")[1]


# ---------------------------------------------------------------- a client that signs


ODD = (1e300, 10**99, 5e-324, 1e-200)


@pytest.mark.parametrize("noise", ODD)
def test_noise_that_no_account_can_hold_is_a_wrong_reply(
    noise: float, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker, a client, would end the server with an error of arithmetic, and the run."""
    facts = {"noise_multiplier": noise, "delta": 1e-5, "epsilon": 0.0, "adjacency": "x"}
    monkeypatch.setattr(gaussian.PROTECTION, "stated", lambda case: Stated(facts=facts))
    monkeypatch.setattr(expert_account, "account", lambda entries, entry: None)
    collector = tiny.collector(tmp_path, data, **SAID)
    stage = collector.released.setting.scenario.stages[0]
    with pytest.raises(BadReply, match=r"says noise_multiplier .*; allowed: a number from 1e-100"):
        collector.collect(stage)


@pytest.fixture(scope="module")
def noised(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest run of two seeds with noise; not to be changed."""
    folder = tmp_path_factory.mktemp("noised")
    said = {k: v for k, v in tiny.said(data, **SAID).items() if k != "seed"}
    (folder / "scenario.yaml").write_text(json.dumps({**said, "seeds": [9, 10]}))
    runs.run(folder / "scenario.yaml", engine="local", out=folder / "out")
    return folder / "out"


ENTRIES: dict[str, dict[str, Any]] = {
    **{f"noise of {noise:g}": {"noise_multiplier": noise} for noise in ODD},
    "noise that is no number": {"noise_multiplier": "2"},
    "a delta of 0": {"delta": 0.0},
    "no delta": {"delta": None},
    "no kind": {"kind": None, "noise_multiplier": None},
}

TOLD = {
    "a delta of 0": "says delta 0.0; allowed: a number above 0",
    "no delta": "claims noise, and says no delta",
    "no kind": "says kind None; allowed: a text",
}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_ledger_with_an_impossible_number_is_a_finding(
    name: str, noised: Path, tmp_path: Path
) -> None:
    """The attacker, a client, would have `verify` end without a word on anybody's run."""
    run = Path(shutil.copytree(noised / "seed-9", tmp_path / "run"))
    store = ClientStore(run / "clients" / "ada")
    kept = store.entries()
    entry = {**kept[-1], **ENTRIES[name], "run": "cd" * 16}
    chain.append(store.ledger_file, entry, store.identity)
    (failure,) = whole_run.verify(run)[0].failures
    assert (failure.file, failure.index) == (store.ledger_file, len(kept))
    assert failure.what.startswith(TOLD.get(name, "says noise_multiplier "))


# ---------------------------------------------------------------- a report's editor


@pytest.mark.parametrize("pair", [[1e300, 1], [1e-200, 1], [2.0, 10**30], [2.0, 0.5]], ids=str)
def test_a_report_with_an_impossible_number_has_no_summary(
    pair: list[float], noised: Path, tmp_path: Path
) -> None:
    """The attacker would have `verify` end without a word on runs that somebody else made."""
    run = Path(shutil.copytree(noised, tmp_path / "run"))
    file = run / "seed-9" / contract.FILE_NAME
    said = json.loads(file.read_text())
    said["privacy"]["clients"][0]["experts"][0]["noise"] = [pair]
    file.write_text(json.dumps(said))
    seed, other, summary = whole_run.verify(run)
    assert other.holds
    assert "its epsilons are not those" in seed.failures[0].what
    assert "cannot be made again of the seeds' reports" in summary.failures[0].what


def test_a_report_holds_what_an_account_holds() -> None:
    """Without it an honest account could be one that its report cannot hold."""
    account = contract.schema()["$defs"]["account"]["properties"]
    noise, _ = account["noise"]["items"]["prefixItems"]
    assert (noise["minimum"], noise["maximum"]) == accountant.MULTIPLIERS
