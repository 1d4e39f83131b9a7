"""TSV-Merge: the largest singular triplets of every task vector, made orthogonal to one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._matrices import factors, is_matrix
from neulig_fl.merging.methods._options import Lambda
from neulig_fl.merging.methods._variances import not_below_zero

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2412.00081"
NEEDS = Needs(each=("parameters",), start=True)
AGREES = False  # a share 1/T of the triplets is kept


def merge(given: Given, *, lambda_: Lambda = 1.0) -> Entries:
    """Keep, orthogonalise, put together: theta = theta_0 + lambda * U S V' in a matrix.

    Of every tau_t = U_t S_t V_t' the n // T largest of its n singular values are kept, for T tasks.
    S has all that are kept; U and V have the closest orthonormal columns to [U_1 ... U_T] and
    [V_1 ... V_T] (Procrustes: P Q' where that is P D Q'), in float64 (the official code: float32).
    Where singular vectors of several tasks depend on one another, D has zeros, and the directions
    that are missing are left out (the official code has arbitrary ones). A matrix with fewer
    singular values than there are tasks is averaged (the official code keeps nothing of it).

    Matrices are all two-dimensional entries, as in the official code: it takes attention's packed
    projections as one matrix. Of all other entries (biases, norms, the class embedding,
    convolutions and so most of a ResNet, BatchNorm's statistics) it averages the task vectors. The
    official code averages a `text_projection` too, though that is two-dimensional; no image
    encoder has one, so this matters for state dicts of whole CLIP models only.
    lambda is the paper's alpha, 1 without any choosing, and holds for all entries. Running
    variances are kept from falling below 0.

    Args:
        given: each client's parameters, and theta_0.
        lambda_: weight of the merged task vector.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2412.00081, section 4 (TSV-Merge); github.com/AntoAndGar/task_singular_vectors.
    """
    yield from not_below_zero(_put_together(given, lambda_))


def _put_together(given: Given, weight: float) -> Entries:
    count = len(given.experts)
    for name, shape in given.entries.items():
        start = given.start(name)
        kept = min(shape) // count if is_matrix(shape) else 0
        vector = _merged(given.own(name), start, kept) if kept else given.mean(name) - start
        yield name, start + weight * vector


def _merged(own: Tensor, start: Tensor, kept: int) -> Tensor:
    """One matrix's merged task vector.

    Args:
        own: the experts' matrices, (experts, rows, columns).
        start: theta_0's, (rows, columns).
        kept: singular triplets of each expert, so many that all experts' fit.
    """
    lefts, values, rights = [], [], []
    for one in own:
        left, size, right = torch.linalg.svd((one - start).double(), full_matrices=False)
        lefts.append(left[:, :kept].clone())
        values.append(size[:kept])
        rights.append(right[:kept].clone())
        del left, right
    outer, inner = _joined(lefts, 1)
    inner.mul_(torch.cat(values))
    near, far = _joined(rights, 0)
    inner = inner @ near @ far
    del near, far
    return (outer @ inner).float()


def _joined(parts: list[Tensor], axis: int) -> tuple[Tensor, Tensor]:
    """P and Q', so that P Q' is closest to the parts beside each other; the list is emptied."""
    joined = torch.cat(parts, dim=axis)
    parts.clear()
    left, _, right = factors(joined)
    return left, right
