"""Merging state dicts by any of the methods: the way in for a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from neulig_fl import method_options, variants
from neulig_fl.errors import InputError
from neulig_fl.merges._given import PARAMETERS, Entries, Given, Queries

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class StateDicts:
    """A `Source` of state dicts.

    Args:
        models: each expert's state dict, by the expert's name, in order.
        checkpoint: that of theta_0, where there is one.
        records: each expert's records of other kinds, by kind and then by the expert's name.
        architecture: makes the model that has these state dicts.
        pool: unlabelled queries.
        seed: of what is random.

    Raises:
        InputError: the state dicts have not the same entries, shapes and dtypes.
    """

    models: Mapping[str, StateDict] = field(repr=False)
    checkpoint: StateDict | None = field(default=None, repr=False)
    records: Mapping[str, Mapping[str, StateDict]] = field(default_factory=dict, repr=False)
    architecture: Callable[[], nn.Module] | None = None
    pool: Sequence[Queries] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise InputError(f"{len(self.models)} state dicts are given; merging needs 2 or more")
        first, *others = self.models.items()
        start = [] if self.checkpoint is None else [("theta_0", self.checkpoint)]
        for name, model in (*others, *start):
            _require_alike(*first, name, model)

    @property
    def experts(self) -> tuple[str, ...]:
        """Whose experts are merged, in order."""
        return tuple(self.models)

    @cached_property
    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating entry, in order."""
        first = next(iter(self.models.values()))
        return {k: tuple(v.shape) for k, v in first.items() if v.is_floating_point()}

    def arrays(self, kind: str) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every array in a record of that kind."""
        if kind == PARAMETERS:
            return self.entries
        first = next(iter(self._of(kind).values()))
        return {name: tuple(array.shape) for name, array in first.items()}

    def own(self, kind: str, name: str) -> Tensor:
        """One array of every expert's, (experts, *shape), float32."""
        found = self._of(kind)
        return torch.stack([found[expert][name].float() for expert in self.experts])

    def mean(self, kind: str, name: str) -> Tensor:
        """The mean of one array over the experts, float32."""
        found = self._of(kind)
        total = torch.zeros(self.arrays(kind)[name])
        for expert in self.experts:
            total += found[expert][name].float()
        return total / len(self.experts)

    def start(self, name: str) -> Tensor:
        """One entry of theta_0, float32.

        Raises:
            InputError: no theta_0 is given.
        """
        if self.checkpoint is None:
            raise InputError("this method needs theta_0, the checkpoint that all start from")
        return self.checkpoint[name].float()

    def network(self) -> nn.Module:
        """The architecture.

        Raises:
            InputError: none is given.
        """
        if self.architecture is None:
            raise InputError("this method needs the architecture: pass architecture=, a function")
        return self.architecture()

    def queries(self) -> Sequence[Queries]:
        """Unlabelled queries.

        Raises:
            InputError: none are given.
        """
        if not self.pool:
            raise InputError("this method needs unlabelled queries: pass pool=")
        return self.pool

    def _of(self, kind: str) -> Mapping[str, StateDict]:
        if kind == PARAMETERS:
            return self.models
        if kind not in self.records:
            raise InputError(f"this method needs {kind} of the experts: pass records=")
        return self.records[kind]


def merged(method: str, source: StateDicts, **options: Any) -> dict[str, Tensor]:
    """Merge state dicts.

    Args:
        method: name of the method.
        source: the state dicts, and what else the method needs.
        **options: of the method, by their names in YAML.

    Returns:
        The merged model's state dict: floating entries of the experts' dtypes; other entries (such
        as BatchNorm's counters) are those of theta_0, or else of the first expert.

    Raises:
        InputError: no such method or option; what it needs is not given; or it merges other
            numbers of experts; or its merged model is no state dict.

    Example:
        >>> experts = {"a": {"w": torch.tensor([1.0])}, "b": {"w": torch.tensor([3.0])}}
        >>> merged("simple-average", StateDicts(experts))
        {'w': tensor([2.])}
    """
    module = variants.load("neulig_fl.merges", method)
    if not hasattr(module, "merge"):
        raise InputError(f"{method} gives a model and no state dict; call its `model`")
    given = Given(source, module.NEEDS, method)
    require_count(given)
    chosen = method_options.settings(module, options)
    entries: Entries = module.merge(given, **method_options.arguments(module.merge, chosen))
    first = next(iter(source.models.values()))
    found = dict(first if source.checkpoint is None else source.checkpoint)
    for name, value in entries:
        found[name] = value.to(first[name].dtype)
    return found


def require_count(given: Given) -> None:
    """Check that a method merges so many experts.

    Raises:
        InputError: it merges another number.
    """
    count, wanted = len(given.experts), given.needs.experts
    if wanted is not None and count != wanted:
        raise InputError(f"{given.method} merges {wanted} experts (got {count})")


def _require_alike(first: str, wanted: StateDict, name: str, model: StateDict) -> None:
    missing = [key for key in wanted if key not in model]
    extra = [key for key in model if key not in wanted]
    for what, keys in (("lacks", missing), ("has besides", extra)):
        if keys:
            shown = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
            raise InputError(f"{name} {what} {shown}; every model has the entries of {first}")
    for key, value in wanted.items():
        mine = (tuple(model[key].shape), model[key].dtype)
        if mine != (tuple(value.shape), value.dtype):
            shape = f"{tuple(value.shape)} {value.dtype}"
            raise InputError(f"{name}: {key} is {mine[0]} {mine[1]}; in {first} it is {shape}")
