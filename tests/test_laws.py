"""The laws of the design, section 7: 1 to 4, 7 and 10; 5 stands in tests/merging/inference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from neulig_fl.client.handler import ClientHandler
from neulig_fl.config.scenario import Model, Scenario
from neulig_fl.ledger import chain
from neulig_fl.merging.inference import ExpertStack, merged_outputs
from neulig_fl.merging.portland import Portland, alignment, mix, standardised_offset_sums
from neulig_fl.models.families import open_family
from neulig_fl.records.kinds import Request
from neulig_fl.runtime.engines._local_grid import LocalGrid

EXPERTS = st.integers(1, 5)
SEEDS = st.integers(0, 2**31)


def _random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _coopvecs(queries: int, experts: int, seed: int) -> Tensor:
    return torch.softmax(2 * _random((queries, experts), seed), dim=1)


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 3)).eval()


def _states(module: nn.Module, count: int, seed: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {k: torch.randn(v.shape, generator=generator) for k, v in module.state_dict().items()}
        for _ in range(count)
    ]


def _merged(
    module: nn.Module, states: list[dict[str, Tensor]], beta: Tensor, inputs: Tensor
) -> Tensor:
    names = tuple(f"e{i}" for i in range(len(states)))
    stack = ExpertStack({k: tuple(v.shape) for k, v in states[0].items()}, names)
    for name, state in zip(names, states, strict=True):
        stack.put(name, state)
    return merged_outputs(module, stack, beta, lambda rows: inputs[rows])


def _outputs(module: nn.Module, states: list[dict[str, Tensor]], inputs: Tensor) -> Tensor:
    """Every expert's outputs, (queries, experts, dim)."""
    with torch.no_grad():
        found = [torch.func.functional_call(module, state, (inputs,)) for state in states]
    return torch.stack(found, dim=1)


# ---------------------------------------------------------------- 1: identical experts


@given(EXPERTS, SEEDS)
def test_law_1_a_merge_of_identical_experts_is_that_expert(experts: int, seed: int) -> None:
    """Without it merging would change what nobody disagrees on."""
    module, inputs = _mlp(), _random((4, 4), seed)
    (state,) = _states(module, 1, seed)
    beta = _coopvecs(4, experts, seed + 1)
    own = _outputs(module, [state], inputs)[:, 0]
    assert _same(_merged(module, [state] * experts, beta, inputs), own)
    assert torch.allclose(
        mix(beta, own[:, None].expand(-1, experts, -1)), own, rtol=1e-4, atol=1e-5
    )


