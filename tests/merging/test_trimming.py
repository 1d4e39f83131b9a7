"""Trimmed task vectors: what is kept, what leaves, and that TIES makes the same of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from neulig_fl.client.handler import ClientHandler
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import BadReply, ClientRefused
from neulig_fl.merging import trimming
from neulig_fl.merging.methods import Given, ties
from neulig_fl.records import kinds, payloads
from neulig_fl.records.kinds import Arrays
from neulig_fl.records.release_plan import open_setting, stage_requests
from neulig_fl.server.collecting import Collector
from neulig_fl.study.method_inputs import RunSource

KIND = "trimmed-task-vector"
FIFTH = {"kind": KIND, "fraction": 0.2}
ENTRIES = {"w": (3, 4), "bn.weight": (4,), "bn.running_var": (4,), "scale": ()}
FLOATS = st.floats(-100, 100, width=32)
VECTORS = st.fixed_dictionaries(
    {name: arrays_of.arrays(np.float32, shape, elements=FLOATS) for name, shape in ENTRIES.items()}
)


def _numbers(vector: Arrays) -> Any:
    """The task vector's numbers, without running statistics."""
    return np.concatenate([np.ravel(v) for name, v in vector.items() if "running" not in name])


def _stage(name: str, share: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "share": [share], **more}


def _collected(folder: Path, data: Path, *shares: dict[str, Any], **changes: Any) -> Collector:
    stages = [_stage(f"s{i}", share) for i, share in enumerate(shares)]
    collector = tiny.collector(folder, data, **{"stages": stages, **changes})
    for stage in collector.released.setting.scenario.stages:
        collector.collect(stage)
    return collector


def _ask(scenario: Scenario, folder: Path, **asked: Any) -> Arrays:
    party = ClientHandler(scenario, scenario.seed, "ada", folder / "ada")
    body = {"stage": "s0", "group": "A", "kind": KIND, **asked}
    _, payload = tiny.say(party, "release", body, b"")
    fields = kinds.layout(body["kind"], 1, party.setting.sizes, body.get("fraction", 1.0))
    return payloads.unpack(payload, fields, "ada")


# ---------------------------------------------------------------- the record


@given(VECTORS, st.floats(0.01, 0.99))
def test_the_largest_numbers_are_kept_and_the_others_are_not_there(
    vector: Arrays, fraction: float
) -> None:
    """A client would give more than its share, or others than those that TIES keeps."""
    record = trimming.trimmed(vector, fraction)
    fields = trimming.layout(ENTRIES, fraction)
    assert {name: a.shape for name, a in record.items()} == {name: s for name, _, s in fields}
    back = trimming.restored(record, ENTRIES)
    assert list(back) == list(ENTRIES)
    assert all(back[name].shape == shape for name, shape in ENTRIES.items())
    before, after = _numbers(vector), _numbers(back)
    count = min(len(before), int(len(before) * fraction) + 1)
    mask = np.unpackbits(record["mask"])[: len(before)].astype(bool)
    assert mask.sum() == count == len(record["values"])
    assert np.array_equal(after, np.where(mask, before, 0))
    if not mask.all():
        assert np.abs(before[mask]).min() >= np.abs(before[~mask]).max()
    assert np.array_equal(back["bn.running_var"], vector["bn.running_var"])


def test_of_equal_numbers_the_first_are_kept() -> None:
    """The record would have no size that both sides know before it travels."""
    record = trimming.trimmed({"w": np.full(8, -2.0, np.float32)}, 0.25)
    assert np.unpackbits(record["mask"]).tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert record["values"].tolist() == [-2.0] * 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_kept_and_then_refused(bad: float) -> None:
    """A broken expert would be trimmed into one that looks whole."""
    vector: Arrays = {"w": np.array([1.0, bad, 3.0, 4.0], np.float32)}
    fields = trimming.layout({"w": (4,)}, 0.25)
    with pytest.raises(BadReply, match="values holds 1 values that are not finite"):
        payloads.pack(trimming.trimmed(vector, 0.25), fields, "ada")


@pytest.mark.parametrize(
    ("mask", "wrong"),
    [
        ([0b11100000, 0], "the mask keeps 3 of 9 numbers, and 2 came"),
        ([0b10000000, 0], "the mask keeps 1 of 9 numbers, and 2 came"),
        ([0b10000000, 0b01000000], "the mask keeps 2 of 9 numbers, some of them beyond the last"),
    ],
)
def test_a_mask_that_does_not_fit_its_numbers_is_a_wrong_reply(mask: list[int], wrong: str) -> None:
    """Numbers would land at places that the client did not mean, or beyond the model."""
    record: Arrays = {"mask": np.array(mask, np.uint8), "values": np.ones(2, np.float32)}
    with pytest.raises(BadReply, match=wrong):
        trimming.restored(record, {"w": (9,)})


