"""WeMoE: blocks whose task vectors are weighted for each sample by a router."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import encoders
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neulig_fl.core.errors import InputError
from neulig_fl.merging import methods
from neulig_fl.merging.methods import Given, Queries, StateDicts, merged, wemoe
from neulig_fl.merging.methods._routed import Router

State = dict[str, Tensor]
MAKERS = {"vit": encoders.vit(), "resnet": encoders.resnet(layers=(1, 1, 1, 1))}
SIZES = {"vit": 16, "resnet": 32}
BLOCKS = {
    "vit": ["transformer.resblocks.0.mlp", "transformer.resblocks.1.mlp"],
    "resnet": ["layer1.0", "layer2.0", "layer3.0", "layer4.0"],
}
OPTIONS: dict[str, Any] = {"lambda_": 0.3, "steps": 3, "lr": 0.05, "batch_size": 2}


def score(seed: int) -> Callable[[Tensor], Tensor]:
    """A task's logits of features."""
    head = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
    return lambda features: features @ head.to(features.dtype).T


def source(kind: str, count: int = 3, spread: float = 0.3) -> StateDicts:
    """Experts around a lively checkpoint, with two tasks of 5 and 3 queries."""
    make = MAKERS[kind]
    start = encoders.state(encoders.lively(make, 0))
    experts = {}
    for number in range(count):
        other = encoders.state(encoders.lively(make, 1 + number))
        experts[f"e{number}"] = {
            name: value + spread * (other[name] - value) if value.is_floating_point() else value
            for name, value in start.items()
        }
    pool = [
        Queries(f"t{i}", encoders.inputs(n, SIZES[kind], seed=i), score(i))
        for i, n in enumerate((5, 3))
    ]
    return StateDicts(experts, checkpoint=start, architecture=make, pool=pool, seed=4)


def routed(known: StateDicts, **changes: Any) -> nn.Module:
    """The method's model."""
    return wemoe.model(Given(known, wemoe.NEEDS, "wemoe"), **{**OPTIONS, **changes})


def routers(network: nn.Module) -> list[Router]:
    """Every block's router, in order."""
    return [part for part in network.modules() if isinstance(part, Router)]


@contextmanager
def heard(network: nn.Module) -> Iterator[list[Tensor]]:
    """What the routers say while it is open."""
    said: list[Tensor] = []
    hooks = [
        router.register_forward_hook(lambda router, args, output: said.append(output.detach()))
        for router in routers(network)
    ]
    yield said
    for hook in hooks:
        hook.remove()


# ---------------------------------------------------------------- slow and obvious, float64


def entry(name: str, known: StateDicts, weights: Sequence[float] | Tensor) -> Tensor:
    """theta_0 + sum_t r_t tau_t of one entry; the mean of running statistics."""
    assert known.checkpoint is not None
    start = known.checkpoint[name]
    if not start.is_floating_point():
        return start
    models = [model[name].double() for model in known.models.values()]
    if name.endswith(("running_mean", "running_var")):
        return torch.stack(models).mean(dim=0)
    value = start.double()
    for model, weight in zip(models, weights, strict=True):
        value = value + weight * (model - start.double())
    return value


def in_block(name: str, block: str) -> bool:
    """Whether an entry has a router: all of an MLP's, and a bottleneck's 1x1 convolutions."""
    pointwise = ("conv1.weight", "conv3.weight", "downsample.0.weight")
    return name.startswith(f"{block}.") and (block.endswith("mlp") or name.endswith(pointwise))


def written_out(kind: str, known: StateDicts, said: Sequence[Tensor]) -> nn.Module:
    """The plain network that one sample sees, with the routers' weights for it; lambda is 0.3."""
    network = MAKERS[kind]().double().eval()
    shares: Mapping[str, Tensor] = dict(zip(BLOCKS[kind], said, strict=True))
    state = {}
    for name in network.state_dict():
        block = [b for b in shares if in_block(name, b)]
        weights = shares[block[0]] if block else [0.3] * len(known.models)
        state[name] = entry(name, known, weights)
    network.load_state_dict(state)
    return network


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_every_sample_sees_the_network_that_its_routers_say(kind: str) -> None:
    """Routed blocks would compute another thing than theta_0 + sum_t r_t tau_t."""
    known = source(kind)
    network = routed(known, steps=1, lr=1e-30).double()
    generator = torch.Generator().manual_seed(3)
    for router in routers(network):
        router.first.weight.normal_(std=0.5, generator=generator)
        router.last.weight.normal_(std=0.1, generator=generator)
    inputs = encoders.inputs(4, SIZES[kind], seed=8, dtype=torch.float64)
    with heard(network) as said, torch.inference_mode():
        together = network(inputs)
    assert len(said) == len(BLOCKS[kind])
    for sample, found in enumerate(together):
        weights = [each[sample] for each in said]
        plain = written_out(kind, known, weights)
        with torch.no_grad():
            wanted = plain(inputs[sample : sample + 1])[0]
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert min(float(each.std(dim=0).max()) for each in said) > 1e-3  # samples are not alike


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_rest_is_merged_by_task_arithmetic(kind: str) -> None:
    """What has no router would stay at the checkpoint, or statistics be scaled with weights."""
    known = source(kind)
    held = routed(known, lambda_=-1.5, steps=1).state_dict()
    found = {name.replace(".block.", "."): value for name, value in held.items()}
    rest = [name for name in known.entries if not any(in_block(name, b) for b in BLOCKS[kind])]
    assert len(rest) > 10
    for name in rest:
        wanted = entry(name, known, [-1.5] * 3)
        torch.testing.assert_close(found[name].double(), wanted, rtol=1e-5, atol=1e-5)
    assert (kind == "resnet") == any(name.endswith("running_var") for name in rest)


