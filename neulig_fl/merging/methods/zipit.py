"""ZipIt: merge the units that are most alike on queries, within experts and across them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from neulig_fl.core.errors import InputError
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Entries, Given, Needs, _units
from neulig_fl.merging.methods._alike import correlations
from neulig_fl.merging.methods._assignment import best_orders
from neulig_fl.merging.methods._options import Share
from neulig_fl.merging.methods._units import Axis, Bundle, units_of
from neulig_fl.merging.methods._zipping import MOST_EXPERTS, zipped

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2305.03053"
NEEDS = Needs(each=("parameters",), queries=True)
SYMMETRIC = False  # every attention's units are matched to those of the first expert
AGREES = False  # a third copy can come late (alpha); a unit that never varies is like none
RE_ESTIMATES = True

Alpha = Annotated[
    Share, Field(description="What the correlations of a merged unit are multiplied by.")
]
Beta = Annotated[
    Share, Field(description="Share of an expert's merges that can be between its own units.")
]


def merge(given: Given, *, alpha: Alpha = 0.3, beta: Beta = 0.125) -> Entries:
    """Zip: W = sum_t M_t W_t U_t, over units that correlate on the queries.

    Every set of units (see `git_rebasin`) is zipped: of all experts' units the two that correlate
    most become one, until as many are left as one expert has; a merged unit correlates with another
    as the less correlated of its two did, times alpha. So any number of experts are merged at once.
    U_t says which merged unit each of expert t's has become, M_t is its transpose over the number
    of units, of all experts, that the merged unit has. Entries with fixed outputs (the projection
    into the text space) are the mean of W_t U_t.

    Correlations are over all pool queries and places, where the units are read: behind the ReLU or
    GELU; of a ResNet's residual streams at the end of their stage, as in the paper. Ours, because
    the paper has no transformers: of a vision transformer's stream, the mean of the correlations
    before every block and at the end; and attentions are permuted, not zipped, for a product of
    queries and keys is not linear in their units: each expert's heads, and the units inside of
    heads, are matched to the first expert's by the correlations of queries, of keys and of the
    heads' outputs (arXiv:2403.00986 matches heads by correlations too). Norms and biases are zipped
    by M_t as in the official code, and BatchNorm's running statistics, whose variances so stay
    above 0; they do not fit the zipped units, so a run, and `merging.methods.merged`, estimate
    them again. All layers are zipped: a partial zip would give a model of several heads.

    An expert's budget is beta times its share of the merges. A merge counts if both units have
    units of the same expert, for each such expert; at the end of its budget there are no more, so
    that a budget of 0 (beta 0, or few units) allows none. The official code looks at a budget after
    a merge within an expert only, and so allows one at budget 0. It counts a merged unit as its
    first expert's until then; and where no merge is left that a budget allows (possible from three
    experts on), it merges at random; here budgets end. The paper searches alpha and beta anew for
    each experiment; ours are its code's defaults.

    Args:
        given: each client's parameters, and unlabelled queries.
        alpha: weight of a merged unit's correlations; 1 does not hold repeated merges back.
        beta: budget for merges within an expert; 0 merges across experts only.

    Yields:
        Every entry of the merged model.

    Raises:
        InputError: a model that it does not know; too many experts; less than two queries.

    Source: arXiv:2305.03053, sections 4.1 to 4.3, and the official code's matching and merging.
    """
    units, experts = units_of(given), len(given.experts)
    if experts > MOST_EXPERTS:
        raise InputError(f"{given.method} merges {MOST_EXPERTS} experts at most (got {experts})")
    alike = correlations(given, units)
    members: dict[str, Tensor] = {}
    for bundle in units.bundles:
        if bundle.attention is None:
            (name,) = bundle.sets
            members[name] = zipped(alike.pop(name), experts, alpha, beta)
        else:
            members.update(_permuted(bundle, alike, experts))
    for name in given.entries:
        yield name, _merged(given.own(name), units.axes[name], members)


def unfit(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why the units of a model with these entries are not known; None where they are."""
    return _units.unfit("zipit", entries)


def _permuted(bundle: Bundle, alike: Mapping[str, Tensor], experts: int) -> dict[str, Tensor]:
    """Members of an attention's units: each expert's in the order of the first one's."""
    found: dict[str, list[Tensor]] = {name: [] for name in bundle.sets}
    for expert in range(experts):
        size = len(alike[bundle.sets[0]]) // experts
        theirs = slice(expert * size, (expert + 1) * size)
        orders = best_orders([alike[name][:size, theirs] for name in bundle.sets], bundle.heads)
        for name, order in zip(bundle.sets, orders, strict=True):
            found[name].append(torch.eye(size)[:, order])
    return {name: torch.stack(members) for name, members in found.items()}


def _merged(own: Tensor, axes: tuple[Axis, ...], members: Mapping[str, Tensor]) -> Tensor:
    """One entry of the merged model.

    Args:
        own: of every expert, (experts, *shape).
        axes: those along which units stand.
        members: of every set, which units (rows) each merged unit (columns) has, (experts, units,
            units).
    """
    found = torch.zeros(own.shape[1:])
    for expert, value in enumerate(own):
        for axis in axes:
            parts = zip(value.chunk(len(axis.sets), axis.number), axis.sets, strict=True)
            done = [_applied(part, axis, members[name], expert) for part, name in parts]
            value = torch.cat(done, axis.number)
        found += value
    return found if any(axis.makes for axis in axes) else found.div_(len(own))


def _applied(value: Tensor, axis: Axis, members: Tensor, expert: int) -> Tensor:
    """M_t applied where units are made, and U_t where they are read."""
    matrix = members[expert].T
    if axis.makes:
        matrix = matrix / members.sum(dim=(0, 1))[:, None]
    done: Tensor = torch.tensordot(matrix, value, dims=([1], [axis.number]))
    return done.movedim(0, axis.number)