# ---------------------------------------------------------------- what leaves


def test_a_record_is_the_clients_largest_numbers_and_no_more_bytes(
    data: Path, tmp_path: Path
) -> None:
    """More of the model would leave than the stage says, or a trimmed one of somebody else's."""
    shares = [FIFTH, {"kind": "task-vector"}]
    stages = [{"name": "s0", "share": shares}]
    scenario = tiny.scenario(tmp_path, data, stages=stages)
    sizes = open_setting(scenario, scenario.seed).sizes
    vector = _ask(scenario, tmp_path, kind="task-vector")
    record = _ask(scenario, tmp_path, fraction=0.2)
    wanted = trimming.trimmed(vector, 0.2)
    assert all(np.array_equal(record[name], wanted[name]) for name in wanted)
    total = len(_numbers(vector))
    running = sum(v.size for name, v in vector.items() if "running" in name)
    count = int(0.2 * total) + 1
    assert kinds.byte_count(KIND, 1, sizes, 0.2) == -(-total // 8) + 4 * (count + running)
    less = _ask(scenario, tmp_path, fraction=0.05)
    within = np.unpackbits(less["mask"]) <= np.unpackbits(record["mask"])
    assert within.all()  # who asks for less learns nothing that the larger record does not say
    with pytest.raises(ClientRefused, match=r"shares a fraction of 0.2 of trimmed-task-vector"):
        _ask(scenario, tmp_path, fraction=0.21)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"never": ["parameters"]}, "never parameters"),
        ({"never": ["task-vector"]}, "never task-vector"),
        ({"preset": "outputs-only"}, "does not allow trimmed-task-vector"),
        ({"allow": [{"kind": KIND, "fraction": 0.1}]}, "allows a fraction of 0.1 of trimmed"),
        ({"allow": [{"kind": "parameters"}]}, "does not allow trimmed-task-vector"),
    ],
)
def test_a_policy_keeps_it_in(
    rules: dict[str, Any], reason: str, data: Path, tmp_path: Path
) -> None:
    """Who lets no model leave would let a fifth of one leave, or more than the policy says."""
    ada = {"name": "ada", "task": "first", "policy": rules}
    others = [{"name": "bob", "task": "second"}, {"name": "cyd", "task": "first"}]
    scenario = tiny.scenario(tmp_path, data, clients=[ada, *others], stages=[_stage("s0", FIFTH)])
    with pytest.raises(ClientRefused, match=reason):
        _ask(scenario, tmp_path, fraction=0.2)


# ---------------------------------------------------------------- what the server makes of it


def _ties(collector: Collector, density: float) -> dict[str, torch.Tensor]:
    source = RunSource(collector.released, "A", tiny.CLIENTS)
    return dict(ties.merge(Given(source, ties.NEEDS, "ties"), density=density))


def _apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> int:
    """How many numbers of two models differ."""
    return sum(int((~torch.isclose(one[n], other[n], rtol=0, atol=1e-7)).sum()) for n in one)


def _no_room_for(whole: Collector, client: str) -> int:
    """Numbers of a task vector that TIES keeps at 0.2, and a record of as many does not."""
    start = whole.released.setting.family.encoder().state_dict()
    own = whole.released.stacks["A"].of(client)
    sizes = np.sort(np.abs(_numbers({n: (own[n] - start[n]).numpy() for n in own})))[::-1]
    count = int(0.2 * len(sizes)) + 1
    return int((sizes >= sizes[count - 1]).sum()) - count


def test_ties_makes_the_same_of_what_is_trimmed_already(data: Path, tmp_path: Path) -> None:
    """The documents promise it: a client keeps in what TIES would drop, and loses nothing.

    TIES also keeps numbers that are exactly as large as the smallest that a record has room for.
    """
    whole = _collected(tmp_path / "whole", data, {"kind": "parameters"})
    fifth = _collected(tmp_path / "fifth", data, FIFTH)
    of_whole, of_fifth = (_ties(each, 0.2) for each in (whole, fifth))
    moved = fifth.released.stacks["A"].matrix - whole.released.stacks["A"].matrix
    assert moved.abs().max() > 1e-3
    left = _apart(of_whole, of_fifth)
    assert left <= sum(_no_room_for(whole, client) for client in tiny.CLIENTS) < 10
    assert _apart(_ties(whole, 0.3), of_fifth) > 500