class SlowMlp(nn.Module):
    """The official module: every sample by itself, through an MLP whose weights are written out."""

    def __init__(self, plain: nn.Module, stacks: Mapping[str, Tensor], router: Router) -> None:
        super().__init__()
        self.plain, self.stacks = plain, stacks
        self.first, self.last = copy.deepcopy(router.first), copy.deepcopy(router.last)

    def forward(self, states: Tensor) -> Tensor:
        """The router's answer is averaged over tokens at the end."""
        answer = self.last(torch.relu(self.first(states))).mean(dim=1)
        found = []
        for one, weights in zip(states, answer, strict=True):
            values = {
                name: stack[0] + sum(w * tau for w, tau in zip(weights, stack[1:], strict=True))
                for name, stack in self.stacks.items()
            }
            found.append(functional_call(self.plain, values, (one,)))
        return torch.stack(found)


def slow_model(known: StateDicts, untrained: nn.Module) -> nn.Module:
    """A plain network with slow blocks and the routers of another model."""
    network = written_out("vit", known, [torch.full((len(known.models),), 0.3)] * 2)
    for block, router in zip(BLOCKS["vit"], routers(untrained), strict=True):
        around = network.get_submodule(block.removesuffix(".mlp"))
        plain = network.get_submodule(block)
        stacks = {}
        for name, _ in plain.named_parameters():
            start = entry(f"{block}.{name}", known, [0.0] * len(known.models))
            own = [model[f"{block}.{name}"].double() for model in known.models.values()]
            stacks[name] = torch.stack([start, *(model - start for model in own)])
        around.mlp = SlowMlp(plain, stacks, router).double()
    return network


def test_routers_are_trained_as_the_official_code_trains_them() -> None:
    """Gradients, batches, the optimiser or the falling learning rate would not be the paper's."""
    known = source("vit")
    untrained = routed(known, steps=1, lr=1e-30)
    slow = slow_model(known, untrained).requires_grad_(False)
    parts = [part for part in slow.modules() if isinstance(part, SlowMlp)]
    parameters = [
        p.requires_grad_() for s in parts for m in (s.first, s.last) for p in m.parameters()
    ]
    lr = 1e-3
    optimiser = torch.optim.Adam(parameters)
    for step in range(4):
        loss = torch.zeros((), dtype=torch.float64)
        for queries in known.pool:
            turns = math.ceil(len(queries.inputs) / 2)
            chosen = queries.inputs[step % turns :: turns].double()
            p = torch.softmax(queries.logits(slow(chosen)), dim=1)
            loss = loss - (p * p.log()).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / 4)) / 2
        optimiser.step()
    found = routed(known, steps=4, lr=lr, batch_size=2)
    inputs = encoders.inputs(6, 16, seed=8)
    with torch.no_grad():
        wanted, before = slow(inputs.double()), untrained(inputs)
        torch.testing.assert_close(found(inputs).double(), wanted, rtol=1e-5, atol=1e-5)
    assert (before - wanted).abs().max() > 1e-3


# ---------------------------------------------------------------- laws


