"""Portland trained through merged models: the gradient, the records it needs, whole runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from neulig_fl.config.scenario import PortlandOptions
from neulig_fl.core.errors import ClientRefused, RunError
from neulig_fl.core.progress import Progress
from neulig_fl.merging import portland
from neulig_fl.merging.inference import ExpertStack, Merging, NotCovered, merged_outputs
from neulig_fl.merging.portland import Portland, TrainingQueries, boosting
from neulig_fl.models.outputs import classify
from neulig_fl.records.release_plan import open_setting
from neulig_fl.server.collecting import Collector
from neulig_fl.server.released_records import Questions, ReleasedRecords
from neulig_fl.study import coopvec_needs, merged_queries, training
from neulig_fl.study.baseline_rows import StageRun
from neulig_fl.study.dry_run import rehearse
from neulig_fl.study.merged_queries import MergedQueries, open_merged

EXPERTS = ("ada", "bob", "cyd")
SIZE, DIM, CLASSES = 4, 3, 5


# ---------------------------------------------------------------- small encoders of any kind


@dataclass(frozen=True)
class Pixels:
    """What of a model family the training needs: images as inputs, of a known size."""

    image_size: int = SIZE

    def normalise(self, images: NDArray[np.uint8]) -> Tensor:
        """Values from 0 to 1."""
        return torch.from_numpy(images).float() / 255


def _perceptron() -> nn.Module:
    layers = nn.Linear(3 * SIZE**2, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, DIM)
    return nn.Sequential(nn.Flatten(), *layers)


def _convolution() -> nn.Module:
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Softplus(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(6 * (SIZE - 2) ** 2, DIM))


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, DIM))


ENCODERS = {"perceptron": _perceptron, "batch norm": _convolution}


@dataclass(frozen=True)
class Case:
    """Three random experts of one architecture, and their outputs on one task."""

    encoder: nn.Module
    states: list[dict[str, Tensor]]
    inputs: Tensor
    task: TrainingQueries

    def slowly(self, coopvecs: Tensor) -> Tensor:
        """The merged models' features in float64, a network for each query."""
        found = []
        for weights, query in zip(coopvecs, self.inputs.double(), strict=True):
            state = {
                name: sum(w * s[name].double() for w, s in zip(weights, self.states, strict=True))
                for name in self.states[0]
            }
            found.append(functional_call(self.encoder, state, (query[None],)))
        return torch.cat(found)


def _case(
    make: Callable[[], nn.Module],
    rows: int = 6,
    labelled: bool = True,
    merging: Merging = Merging(),  # noqa: B008 (frozen)
) -> Case:
    draw = torch.Generator().manual_seed(4)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        encoder = make().eval().requires_grad_(False)
    own = {k: v for k, v in encoder.state_dict().items() if v.is_floating_point()}
    states = [
        {
            k: (v + 0.4 * torch.randn(v.shape, generator=draw)).abs() + 0.5
            if "running_var" in k
            else v + 0.4 * torch.randn(v.shape, generator=draw)
            for k, v in own.items()
        }
        for _ in EXPERTS
    ]
    stack = ExpertStack({k: tuple(v.shape) for k, v in own.items()}, EXPERTS)
    for name, state in zip(EXPERTS, states, strict=True):
        stack.put(name, state)
    images = torch.randint(256, (rows, 3, SIZE, SIZE), generator=draw, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (rows,), generator=draw)
    head = 3.0 * nn.functional.normalize(torch.randn(CLASSES, DIM, generator=draw), dim=1)
    family = Pixels()
    inputs = family.normalise(images.numpy())
    alone = [functional_call(encoder, state, (inputs,)) for state in states]
    merged = MergedQueries(family, encoder, stack, EXPERTS, merging, lambda rows: None)  # type: ignore[arg-type]
    question = Questions("made up", images.numpy(), labels)
    task = TrainingQueries(
        outputs=torch.stack(alone, dim=1),
        head=head,
        columns=None,
        labels=labels if labelled else None,
        merged=merged.logits(question, head),
    )
    return Case(encoder, states, inputs, task)


def _trained(case: Case, objective_on: str, **options: Any) -> portland.Fit:
    chosen = PortlandOptions(
        **{"epochs": 4, "lr": 0.02, "batch_size": 4, "objective_on": objective_on, **options}
    )
    draw = torch.Generator().manual_seed(2)
    return portland.train([case.task], torch.tensor([-1.0, 0.3, 0.7]), EXPERTS, chosen, draw)


