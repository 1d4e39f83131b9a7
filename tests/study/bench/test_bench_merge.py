"""`bench merge`: every way gives the merged networks' outputs, and figures are of what was timed."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, fields, replace
from io import StringIO
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from neulig_fl.config.scenario import Model
from neulig_fl.core.errors import InputError
from neulig_fl.core.progress import Progress
from neulig_fl.study.bench import _merge_methods, merge
from neulig_fl.study.bench._interleaved import Timed, interleaved
from neulig_fl.study.bench._merge_figures import Found, Run, figures
from neulig_fl.study.bench._merge_methods import METHODS
from neulig_fl.study.bench._merge_subject import Perturbed, Subject, make

TINY = merge.Options(model="tiny-vit", random_weights=True, experts=3, batch=3)
KEYS = [
    *("single_ms", "ensemble_ms", "batched_ms", "one_at_a_time_ms", "vmap_ms"),
    *("released_ms", "stage_ms", "stage_ratio", "ratio_to_single", "ratios"),
    *("max_relative_error", "peak_rss_bytes", "model", "experts", "batch", "threads", "rounds"),
    *("dtype", "random_weights", "details"),
]


def made(model: str = "tiny-vit", experts: int = 3, batch: int = 3, seed: int = 0) -> Subject:
    """A subject; the micro models have their bundled weights."""
    pretrained = "bundled" if model.startswith("micro") else "none"
    return make(Model(name=model, pretrained=pretrained), experts, batch, seed, merge.SILENT)


@pytest.fixture(scope="module", params=["tiny-vit", "micro-rn"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """A transformer, and a residual network with running statistics."""
    return made(request.param)


def network(subject: Subject, coopvec: Tensor) -> nn.Module:
    """One merged network, summed in float64 and loaded."""
    state = subject.encoder.state_dict()
    for name in subject.states[0]:
        parts = zip(coopvec.tolist(), subject.states, strict=True)
        state[name] = sum((b * s[name].double() for b, s in parts), torch.zeros(())).float()
    merged = copy.deepcopy(subject.encoder)
    merged.load_state_dict(state)
    return merged


def by_hand(subject: Subject, coopvecs: Tensor) -> Tensor:
    """Every sample through its own merged network."""
    each = zip(coopvecs, subject.inputs, strict=True)
    return torch.cat([network(subject, coopvec)(image[None]) for coopvec, image in each])


def close(found: Tensor, exact: Tensor) -> bool:
    """Equal but for rounding in float32."""
    return bool((found - exact).abs().max() <= 1e-5 * exact.abs().max())


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize("model", ["tiny-vit", "micro-rn"])
def test_experts_differ_in_every_entry_and_are_the_same_for_a_seed(model: str) -> None:
    """Without it entries that all experts share would be skipped, and the engine look faster."""
    subject, again, other = made(model), made(model), made(model, seed=1)
    for name in subject.stack.shapes:
        one, two, three = (state[name] for state in subject.states)
        assert not torch.equal(one, two), name
        assert not torch.equal(two, three), name
        if name.endswith("running_var"):
            assert bool((one > 0).all()), name
    assert torch.equal(subject.stack.matrix, again.stack.matrix)
    assert torch.equal(subject.inputs, again.inputs)
    assert not torch.equal(subject.stack.matrix, other.stack.matrix)
    assert subject.stack.present == ("expert-0", "expert-1", "expert-2")


def test_an_expert_does_not_depend_on_the_order_in_which_it_is_read() -> None:
    """Without it a change of the stack would give other experts for the same seed."""
    base = {"a.weight": torch.ones(4), "b.running_var": torch.full((4,), 0.5)}
    before = copy.deepcopy(base)
    expert = Perturbed(base, 3, "expert-0")
    last, first = expert["b.running_var"], expert["a.weight"]
    assert torch.equal(expert["a.weight"], first)
    assert torch.equal(expert["b.running_var"], last)
    assert list(expert) == list(base)
    assert all(torch.equal(base[name], before[name]) for name in base)
    assert (first - 1.0).abs().max() < 0.2


def test_other_ways_have_experts_in_their_usual_order(subject: Subject) -> None:
    """Without it they would pay for the order in which the engine holds experts, or get others."""
    state = subject.encoder.state_dict()
    base = {name: state[name] for name in subject.stack.shapes}
    for name, own in zip(subject.stack.experts, subject.states, strict=True):
        expert = Perturbed(base, 0, name)
        assert list(own) == list(expert)
        assert all(torch.equal(own[entry], expert[entry]) for entry in own)
        assert all(own[entry].is_contiguous() for entry in own)


def test_the_engine_does_not_need_experts_twice() -> None:
    """Without it the peak after batched merged inference would be that of the other ways."""
    subject = made()
    for name in ("plain-batch", "plain-one-by-one", "batched"):
        METHODS[name].call(subject, 3)
    assert "plain" not in vars(subject)
    assert list(METHODS)[:3] == ["plain-batch", "plain-one-by-one", "batched"]


def test_every_sample_has_a_coopvec_of_its_own(subject: Subject) -> None:
    """Without it samples would be run together, or as one expert, and cost less than they do."""
    outputs = _merge_methods.ensemble(subject, 3)
    for coopvecs in (subject.coopvecs, subject.portland.coopvecs(outputs)):
        assert coopvecs.shape == (3, 3)
        assert len(torch.unique(coopvecs, dim=0)) == 3
        assert torch.allclose(coopvecs.sum(dim=1), torch.ones(3))
    assert float(made(experts=2, batch=64).coopvecs.max()) < 0.9


# ---------------------------------------------------------------- the methods


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.merges])
def test_every_way_to_merge_gives_the_merged_networks_outputs(name: str, subject: Subject) -> None:
    """Without it the engine would be compared with other work than its own."""
    found = METHODS[name].call(subject, 3)
    assert close(found, by_hand(subject, subject.coopvecs))


def test_one_model_and_the_ensemble_are_what_they_are_called(subject: Subject) -> None:
    """Without it everything would be relative to something else than a forward pass."""
    plain = subject.encoder(subject.inputs)
    assert close(METHODS["plain-batch"].call(subject, 3), plain)
    assert close(METHODS["plain-one-by-one"].call(subject, 3), plain)
    for index, one_hot in enumerate(torch.eye(3)):
        expert = network(subject, one_hot)(subject.inputs)
        assert close(METHODS["ensemble"].call(subject, 3)[:, index], expert)


def test_a_stage_is_the_ensemble_and_the_merged_model_under_portlands_coopvecs(
    subject: Subject,
) -> None:
    """Without it the stage's goal could be met by leaving a part of the stage out."""
    outputs = torch.stack([network(subject, e)(subject.inputs) for e in torch.eye(3)], dim=1)
    coopvecs = subject.portland.coopvecs(outputs)
    mixed, merged = METHODS["stage"].call(subject, 3)
    # Scores are scaled up to differ from sample to sample, and rounding with them.
    assert torch.allclose(mixed, torch.einsum("qt,qtd->qd", coopvecs, outputs), atol=1e-3)
    assert torch.allclose(merged, by_hand(subject, coopvecs), atol=1e-3)


