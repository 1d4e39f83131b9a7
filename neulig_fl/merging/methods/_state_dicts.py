"""Merging state dicts by any of the methods: the way in for a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from neulig_fl.core import variants
from neulig_fl.core.errors import InputError
from neulig_fl.merging import method_options
from neulig_fl.merging.inference.batch_norm import CALIBRATION_QUERIES, recalibrated
from neulig_fl.merging.methods._checked import (
    StateDict,
    require_alike,
    require_finite,
    require_state_dict,
    tied,
)
from neulig_fl.merging.methods._given import PARAMETERS, Entries, Given, Queries
from neulig_fl.merging.running_statistics import is_statistic


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
        InputError: the state dicts have not the same entries, shapes and dtypes; or a value of
            these, of records or of queries is not finite.
    """

    models: Mapping[str, StateDict] = field(repr=False)
    checkpoint: StateDict | None = field(default=None, repr=False)
    records: Mapping[str, Mapping[str, StateDict]] = field(default_factory=dict, repr=False)
    architecture: Callable[[], nn.Module] | None = None
    pool: Sequence[Queries] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.models, Mapping):
            raise InputError(
                "the state dicts are no dict; give each a name: StateDicts({'a': ..., 'b': ...})"
            )
        if len(self.models) < 2:
            raise InputError(f"{len(self.models)} state dicts are given; merging needs 2 or more")
        first, *others = self.models.items()
        start = [] if self.checkpoint is None else [("theta_0", self.checkpoint)]
        for name, model in (first, *others, *start):
            require_state_dict(name, model)
            require_finite(name, model)
        for name, model in (*others, *start):
            require_alike(*first, name, model)
        for kind, records in self.records.items():
            for name, record in records.items():
                require_finite(f"{kind} of {name}", record)
        for queries in self.pool:
            require_finite(f"queries of {queries.task}", {"inputs": queries.inputs})

    @property
    def experts(self) -> tuple[str, ...]:
        """Whose experts are merged, in order."""
        return tuple(self.models)

    @cached_property
    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating entry, in order; of tied entries the first stands for all."""
        first = next(iter(self.models.values()))
        return {
            name: tuple(value.shape)
            for name, value in first.items()
            if value.is_floating_point() and name not in self.tied
        }

    @cached_property
    def tied(self) -> Mapping[str, str]:
        """For every entry that is another one under a second name, that one's name."""
        start = [] if self.checkpoint is None else [self.checkpoint]
        network = None if self.architecture is None else self.architecture()
        return tied([*self.models.values(), *start], network)

    def arrays(self, kind: str) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every array in a record of that kind."""
        if kind == PARAMETERS:
            return self.entries
        first = next(iter(self._of(kind).values()))
        return {name: tuple(array.shape) for name, array in first.items()}

    def own(self, kind: str, name: str) -> Tensor:
        """One array of every expert's, (experts, *shape), float32."""
        found = self._of(kind)
        return torch.stack([_numbers(found[expert][name]) for expert in self.experts])

    def mean(self, kind: str, name: str) -> Tensor:
        """The mean of one array over the experts, float32."""
        found = self._of(kind)
        total = torch.zeros(self.arrays(kind)[name])
        for expert in self.experts:
            total += _numbers(found[expert][name])
        return total / len(self.experts)

    def start(self, name: str) -> Tensor:
        """One entry of theta_0, float32.

        Raises:
            InputError: no theta_0 is given.
        """
        if self.checkpoint is None:
            raise InputError(
                "this method needs theta_0, the checkpoint that all start from: pass checkpoint="
            )
        return _numbers(self.checkpoint[name])

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


def merged(
    method: str, source: StateDicts | Mapping[str, StateDict], **options: Any
) -> dict[str, Tensor]:
    """Merge state dicts.

    Args:
        method: name of the method.
        source: the state dicts, by the experts' names; as `StateDicts` with what else the method
            needs.
        **options: of the method, by their names in YAML; of what is random, the seed is that of
            `StateDicts`.

    Entries that are one tensor under several names are merged once and stay one. Where the rule
    makes BatchNorm's running statistics void (git-rebasin, zipit), they are estimated again on
    unlabelled queries, as a run does.

    Returns:
        The merged model's state dict, with memory of its own: floating entries of the experts'
        dtypes; other entries (such as BatchNorm's counters) are those of theta_0, or else of the
        first expert.

    Raises:
        InputError: no such method or option; what it needs is not given; or it merges other
            numbers of experts; or its merged model is no state dict, or is not finite.

    Example:
        >>> experts = {"a": {"w": torch.tensor([1.0])}, "b": {"w": torch.tensor([3.0])}}
        >>> merged("simple-average", experts)
        {'w': tensor([2.])}
    """
    source = source if isinstance(source, StateDicts) else StateDicts(source)
    module = variants.load("neulig_fl.merging.methods", method)
    if not hasattr(module, "merge"):
        raise InputError(f"{method} gives a model and no state dict; call its `model`")
    given = Given(source, module.NEEDS, method)
    require_count(given)
    chosen = method_options.settings(module, options)
    again = getattr(module, "RE_ESTIMATES", False) and any(map(is_statistic, source.entries))
    if again:
        _require_calibration(method, source)
    entries: Entries = module.merge(given, **method_options.arguments(module.merge, chosen))
    values = _recalibrated(source, dict(entries)) if again else dict(entries)
    return _whole(method, source, values)


def _numbers(value: Tensor) -> Tensor:
    """A tensor in float32, without what it was computed from; parameters may be given."""
    return value.detach().float()


def _whole(method: str, source: StateDicts, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with merged values, of the experts' dtypes, under all of their names.

    Raises:
        InputError: a value is not finite in that dtype.
    """
    first = next(iter(source.models.values()))
    kept = first if source.checkpoint is None else source.checkpoint
    lent = {v.data_ptr() for model in (kept, *source.models.values()) for v in model.values()}
    found = {name: kept[name].detach().clone() for name in kept if name not in values}
    for name, value in values.items():
        own = value.detach().to(first[name].dtype)
        found[name] = own.clone() if own.data_ptr() in lent else own
        if not torch.isfinite(found[name]).all():
            what = f"{method}: {name} of the merged model is not finite in {found[name].dtype}"
            raise InputError(f"{what}; try other options, or experts in float32")
    found |= {name: found[other] for name, other in source.tied.items()}
    return {name: found[name] for name in kept}


def _require_calibration(method: str, source: StateDicts) -> None:
    """Check that running statistics can be estimated again.

    Raises:
        InputError: queries or the architecture are not given.
    """
    if not source.pool or source.architecture is None:
        raise InputError(
            f"{method} gives a model whose BatchNorm statistics have to be estimated again on "
            "unlabelled queries: pass pool= and architecture="
        )


def _recalibrated(source: StateDicts, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Merged values with running statistics of the first pool queries, as many as a run takes."""
    each = max(1, CALIBRATION_QUERIES // len(source.pool))
    inputs = torch.cat([queries.inputs[:each] for queries in source.pool])
    return recalibrated(source.network().eval(), values, inputs)


def require_count(given: Given) -> None:
    """Check that a method merges so many experts.

    Raises:
        InputError: it merges another number.
    """
    count, wanted = len(given.experts), given.needs.experts
    if wanted is not None and count != wanted:
        raise InputError(f"{given.method} merges {wanted} experts (got {count})")