def test_law_1_a_run_with_identical_experts_has_no_gap(data: Path, tmp_path: Path) -> None:
    """Without it a gap in a report could come from the machinery alone."""
    family = open_family(Model(**tiny.MODEL), 11)
    torch.save(family.encoder().state_dict(), tmp_path / "same.pt")
    clients = [
        {"name": n, "task": t, "checkpoint": str(tmp_path / "same.pt")}
        for n, t in zip(tiny.CLIENTS, ("first", "second", "first"), strict=True)
    ]
    every = ["sample", "batch-first", "task", "global"]
    merging = {
        "name": "merging",
        "share": [{"kind": "parameters"}],
        "run": ["merge"],
        "granularity": every,
    }
    outputs = {"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland"]}
    report = tiny.run(tmp_path, data, clients=clients, stages=[outputs, merging])
    rows = [r for r in report.data["stages"][1]["results"] if r["method"] != "pretrained"]
    assert len(rows) == 8
    for row in rows:
        assert [t["gap"] for t in row["tasks"]] == [0.0, 0.0], row["method"]
    accuracies = {tuple(t["merge_accuracy"] for t in row["tasks"]) for row in rows}
    assert len(accuracies) == 1, "every convex merge is the same expert"
    assert report.data["portland"]["trajectory"][0]["alignment"] == 0.0


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal to rounding: within law 5's 1e-4 of the largest value (LayerNorm amplifies rounding)."""
    return float((found - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


# ---------------------------------------------------------------- 2: one-hot CoopVecs


@given(EXPERTS, SEEDS, st.data())
def test_law_2_a_one_hot_coopvec_is_that_expert(
    experts: int, seed: int, data: st.DataObject
) -> None:
    """Without it routing to one expert would give another network's answer."""
    module, inputs = _mlp(), _random((4, 4), seed)
    states = _states(module, experts, seed)
    chosen = data.draw(st.lists(st.integers(0, experts - 1), min_size=4, max_size=4))
    beta = torch.eye(experts)[chosen]
    outputs = _outputs(module, states, inputs)
    own = torch.stack([outputs[q, t] for q, t in enumerate(chosen)])
    assert torch.equal(mix(beta, outputs), own)
    assert _same(_merged(module, states, beta, inputs), own)


@pytest.mark.parametrize("name", ["micro-vit", "micro-rn"])
def test_law_2_holds_for_the_bundled_models(name: str) -> None:
    """Without it BatchNorm's statistics or a buffer could be left out of the merge."""
    family = open_family(Model(name=name, pretrained="none"), 0)
    encoders = [family.encoder(), *(family.fresh_encoder(seed) for seed in (1, 2))]
    for seed, encoder in enumerate(encoders):
        for key, value in encoder.state_dict().items():
            if key.endswith("running_mean"):
                value.copy_(0.1 * _random(tuple(value.shape), seed))
    inputs = _random((3, 3, 32, 32), 5)
    own = torch.stack([encoders[t](inputs[q : q + 1])[0] for q, t in enumerate((2, 0, 1))])
    stack = ExpertStack(family.entries(), ("a", "b", "c"))
    for expert, encoder in zip("abc", encoders, strict=True):
        stack.put(expert, encoder.state_dict())
    found = merged_outputs(
        family.encoder(), stack, torch.eye(3)[[2, 0, 1]], lambda rows: inputs[rows]
    )
    assert _same(found, own)


# ---------------------------------------------------------------- 3: permutations


@given(st.integers(2, 5), SEEDS, st.data())
def test_law_3_permuting_experts_with_their_weights_changes_nothing(
    experts: int, seed: int, data: st.DataObject
) -> None:
    """Without it a result would depend on who is named first in the scenario."""
    order = data.draw(st.permutations(range(experts)))
    module, inputs, dim = _mlp(), _random((4, 4), seed), 3
    states = _states(module, experts, seed)
    outputs = _outputs(module, states, inputs)
    network = Portland(
        _random((experts, experts * dim), seed + 2),
        _random((experts,), seed + 3),
        tuple("abcde")[:experts],
    )
    weight = network.weight.view(experts, experts, dim)[order][:, order].reshape(experts, -1)
    permuted = Portland(weight, network.bias[order], tuple(network.experts[t] for t in order))
    beta, beta_permuted = network.coopvecs(outputs), permuted.coopvecs(outputs[:, order])
    assert torch.allclose(beta_permuted, beta[:, order], rtol=1e-4, atol=1e-5)
    one = _merged(module, states, beta, inputs)
    two = _merged(module, [states[t] for t in order], beta[:, order], inputs)
    assert _same(one, two)
    assert torch.allclose(
        mix(beta, outputs), mix(beta[:, order], outputs[:, order]), rtol=1e-4, atol=1e-5
    )
    sums = _random((experts,), seed + 4).double()
    offsets = standardised_offset_sums(sums)
    assert torch.allclose(standardised_offset_sums(sums[order]), offsets[order], atol=1e-5)
    for rule in ("paper", "code"):
        found = alignment(beta[:, order], offsets[order], rule)
        assert torch.allclose(found, alignment(beta, offsets, rule), rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- 4: linear models


class Linear(nn.Module):
    """Linear in its parameters, not in its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 2)
        self.table = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return (
            self.conv(torch.sin(x)).flatten(1)[:, :3]
            + self.table * x.square().sum(dim=(1, 2))[:, None]
        )


@given(EXPERTS, st.integers(1, 6), SEEDS)
def test_law_4_a_model_linear_in_its_parameters_has_no_gap(
    experts: int, queries: int, seed: int
) -> None:
    """Without it a gap of zero order could hide in the merge."""
    module, inputs = Linear().eval(), _random((queries, 2, 4), seed)
    states = _states(module, experts, seed)
    beta = _coopvecs(queries, experts, seed + 1)
    merged = _merged(module, states, beta, inputs)
    assert _same(merged, mix(beta, _outputs(module, states, inputs)))


def test_law_4_a_model_that_is_not_linear_has_a_gap() -> None:
    """Without it the two laws above could hold because nothing is merged at all."""
    module, inputs = _mlp(), _random((8, 4), 0)
    states = _states(module, 3, 1)
    beta = _coopvecs(8, 3, 2)
    difference = _merged(module, states, beta, inputs) - mix(beta, _outputs(module, states, inputs))
    assert difference.abs().max() > 0.05


# ---------------------------------------------------------------- 7: non-interference


def _twins(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two states that differ in a hidden unit that nothing reads; equal sums, unequal parameters.

    All values are multiples of 2^-10, so that their float64 sum is exact in any order.
    """
    family = open_family(Model(name=name, pretrained="none"), 2)
    state = {
        k: (v * 1024).round() / 1024 if v.is_floating_point() else v
        for k, v in family.encoder().state_dict().items()
    }
    into, out = "transformer.resblocks.0.mlp.c_fc", "transformer.resblocks.0.mlp.c_proj.weight"
    state[out][:, 3] = 0.0
    other = {k: v.clone() for k, v in state.items()}
    other[f"{into}.weight"][3, 0] += 5.0
    other[f"{into}.weight"][3, 1] -= 4.0
    other[f"{into}.bias"][3] -= 1.0
    return state, other


@pytest.fixture(params=["tiny-vit", "micro-vit"])
def twins(request: pytest.FixtureRequest, data: Path, tmp_path: Path) -> tuple[Scenario, Path]:
    """A scenario of two clients on one task that hold the two states."""
    for name, state in zip(("ada", "bob"), _twins(request.param), strict=True):
        torch.save(state, tmp_path / f"{name}.pt")
    clients = [
        {"name": n, "task": "first", "checkpoint": str(tmp_path / f"{n}.pt")}
        for n in ("ada", "bob")
    ]
    share = [
        {"kind": "offset-sum"},
        {"kind": "features", "queries": ["pool", "evaluation"]},
        {"kind": "logits", "queries": ["pool", "evaluation"]},
    ]
    stages = [
        {"name": "outputs", "share": share},
        {"name": "all", "share": [{"kind": "parameters"}]},
    ]
    model = {"name": request.param, "pretrained": "none"}
    return tiny.scenario(tmp_path, data, clients=clients, stages=stages, model=model), tmp_path


def _payloads(scenario: Scenario, folder: Path, request: Request) -> list[bytes]:
    parties = [
        ClientHandler(scenario, scenario.seed, name, folder / "stores" / name)
        for name in ("ada", "bob")
    ]
    return [bytes(tiny.say(p, "release", asdict(request), b"")[1]) for p in parties]


@pytest.mark.parametrize(
    ("kind", "queries"),
    [
        ("offset-sum", None),
        *((k, q) for k in ("features", "logits") for q in ("pool", "evaluation")),
    ],
)
def test_law_7_clients_that_answer_alike_send_the_same_bytes(
    kind: str, queries: str | None, twins: tuple[Scenario, Path]
) -> None:
    """Without it a release would carry more of the parameters than its kind says."""
    one, two = _payloads(*twins, Request("outputs", "A", kind, queries))
    assert one == two
    assert len(one) > 0


def test_law_7_the_two_clients_do_differ(twins: tuple[Scenario, Path]) -> None:
    """Without it the law above would compare a client with itself."""
    scenario, folder = twins
    one, two = _payloads(scenario, folder, Request("all", "A", "parameters"))
    assert one != two
    differing = np.frombuffer(one, "<f4") != np.frombuffer(two, "<f4")
    assert differing.sum() == 3
    refused = scenario.model_copy(update={"stages": scenario.stages[:1]})
    party = ClientHandler(refused, refused.seed, "ada", folder / "refusing")
    with pytest.raises(Exception, match="no stage 'all'"):
        tiny.say(party, "release", asdict(Request("all", "A", "parameters")), b"")
    assert [e["event"] for e in chain.read(folder / "refusing" / "ledger.jsonl")] == ["refusal"]


def test_law_7_the_reply_beside_the_payload_says_nothing_either(
    twins: tuple[Scenario, Path],
) -> None:
    """Without it the details of a reply could tell the two clients' parameters apart."""
    scenario, folder = twins
    request = asdict(Request("outputs", "A", "features", "pool"))
    bodies = [
        tiny.say(
            ClientHandler(scenario, scenario.seed, name, folder / "stores" / name),
            "release",
            request,
            b"",
        )[0]
        for name in ("ada", "bob")
    ]
    assert bodies[0].keys() == bodies[1].keys() == {"rows", "sha256", "entry"}
    assert [bodies[0][k] for k in ("rows", "sha256")] == [bodies[1][k] for k in ("rows", "sha256")]
    one, two = (body["entry"] for body in bodies)
    assert one.keys() == two.keys()
    # Who signed, when, and tags and hashes under each store's own secret.
    own = {"client", "time", "key", "signature", "hash", "fingerprint", "expert", "data", "content"}
    assert {name for name in one if one[name] != two[name]} <= own


# ---------------------------------------------------------------- 10: whatever arrives when

GROUPS: dict[str, Any] = {
    "experts": {"epochs": 1, "lr": 1.0e-3, "batch_size": 16},
    "queries": {"pool": 4, "evaluation": 5},
}


def _shuffled(monkeypatch: pytest.MonkeyPatch, seed: int) -> list[int]:
    """Have replies arrive in a random order; how many waited each time."""
    rng, waiting = np.random.default_rng(seed), []
    honest = LocalGrid.pull_messages

    def pull(self: LocalGrid, message_ids: Iterable[str]) -> list[Message]:
        ids = [i for i in self._waiting if i in set(message_ids)]
        waiting.append(len(ids))
        return honest(self, [ids[int(rng.integers(len(ids)))]]) if ids else []

    monkeypatch.setattr(LocalGrid, "pull_messages", pull)
    return waiting


def test_law_10_the_order_of_the_replies_changes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the same scenario would give another report on a slower network."""
    first = tiny.run(tmp_path / "first", data, **GROUPS)
    for seed in (1, 2):
        with monkeypatch.context() as patch:
            waiting = _shuffled(patch, seed)
            again = tiny.run(tmp_path / str(seed), data, **GROUPS)
        assert max(waiting) == 3
        assert tiny.results(again) == tiny.results(first)
        assert tiny.releases(again) == tiny.releases(first)
        assert again.data["coopvec_maps"] == first.data["coopvec_maps"]
        assert again.data["portland"]["trajectory"] == first.data["portland"]["trajectory"]


def test_law_10_the_seed_decides(data: Path, tmp_path: Path) -> None:
    """Without it "identical" would hold because nothing depends on anything."""
    one = tiny.run(tmp_path / "one", data, **GROUPS)
    two = tiny.run(tmp_path / "two", data, **GROUPS, seed=4)
    assert not {r["sha256"] for r in tiny.releases(one)} & {r["sha256"] for r in tiny.releases(two)}


@pytest.mark.slow
def test_law_10_both_engines_give_the_same_results(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a scenario that was tried locally would say something else under Flower."""
    found = []
    for engine in ("local", "simulation"):
        monkeypatch.setenv("NEULIG_CACHE", str(tmp_path / f"cache-{engine}"))
        model = {"name": "micro-vit", "pretrained": "none"}
        found.append(tiny.run(tmp_path / engine, data, engine, model=model, **GROUPS))
    local, simulated = found
    assert tiny.results(simulated) == tiny.results(local)
    assert tiny.releases(simulated) == tiny.releases(local)