def test_a_method_does_the_first_samples_of_the_batch(subject: Subject) -> None:
    """Without it times a sample would be of another number of samples."""
    for method in METHODS.values():
        whole, part = method.call(subject, 3), method.call(subject, 2)
        assert close(part, whole[:2] if method.call is not _merge_methods.stage else whole[:, :2])


def test_slow_ways_take_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it `vmap` would take all memory, and the released procedure minutes."""
    subject = made(batch=6)
    assert {name: m.samples(subject) for name, m in METHODS.items()} == {
        **dict.fromkeys(METHODS, 6),
        "released": 4,
    }
    monkeypatch.setattr(_merge_methods, "VMAP_BYTES", 4 * subject.entries * 2 + 3)
    assert METHODS["vmap"].samples(subject) == 2
    monkeypatch.setattr(_merge_methods, "VMAP_BYTES", 0)
    assert METHODS["vmap"].samples(subject) == 1


def test_vmap_leaves_torchs_attention_as_it_was(subject: Subject) -> None:
    """Without it one model's forward pass would be timed without its fast path."""
    torch.backends.mha.set_fastpath_enabled(True)
    METHODS["vmap"].call(subject, 2)
    assert torch.backends.mha.get_fastpath_enabled()


# ---------------------------------------------------------------- the rounds