def _slow_loss(case: Case, weight: Tensor, bias: Tensor, on: str) -> float:
    """Eq. 9 with alpha 1 and no alignment, on the merged models, in float64."""
    outputs, head = case.task.outputs.double(), case.task.head.double()  # type: ignore[union-attr]
    coopvecs = torch.softmax(outputs.flatten(1) @ weight.T + bias, dim=1)
    mixed = torch.einsum("qt,qtd->qd", coopvecs, outputs)
    features = {"ensemble": [mixed], "merge": [case.slowly(coopvecs)]}
    features["both"] = features["ensemble"] + features["merge"]
    losses = [boosting(classify(f, head), case.task.labels) for f in features[on]]
    return float(sum(losses)) / len(losses)


@pytest.mark.parametrize("method", ["batched", "one-at-a-time"])
@pytest.mark.parametrize("on", ["merge", "both"])
@pytest.mark.parametrize("labelled", [True, False], ids=["supervised", "semi"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_the_gradient_is_that_of_the_merged_models_loss(
    kind: str, labelled: bool, on: str, method: str
) -> None:
    """Without it Portland would follow something else than the loss that it reports."""
    case = _case(ENCODERS[kind], labelled=labelled, merging=Merging(method))  # type: ignore[arg-type]
    layer = nn.Linear(case.task.outputs[0].numel(), len(EXPERTS))
    weight, bias = (p.detach().clone().double() for p in layer.parameters())
    options = PortlandOptions(objective_on=on, alignment="none")  # type: ignore[arg-type]
    tally = portland._Tally()
    rows = torch.arange(len(case.inputs))
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    portland._step(layer, optimiser, case.task, rows, torch.zeros(3), options, tally)

    assert tally.means()["loss"] == pytest.approx(_slow_loss(case, weight, bias, on), rel=1e-5)
    moved = weight - layer.weight.detach().double()
    assert moved.abs().max() > 1e-3
    for place in [(0, 0), (1, 4), (2, 8)]:
        step = torch.zeros_like(weight)
        step[place] = 1e-5
        rise = _slow_loss(case, weight + step, bias, on) - _slow_loss(case, weight - step, bias, on)
        assert moved[place].item() == pytest.approx(rise / 2e-5, rel=1e-3, abs=1e-5)


def test_where_the_encoder_is_linear_all_three_are_one() -> None:
    """Without it merge and ensemble would differ where they are the same function (law 4)."""
    case = _case(_linear)
    fits = [_trained(case, on) for on in ("ensemble", "merge", "both")]
    for fit in fits[1:]:
        assert torch.allclose(fit.portland.weight, fits[0].portland.weight, atol=1e-4)
        for one, two in zip(fit.trajectory, fits[0].trajectory, strict=True):
            assert one == pytest.approx(two, rel=1e-3)


def test_the_best_expert_is_found_where_it_is_known() -> None:
    """Without it training through merged models could end anywhere."""
    case = _case(_perceptron, rows=40)
    state = case.states[1]
    logits = classify(functional_call(case.encoder, state, (case.inputs,)), case.task.head)  # type: ignore[arg-type]
    task = TrainingQueries(
        case.task.outputs, case.task.head, None, logits.argmax(dim=1), case.task.merged
    )
    bob = Case(case.encoder, case.states, case.inputs, task)
    fit = _trained(bob, "merge", epochs=60, lr=0.05, batch_size=20, beta=0.0)
    coopvecs = fit.portland.coopvecs(task.outputs)
    assert coopvecs.argmax(dim=1).eq(1).float().mean() > 0.9
    assert fit.trajectory[-1]["accuracy"] > 95.0


def test_both_is_the_mean_of_the_two_terms() -> None:
    """Without it one side would count more, and `alpha` would mean something else."""
    case = _case(_perceptron, rows=9)
    first = {
        on: _trained(case, on, epochs=1, lr=1e-9).trajectory[0]
        for on in ("ensemble", "merge", "both")
    }
    assert abs(first["ensemble"]["boosting"] - first["merge"]["boosting"]) > 1e-3
    for key in ("boosting", "accuracy"):
        mean = (first["ensemble"][key] + first["merge"][key]) / 2
        assert first["both"][key] == pytest.approx(mean, rel=1e-5)
    assert first["both"]["alignment"] == pytest.approx(first["merge"]["alignment"])


@pytest.mark.parametrize("kind", ENCODERS)
def test_activations_made_again_give_the_same_gradients(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a large model would be trained on other gradients than a small one."""
    case = _case(ENCODERS[kind], rows=7)
    beta = torch.softmax(torch.randn(7, 3, generator=torch.Generator().manual_seed(1)), dim=1)

    def gradient() -> tuple[Tensor, Tensor]:
        coopvecs = beta.clone().requires_grad_()
        logits = case.task.merged(torch.arange(7), coopvecs)  # type: ignore[misc]
        logits.square().sum().backward()
        return logits.detach(), coopvecs.grad  # type: ignore[return-value]

    whole = gradient()
    monkeypatch.setattr(merged_queries, "INPUT_BYTES", 2 * 4 * 3 * SIZE**2)
    for one, two in zip(whole, gradient(), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def test_queries_without_merged_models_are_an_error() -> None:
    """Without it training through merged models would end in a TypeError."""
    task = _case(_linear).task
    bare = TrainingQueries(task.outputs, task.head, None, task.labels)
    options = PortlandOptions(objective_on="both")
    with pytest.raises(RunError, match=r"none were given.*objective_on to ensemble"):
        portland.train([bare], torch.zeros(3), EXPERTS, options, torch.Generator())


class Recurrent(nn.Module):
    """A GRU over an image's pixels, which the engine does not cover."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, DIM, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The last output."""
        last: Tensor = self.gru(x.flatten(2).mT)[0][:, -1]
        return last


def test_what_the_engine_does_not_cover_is_trained_one_at_a_time() -> None:
    """Without it the way out that the error names would be none in training."""
    with pytest.raises(NotCovered, match=r"module gru .*merging\.method: one-at-a-time"):
        _trained(_case(Recurrent), "merge")
    fit = _trained(_case(Recurrent, merging=Merging("one-at-a-time")), "merge", epochs=20)
    assert fit.trajectory[-1]["boosting"] < fit.trajectory[0]["boosting"]


# ---------------------------------------------------------------- what a server knows

ALL = [*tiny.OUTPUTS, {"kind": "parameters"}]
EXPERTS_OF_THEIR_OWN = {"epochs": 12, "lr": 3.0e-3, "batch_size": 16}


def _said(on: str = "merge", **changes: Any) -> dict[str, Any]:
    """The tiny scenario with everything released at once; experts that have learnt something."""
    options = {"epochs": 6, "batch_size": 8, "lr": 0.01, "objective_on": on}
    stage = {"name": "all", "share": ALL, "run": ["train-portland", "ensemble", "merge"]}
    return {
        "experts": EXPERTS_OF_THEIR_OWN,
        "portland": options | changes.pop("portland", {}),
        "stages": [stage],
    } | changes


def _policies(**policies: dict[str, Any]) -> dict[str, Any]:
    tasks = {"ada": "first", "bob": "second", "cyd": "first"}
    clients = [
        {"name": name, "task": task, "policy": policies.get(name, {})}
        for name, task in tasks.items()
    ]
    return {"clients": clients, "on_refusal": "continue"}


Train = Callable[..., StageRun]


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Train:
    """Collect what the first stage shares and train Portland on it; `said` changes the scenario."""

    def trained(step: bool = True, **said: Any) -> StageRun:
        scenario = tiny.scenario(tmp_path, data, **said)
        released = ReleasedRecords(open_setting(scenario, scenario.seed))
        parties = tiny.InProcess(scenario, tmp_path)
        events: list[dict[str, Any]] = []
        collector = Collector(parties, released, Progress(events.append), identity=tiny.SERVER_KEYS)
        collector.prepare("A")
        collector.collect(scenario.stages[0])
        run = StageRun(scenario.stages[0], released, None, Progress(events.append))
        run.events = events  # type: ignore[attr-defined]
        if step:
            training.train(run)
        return run

    return trained


def _merged_pool_loss(released: ReleasedRecords, network: Portland) -> float:
    """Cross-entropy of the merged models on the pool, by the code that evaluates them."""
    family = released.setting.family
    total, count = 0.0, 0
    blocks = zip(
        released.questions("A", "pool"),
        released.stacked("A", "pool", network.experts),
        strict=True,
    )
    for question, outputs in blocks:
        features = merged_outputs(
            family.encoder(),
            released.stacks["A"],
            network.coopvecs(outputs),
            lambda rows, of=question: family.normalise(of.images[rows.numpy()]),
        )
        logits = classify(features, released.head(question.task))
        total += float(boosting(logits, released.targets(question))) * len(logits)
        count += len(logits)
    return total / count


@pytest.mark.parametrize("on", ["merge", "both"])
def test_training_lowers_the_merged_models_loss_on_the_pool(on: str, train: Train) -> None:
    """Without it the extension would not do what it is for."""
    start = train(**_said(on, portland={"epochs": 1, "lr": 1e-9}))
    run = train(**_said(on))
    assert start.trained is not None
    assert run.trained is not None
    before = _merged_pool_loss(run.released, start.trained.portland)
    after = _merged_pool_loss(run.released, run.trained.portland)
    assert after < before - 0.001
    found = [entry["boosting"] for entry in run.trained.fit.trajectory]
    assert found[-1] < found[0]
    if on == "merge":
        assert start.trained.fit.trajectory[0]["boosting"] == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("space", ["task", "union"])
@pytest.mark.parametrize("outputs", ["features", "logits"])
def test_merged_logits_are_those_that_are_evaluated(outputs: str, space: str, train: Train) -> None:
    """Without it Portland would be trained on other classes or another model than are scored."""
    share = [{"kind": outputs, "queries": ["pool", "evaluation"]}, {"kind": "parameters"}]
    options = {"outputs": outputs, "label_space": space, "alignment": "none"}
    stage = {"name": "all", "share": share, "run": ["train-portland"]}
    run = train(step=False, **_said(portland=options, stages=[stage]))
    released, family = run.released, run.released.setting.family
    merged = open_merged(released, "A", tiny.CLIENTS)
    for task, question in zip(
        training.training_queries(released, "A", tiny.CLIENTS, merged),
        released.questions("A", "pool"),
        strict=True,
    ):
        draw = torch.Generator().manual_seed(1)
        beta = torch.softmax(torch.randn(len(question.labels), 3, generator=draw), dim=1)
        features = merged_outputs(
            family.encoder(),
            released.stacks["A"],
            beta,
            lambda rows, of=question: family.normalise(of.images[rows.numpy()]),
        )
        scored = classify(features, released.head(question.task))
        every = torch.arange(len(beta))
        found = task.merged(every, beta)  # type: ignore[misc]
        assert torch.allclose(found, scored, atol=1e-4)
        batch = portland.Batch(task, every, task.outputs, beta)
        assert portland.logits_of_both(batch).shape == (2 * len(beta), scored.shape[1])


def test_who_keeps_its_parameters_is_not_read(train: Train) -> None:
    """Without it an expert's outputs would be weighed whose parameters cannot be mixed."""
    run = train(**_said(**_policies(bob={"never": ["parameters"]})))
    assert run.trained is not None
    assert run.trained.portland.experts == ("ada", "cyd")


def test_parameters_of_others_do_not_shift_the_weights(train: Train) -> None:
    """Without it one expert's weight would be given to another one's parameters."""
    run = train(step=False, **_said(**_policies(ada={"never": ["features"]})))
    released, family = run.released, run.released.setting.family
    assert released.giving("A", "parameters") == ("ada", "bob", "cyd")
    assert coopvec_needs.learners(released, "A") == ("bob", "cyd")
    question = released.questions("A", "pool")[0]
    merged = open_merged(released, "A", ("bob", "cyd"))
    head = released.head(question.task)
    rows = torch.arange(len(question.labels))
    found = merged.logits(question, head)(rows, torch.tensor([[0.0, 1.0]]).repeat(len(rows), 1))
    encoder = family.encoder()
    cyd = {k: v.clone() for k, v in released.stacks["A"].of("cyd").items()}
    features = functional_call(encoder, cyd, (family.normalise(question.images),))
    assert torch.allclose(found, classify(features, head), atol=1e-4)


def test_too_few_parameters_end_the_run_as_the_plan_says(train: Train) -> None:
    """Without it a plan would promise a training that cannot be."""
    policies = _policies(ada={"never": ["parameters"]}, bob={"never": ["parameters"]})
    run = train(step=False, **_said(**policies))
    with pytest.raises(
        ClientRefused,
        match="sum, parameters; shared by: cyd; missing: parameters of ada and bob",
    ):
        training.train(run)
    (outlook,) = rehearse(run.released.setting)
    assert "shared by: cyd" in (outlook.stops or "")


def test_progress_counts_the_merged_queries(train: Train) -> None:
    """Without it nobody could tell a long training from one that hangs."""
    run = train(**_said(portland={"epochs": 2}))
    events = [e for e in run.events if "merged models" in e.get("task", "")]  # type: ignore[attr-defined]
    assert events[0]["done"] == 0
    assert (events[-1]["done"], events[-1]["total"]) == (24, 24)


def test_one_network_at_a_time_trains_the_same_portland(train: Train) -> None:
    """Without it `merging.method` would change more than time."""
    said = _said(portland={"epochs": 2})
    fits = [
        train(**said, merging={"method": method}).trained for method in ("batched", "one-at-a-time")
    ]
    first, second = (fit.portland.weight for fit in fits if fit is not None)
    assert torch.allclose(first, second, atol=1e-4)


def test_the_ensembles_objective_runs_no_merged_model(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it every training would pay for an extension that is off."""
    monkeypatch.setattr(training, "open_merged", None)
    run = train(**_said("ensemble"))
    assert run.trained is not None
    assert not [e for e in run.events if "merged models" in e.get("task", "")]  # type: ignore[attr-defined]


# ---------------------------------------------------------------- whole runs


def test_a_run_through_merged_models_is_whole_and_repeats(data: Path, tmp_path: Path) -> None:
    """Without it the option would be read, checked and then lost on the way to the server."""
    networks, results = {}, {}
    for folder, on in {"one": "merge", "two": "merge", "both": "both", "plain": "ensemble"}.items():
        report = tiny.run(tmp_path / folder, data, **_said(on, experts={"epochs": 2}))
        networks[folder] = load_file(tmp_path / folder / "out" / "portland.safetensors")
        results[folder] = tiny.results(report)
        shown = json.loads((tmp_path / folder / "out" / "report.json").read_text())
        assert shown["portland"]["objective_on"] == on
        said = [note for note in shown["notes"] if note.startswith("Extension of ours")]
        assert [f"objective_on: {on}" in note for note in said] == [True] * (on != "ensemble")
        assert len(shown["portland"]["trajectory"]) == 6
        assert all(row["status"] == "ok" for row in results[folder][0])
    assert results["one"] == results["two"]
    for name, weight in networks["one"].items():
        assert torch.equal(weight, networks["two"][name])
        for other in ("both", "plain"):
            assert not torch.equal(weight, networks[other][name])


def test_an_ensembles_row_counts_the_parameters_that_portland_was_trained_through(
    data: Path, tmp_path: Path
) -> None:
    """Without it results would look as if outputs alone had been given away for them."""
    stage = {"name": "all", "share": ALL, "run": ["train-portland", "ensemble"]}
    cost = {}
    for on in ("ensemble", "merge"):
        report = tiny.run(tmp_path / on, data, **_said(on, stages=[stage], experts={"epochs": 2}))
        rows = report.data["stages"][0]["results"]
        cost[on] = {row["method"]: row["bytes"] for row in rows}
    given = sum(r["bytes"] for r in tiny.releases(report) if r["kind"] == "parameters")
    assert cost["merge"]["neulig"] - cost["ensemble"]["neulig"] == given
    assert cost["merge"]["simple-average"] == cost["ensemble"]["simple-average"]


def test_semi_supervised_training_through_merged_models_reads_no_label(
    data: Path, tmp_path: Path
) -> None:
    """Without it `semi` on evaluation inputs could leak their labels through the merged side."""
    options = {"objective": "semi", "queries": "evaluation"}
    report = tiny.run(tmp_path, data, **_said(portland=options))
    assert all(e["accuracy"] is None for e in report.data["portland"]["trajectory"])


def test_training_inputs_that_were_released_can_be_trained_through(
    data: Path, tmp_path: Path
) -> None:
    """Without it the paper's own queries could not be used with the extension."""
    share = [
        {"kind": "inputs"},
        {"kind": "offset-sum"},
        {"kind": "features", "queries": ["train", "evaluation"]},
        {"kind": "parameters"},
    ]
    stage = {"name": "all", "share": share, "run": ["train-portland", "merge"]}
    report = tiny.run(tmp_path, data, **_said(portland={"queries": "train"}, stages=[stage]))
    assert report.data["portland"]["queries"] == "train"
    assert len(report.data["portland"]["trajectory"]) == 6