@pytest.mark.parametrize("protection", ["none", "sealed"])
def test_an_expert_is_the_checkpoint_but_for_what_was_kept(
    protection: str, data: Path, tmp_path: Path
) -> None:
    """The server would merge something else than theta_0 plus the numbers that came."""
    collector = _collected(tmp_path, data, {**FIFTH, "protection": protection})
    family, stack = collector.released.setting.family, collector.released.stacks["A"]
    start = family.encoder().state_dict()
    for client in tiny.CLIENTS:
        own = stack.of(client)
        same = torch.cat([(own[n] == start[n]).flatten() for n in own if "running" not in n])
        assert 0.79 < same.double().mean() < 0.81


def test_what_says_more_takes_the_place_of_what_says_less(data: Path, tmp_path: Path) -> None:
    """A trimmed model would stand in for a whole one, or the same would be charged twice."""
    less, more = {**FIFTH, "fraction": 0.1}, {**FIFTH, "fraction": 0.4}
    shares = [FIFTH, less, more, {"kind": "parameters"}, FIFTH, {"kind": "task-vector"}]
    stages = [_stage(f"s{i}", share) for i, share in enumerate(shares)]
    scenario = tiny.scenario(tmp_path, data, stages=stages)
    asked = [[(r.kind, r.fraction) for r in stage_requests(scenario, s)] for s in scenario.stages]
    assert asked == [[(KIND, 0.2)], [], [(KIND, 0.4)], [("parameters", 1.0)], [], []]
    both = _collected(tmp_path / "both", data, FIFTH, {"kind": "parameters"})
    whole = _collected(tmp_path / "whole", data, {"kind": "parameters"})
    assert torch.equal(both.released.stacks["A"].matrix, whole.released.stacks["A"].matrix)


def test_who_keeps_the_model_in_may_give_a_part_of_it(data: Path, tmp_path: Path) -> None:
    """In a stage that shares both, the part would take the place of the others' whole models."""
    part = {"allow": [FIFTH]}
    clients = [
        {"name": name, "task": "first", "policy": part if name == "bob" else {}}
        for name in tiny.CLIENTS
    ]
    stages = [{"name": "s0", "share": [{"kind": "parameters"}, FIFTH]}]
    both = _collected(
        tmp_path / "both", data, stages=stages, clients=clients, on_refusal="continue"
    )
    open_ = [{**client, "policy": {}} for client in clients]
    whole = _collected(tmp_path / "whole", data, {"kind": "parameters"}, clients=open_)
    same = [
        torch.equal(mine, theirs)
        for mine, theirs in zip(
            both.released.stacks["A"].matrix, whole.released.stacks["A"].matrix, strict=True
        )
    ]
    assert same == [name != "bob" for name in tiny.CLIENTS]
    sizes = both.released.setting.sizes
    model, fifth = (kinds.byte_count(k, 1, sizes, 0.2) for k in ("parameters", KIND))
    assert both.released.bytes == {("A", "parameters", None): 2 * model, ("A", KIND, None): fifth}


def test_a_client_whose_mask_does_not_fit_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server would build a model of nonsense, and blame nobody for it."""

    def spoil(_: dict[str, Any], reply: tiny.Reply) -> tiny.Reply:
        body, payload = reply
        other = bytes([payload[0] ^ 0xFF]) + bytes(payload[1:])
        return {**body, "sha256": hashlib.sha256(other).hexdigest()}, other

    tiny.spoiled(monkeypatch, "bob", KIND, spoil)
    with pytest.raises(BadReply, match=r"'bob', stage 's0', trimmed-task-vector: the mask keeps"):
        _collected(tmp_path, data, FIFTH)


def test_a_run_says_whose_experts_are_trimmed(data: Path, tmp_path: Path) -> None:
    """A reader would take the trimmed experts' accuracy for that of the models."""
    outputs = {"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland", "ensemble"]}
    merging = _stage("merging", FIFTH, run=["merge"])
    report = tiny.run(tmp_path, data, stages=[outputs, merging], methods=["ties"])
    said = [note for note in report.data["notes"] if "trimmed" in note]
    assert said == [
        "Where a client released no more than a trimmed task vector, its expert is theta_0 plus "
        "the largest 20 % of the numbers of its task vector."
    ]
    rows = {row["method"]: row for row in report.data["stages"][1]["results"]}
    assert rows["ties"]["status"] == rows["neulig"]["status"] == "ok"