def test_calls_take_turns_and_the_first_round_does_not_count() -> None:
    """Without it one method would be timed while the machine is busy, the others before or after."""
    seen: list[str] = []
    steps: list[int] = []

    def call(name: str) -> Tensor:
        seen.append(name)
        return torch.tensor(len(seen))

    calls = {name: lambda name=name: call(name) for name in "abc"}
    timed = interleaved(calls, 2, lambda: steps.append(len(seen)))
    assert "".join(seen) == "abc" + "cba" + "abc"
    assert steps == list(range(1, 10))
    assert {name: len(each) for name, each in timed.seconds.items()} == dict.fromkeys("abc", 2)
    assert {name: int(each) for name, each in timed.results.items()} == {"a": 1, "b": 2, "c": 3}
    assert timed.peaks["a"] <= timed.peaks["b"] <= timed.peaks["c"]


def test_where_vmap_cannot_run_a_model_that_is_said() -> None:
    """Without it a model that torch cannot batch could not be measured at all."""
    subject = made()
    subject.encoder.register_forward_hook(lambda layer, given, out: out if out.sum() > 0 else -out)
    calls = {
        "plain": lambda: METHODS["plain-batch"].call(subject, 3),
        "vmap": lambda: METHODS["vmap"].call(subject, 3),
    }
    timed = interleaved(calls, 2, lambda: None, frozenset({"vmap"}))
    assert list(timed.seconds) == ["plain"]
    assert timed.failed["vmap"].startswith("RuntimeError: vmap: It looks like you're ")
    with pytest.raises(RuntimeError, match="data-dependent control flow"):
        interleaved(calls, 2, lambda: None)


# ---------------------------------------------------------------- the figures


def run(**failed: str) -> Run:
    """Made-up times: milliseconds in three rounds, of three samples or fewer."""
    ms = {
        "plain-batch": [6.0, 9.0, 90.0],
        "plain-one-by-one": [12.0, 3.0, 6.0],
        "ensemble": [30.0, 27.0, 33.0],
        "batched": [9.0, 12.0, 60.0],
        "stage": [48.0, 48.0, 0.0],
        "one-at-a-time": [30.0, 30.0, 30.0],
        "released": [20.0, 40.0, 20.0],
        "vmap": [15.0, 27.0, 18.0],
    }
    names = [name for name in ms if name not in failed]
    exact = torch.tensor([[1.0], [-4.0], [2.0]])
    off = {"batched": 0.004, "vmap": 0.0, "released": 0.0, "one-at-a-time": 0.0}
    results = {name: exact + off[name] for name in names if name in off}
    results["released"] = results["released"][:1] if "released" in results else exact[:1]
    seconds = {name: [each / 1000 for each in ms[name]] for name in names}
    timed = Timed(seconds, results, dict.fromkeys(names, 7), failed)
    samples = {**dict.fromkeys(names, 3), "released": 1}
    return Run(Model(name="tiny-vit", pretrained="none"), 0, made(), samples, timed, 3)


def test_figures_are_medians_over_rounds_a_sample() -> None:
    """Without it one slow round, or a batch that was cut, would decide what is reported."""
    found = figures(run())
    assert found.details["plain_batch_ms"] == pytest.approx(3.0)
    assert found.single_ms == found.details["plain_one_by_one_ms"] == pytest.approx(2.0)
    assert found.ensemble_ms == pytest.approx(10.0)
    assert found.batched_ms == pytest.approx(4.0)
    assert found.released_ms == pytest.approx(20.0)
    assert found.ratio_to_single == found.ratios["batched"] == pytest.approx(2.0)
    assert found.ratios["one_at_a_time"] == pytest.approx(5.0)
    assert found.stage_ms == pytest.approx(16.0)
    assert found.stage_ratio == pytest.approx(16.0 / (4 * 2.0))
    assert found.max_relative_error == pytest.approx(0.001, rel=1e-3)
    assert found.details["max_relative_errors"]["released"] == 0.0
    assert found.details["samples"]["released"] == 1
    assert found.details["reasons"] == {}
    assert found.details["rounds_ms"]["batched"] == pytest.approx([3.0, 4.0, 20.0])


def test_the_engine_beside_the_fastest_other_way() -> None:
    """Without it `neulig-fl bench` would compare it with whichever way is slowest."""
    told = merge.as_measurement(figures(run()))
    assert told.values == pytest.approx([3 / 5, 4 / 9, 20 / 6])
    assert told.figure == pytest.approx(3 / 5)
    assert told.met
    assert told.details["times one model, one-at-a-time"] == pytest.approx(5.0)