def test_routers_start_as_the_paper_says() -> None:
    """Routers would start from another mixture than task arithmetic's."""
    first, second = routers(routed(source("vit"), steps=1, lr=1e-30, lambda_=0.4))
    for router in (first, second):
        assert router.first.weight.shape == (16, 16)
        assert router.last.weight.shape == (3, 16)
        assert float(router.first.weight.std()) == pytest.approx(0.01, rel=0.2)
        assert float(router.last.weight.std()) == pytest.approx(0.01, rel=0.35)
        assert float(router.first.bias.abs().max()) < 1e-20
        assert (router.last.bias == 0.4).all()
        assert not torch.equal(router.last.weight[0], router.last.weight[1])
    assert not torch.equal(first.first.weight, second.first.weight)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_experts_that_learnt_nothing_give_the_checkpoint(kind: str) -> None:
    """Routers would change a model of which every mixture is the same."""
    known = source(kind, spread=0.0)
    assert known.checkpoint is not None
    plain = MAKERS[kind]().eval()
    plain.load_state_dict(known.checkpoint)
    inputs = encoders.inputs(3, SIZES[kind])
    with torch.no_grad():
        found = routed(known, lr=0.1)(inputs)
        torch.testing.assert_close(found, plain(inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_order_of_the_clients_does_not_matter(kind: str) -> None:
    """A client would gain by standing first; routers are drawn by the clients' names."""
    known = source(kind)
    other = replace(known, models=dict(reversed(known.models.items())))
    inputs = encoders.inputs(3, SIZES[kind])
    with torch.no_grad():
        first, second = (routed(each, steps=2, lr=1e-3)(inputs) for each in (known, other))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_sample_does_not_depend_on_its_batch(kind: str) -> None:
    """Accuracy would depend on which queries happen to stand beside each other."""
    network = routed(source(kind)).double()
    inputs = encoders.inputs(5, SIZES[kind], dtype=torch.float64)
    with torch.inference_mode():
        alone = torch.cat([network(each[None]) for each in inputs])
        torch.testing.assert_close(network(inputs), alone)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_predictions_become_certain(kind: str) -> None:
    """The routers would be trained, and for the worse."""
    known = source(kind)

    def entropies(network: nn.Module) -> float:
        total = 0.0
        with torch.no_grad():
            for queries in known.pool:
                logits = queries.logits(network(queries.inputs))
                total += float(torch.distributions.Categorical(logits=logits).entropy().mean())
        return total

    before = entropies(routed(known, steps=1, lr=1e-30))
    assert entropies(routed(known, steps=30, lr=0.01)) < 0.9 * before


def test_the_seed_decides_what_is_drawn() -> None:
    """Two runs of one seed would differ, or two seeds be one."""
    known = source("vit")
    first = routed(known)
    torch.manual_seed(77)
    again, other = routed(known), routed(replace(known, seed=5))
    inputs = encoders.inputs(2, 16)
    with torch.no_grad():
        assert torch.equal(first(inputs), again(inputs))
        assert not torch.equal(first(inputs), other(inputs))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_model_is_ready_to_answer(kind: str) -> None:
    """Evaluation would change the model, keep gradients, or not be able to copy it."""
    known = source(kind)
    before = {name: value.clone() for name, value in known.models["e0"].items()}
    network = routed(known)
    copied = copy.deepcopy(network)
    assert not any(part.training for part in network.modules())
    assert not any(p.requires_grad for p in network.parameters())
    inputs = encoders.inputs(2, SIZES[kind])
    found = network(inputs)
    assert found.shape == (2, 6)
    assert found.dtype == torch.float32
    assert torch.equal(copied(inputs), found)
    assert all(torch.equal(value, before[name]) for name, value in known.models["e0"].items())


# ---------------------------------------------------------------- refused, marked


@pytest.mark.parametrize(("key", "value"), [("lambda", "much"), ("steps", 0), ("lr", -1.0)])
def test_bad_options_are_refused(key: str, value: Any) -> None:
    """A typing mistake would be a long run with a meaningless result."""
    with pytest.raises(InputError, match=f"option {key} of wemoe"):
        methods.settings(wemoe, {key: value})


def test_it_gives_no_state_dict() -> None:
    """Half of its model, without routers, would be taken as the merged model."""
    with pytest.raises(InputError, match="wemoe gives a model and no state dict"):
        merged("wemoe", source("vit"))


def test_a_model_without_blocks_is_refused() -> None:
    """Task arithmetic would be reported under the name of another method."""
    linear = partial(nn.Linear, 2, 2)
    models = {name: linear().state_dict() for name in ("a", "b")}
    known = StateDicts(models, checkpoint=linear().state_dict(), architecture=linear)
    with pytest.raises(InputError, match=r"wemoe routes the MLP blocks .* and this model has"):
        routed(known)
    two_convolutions = {f"layer1.0.conv{i}.weight": (4, 4, 3, 3) for i in (1, 2)}
    with pytest.raises(InputError, match="wemoe routes"):
        wemoe.blocks(two_convolutions)


def test_resnets_are_marked_as_an_extension() -> None:
    """A reader would take the rule on ResNets for the paper's."""
    shapes = {
        kind: {k: tuple(v.shape) for k, v in make().state_dict().items()}
        for kind, make in MAKERS.items()
    }
    assert wemoe.extension(shapes["vit"]) is None
    assert "1x1 convolutions" in str(wemoe.extension(shapes["resnet"]))
    assert wemoe.blocks(shapes["vit"]) == BLOCKS["vit"]
    assert wemoe.blocks(shapes["resnet"]) == BLOCKS["resnet"]
