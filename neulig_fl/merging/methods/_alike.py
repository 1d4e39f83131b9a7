"""How alike the experts' units are on unlabelled queries: correlations of what they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from neulig_fl.core.errors import InputError
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Given
from neulig_fl.merging.methods._units import Bundle, Units

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 128
"""Queries that run at once."""

Seen = dict[tuple[str, str], "Tensor"]
"""Of one expert, by set and by what was seen of it: (samples, units)."""


def correlations(given: Given, units: Units) -> dict[str, Tensor]:
    """Correlations of all units of all experts, set by set, on all queries.

    Units outside attentions are seen where `units.seen_by` says, every place of an image being a
    sample; those of attentions as queries, as keys and as the heads' outputs. What is seen at
    several points counts as their mean. A unit that does not vary correlates 0 with every other.

    Args:
        given: each client's parameters, and unlabelled queries.
        units: of the model.

    Returns:
        float64 (experts * units, experts * units) for every set, the first expert's units first.

    Raises:
        InputError: the queries are too few for correlations.
    """
    network, states = given.network(), _states(given)
    moments: dict[tuple[str, str], _Moments] = {}
    for inputs in _batches(given):
        with torch.no_grad(), _watched(network, units) as seen:
            every = [_seen(network, state, inputs, seen) for state in states]
        for key in every[0]:
            samples = torch.cat([of_one[key] for of_one in every], dim=1).double()
            if key not in moments:
                moments[key] = _Moments(samples)
            moments[key].add(samples)
    found: dict[str, list[Tensor]] = {}
    for (name, _), moment in moments.items():
        found.setdefault(name, []).append(moment.correlation())
    return {name: sum(parts[1:], parts[0]) / len(parts) for name, parts in found.items()}


def _states(given: Given) -> list[dict[str, Tensor]]:
    states: list[dict[str, Tensor]] = [{} for _ in given.experts]
    for name in given.entries:
        for state, value in zip(states, given.own(name), strict=True):
            state[name] = value
    return states


def _batches(given: Given) -> Iterator[Tensor]:
    queries = given.queries()
    count = sum(len(q.inputs) for q in queries)
    if count < 2:
        raise InputError(f"{given.method} correlates units over queries, 2 at least (got {count})")
    for q in queries:
        yield from q.inputs.split(BATCH)


class _Moments:
    """Sums over samples, from which correlations follow."""

    def __init__(self, first: Tensor) -> None:
        size = first.shape[1]
        self.origin = first.mean(dim=0)  # taken off, so that large means cost no digits
        self.count = 0
        self.sums = torch.zeros(size, dtype=torch.float64)
        self.products = torch.zeros(size, size, dtype=torch.float64)

    def add(self, samples: Tensor) -> None:
        """Take in some samples, float64 (samples, units)."""
        samples = samples - self.origin
        self.count += len(samples)
        self.sums += samples.sum(dim=0)
        self.products.addmm_(samples.T, samples)

    def correlation(self) -> Tensor:
        """(units, units)."""
        mean = self.sums / self.count
        covariance = self.products / self.count - torch.outer(mean, mean)
        deviation = covariance.diagonal().clamp(min=0).sqrt()
        scale = torch.outer(deviation, deviation)
        return torch.where(scale > 0, covariance / scale.clamp(min=1e-300), 0.0).clamp(-1, 1)


def _seen(network: nn.Module, state: dict[str, Tensor], inputs: Tensor, seen: Seen) -> Seen:
    """What one expert shows on some inputs."""
    seen.clear()
    torch.func.functional_call(network, state, (inputs,))
    return dict(seen)


@contextmanager
def _watched(network: nn.Module, units: Units) -> Iterator[Seen]:
    """A place where the units of a network are put whenever it runs."""
    seen: Seen = {}
    handles = [
        network.get_submodule(module).register_forward_pre_hook(_input_hook(seen, name, module))
        for name, modules in units.seen_by.items()
        for module in modules
    ]
    for bundle in units.bundles:
        if bundle.attention is not None:
            module = network.get_submodule(bundle.attention)
            handles.append(module.register_forward_pre_hook(_attention_hook(seen, bundle)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


Hook = Callable[["nn.Module", tuple[Any, ...]], None]


def _input_hook(seen: Seen, name: str, module: str) -> Hook:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        value = inputs[0].movedim(1, -1) if inputs[0].dim() == 4 else inputs[0]
        seen[name, module] = value.flatten(0, -2)

    return hook


def _attention_hook(seen: Seen, bundle: Bundle) -> Hook:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        pool = hasattr(module, "q_proj")
        query, key, value = (_pool if pool else _projected)(module, inputs[0])
        heads = [t.unflatten(-1, (bundle.heads, -1)).transpose(1, 2) for t in (query, key, value)]
        output = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        queries, values = bundle.sets
        seen[queries, "queries"] = query.flatten(0, 1)
        seen[queries, "keys"] = key.flatten(0, 1)
        seen[values, "outputs"] = output.flatten(0, 1)

    return hook


def _projected(module: Any, tokens: Tensor) -> list[Tensor]:
    """Queries, keys and values of an attention, each (queries, tokens, units)."""
    weight, bias = module.in_proj_weight, module.in_proj_bias
    return list(torch.nn.functional.linear(tokens, weight, bias).chunk(3, dim=-1))


def _pool(module: Any, images: Tensor) -> list[Tensor]:
    """The same of CLIP's attention pool, whose only query is the mean of all places."""
    places = images.flatten(2).transpose(1, 2)
    tokens = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)
    tokens = tokens + module.positional_embedding
    return [module.q_proj(tokens[:, :1]), module.k_proj(tokens), module.v_proj(tokens)]