def test_what_could_not_be_measured_is_null_with_a_reason() -> None:
    """Without it a reader would take a missing figure for a forgotten one."""
    found = figures(run(vmap="RuntimeError: no"))
    assert found.vmap_ms is None
    assert found.details["reasons"] == {"vmap_ms": "RuntimeError: no"}
    assert "No vmap_ms: RuntimeError: no." in said(found)
    assert merge.as_measurement(found).values == pytest.approx([3 / 10, 4 / 10, 20 / 10])


def said(found: Found, width: int = 80) -> str:
    """What is printed."""
    console = Console(file=StringIO(), width=width)
    merge.tell(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_table_has_every_method_and_what_it_was_run_on() -> None:
    """Without it figures of a part of the batch would pass for those of all of it."""
    text = said(figures(run()))
    assert "tiny-vit (random weights, float32), 3 experts, batch 3, 1 thread" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "plain forward pass, one by one 2.00 1.00" in lines
    assert "released procedure (1 of 3 samples) 20.00 10.00" in lines
    assert "inference against one at a time: relative error up to 1.0e-03." in text
    assert "A whole stage takes 2.00 times 4 forward passes (goal: 1.35 at most; NOT met)" in text
    assert all(len(line) <= 40 for line in said(figures(run()), width=40).splitlines())


# ---------------------------------------------------------------- all of it


def test_a_comparison_has_exactly_these_keys(subject: Subject) -> None:
    """Without it programs that read the figures would break unseen."""
    events: list[dict[str, Any]] = []
    found = merge.compare(replace(TINY, threads=2), 2, Progress(events.append))
    assert [field.name for field in fields(found)] == KEYS
    record = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert (record["model"], record["experts"], record["batch"]) == ("tiny-vit", 3, 3)
    assert (record["threads"], record["rounds"], record["dtype"]) == (2, 2, "float32")
    assert record["random_weights"] is True
    assert 0.0 <= record["max_relative_error"] <= 1e-5
    assert record["peak_rss_bytes"] > 2**26
    assert all(record[key] > 0 for key in KEYS if key.endswith(("_ms", "ratio", "to_single")))
    assert set(record["ratios"]) == {key[:-3] for key in KEYS if key.endswith("_ms")} - {"single"}
    assert events[-1] == {"task": "measuring tiny-vit", "done": 24, "total": 24}
    assert torch.get_num_threads() == 1


def test_a_choice_of_methods() -> None:
    """Without it a sweep over many experts would wait for methods that nobody asked for."""
    found = merge.compare(replace(TINY, methods=("batched",)), 1)
    assert set(found.details["rounds_ms"]) == {"plain_batch", "plain_one_by_one", "batched"}
    assert found.ratio_to_single is not None
    assert found.max_relative_error is None
    reasons = found.details["reasons"]
    assert reasons["max_relative_error"] == "batched and one-at-a-time were not both asked for"
    assert reasons["stage_ratio"] == reasons["vmap_ms"] == "not asked for"
    assert "No max_relative_error: batched and one-at-a-time" in said(found, 200)
    assert "vmap" not in said(found)


def test_the_benchmark_is_of_the_bundled_model() -> None:
    """Without it `neulig-fl bench` could not be run without a network, or would take minutes."""
    found = merge.measure(repeats=1)
    assert found.what == "merging micro-vit for every sample, 5 experts"
    assert found.details["largest relative error"] <= 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experts": 1}, "--experts 1: too few; allowed: 2 or more"),
        ({"batch": 0}, "--batch 0: too few; allowed: 1 or more"),
        ({"model": "ViT-B32"}, "--model ViT-B32: no such model .*did you mean ViT-B-32"),
        (
            {"model": "ViT-B-32", "random_weights": False},
            "--pretrained bundled: bundled weights are for micro-vit and micro-rn .*"
            "or take --random-weights",
        ),
        ({"pretrained": "openai"}, "--pretrained openai: not together with --random-weights"),
        (
            {"random_weights": False, "pretrained": "no/such.pt"},
            "--pretrained no/such.pt: there is no such file or folder; looked for .*/no/such.pt$",
        ),
        ({"methods": ("vmaps",)}, "--methods vmaps: no such method; .*did you mean vmap"),
    ],
)
def test_options_that_cannot_be(change: dict[str, Any], message: str) -> None:
    """Without it a typo would be a traceback, or be found after minutes."""
    with pytest.raises(InputError, match=message):
        merge.compare(replace(TINY, **change), 1)
