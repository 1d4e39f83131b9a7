"""Iso-C: the sum of the task vectors with every singular value of a matrix made their mean."""

from __future__ import annotations

from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._matrices import factors, is_matrix
from neulig_fl.merging.methods._options import Lambda
from neulig_fl.merging.methods._variances import not_below_zero

SOURCE = "arXiv:2502.04959"
NEEDS = Needs(sums=("parameters",), start=True)
AGREES = False  # even the sum of equal task vectors is flattened


def merge(given: Given, *, lambda_: Lambda = 1.0) -> Entries:
    """Flatten: theta = theta_0 + lambda * mean(S) U V', where sum_t tau_t = U S V', in a matrix.

    The sum of the task vectors is T times the difference of the experts' mean to theta_0, so sums
    of parameters are enough. mean(S) is the mean of all singular values, U V' the closest matrix
    with orthonormal rows or columns, from a decomposition in float64 (the official code: float32).
    A direction in which the sum is 0 stays at theta_0: there the official code adds arbitrary
    singular vectors at the full length mean(S).

    Matrices are all two-dimensional entries, as in the official code: it takes attention's packed
    projections as one matrix. Of all other entries (biases, norms, the class embedding,
    convolutions and so most of a ResNet, BatchNorm's statistics) it averages the task vectors. The
    official code averages a `text_projection` too, though that is two-dimensional; no image
    encoder has one, so this matters for state dicts of whole CLIP models only.
    lambda is the paper's alpha, and holds for all entries. The paper chooses it on validation data;
    1.0, which toolkits have, is the default. Running variances are kept from falling below 0.

    Args:
        given: the mean of every entry, and theta_0.
        lambda_: weight of the flattened task vector.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2502.04959, section 4.1 (Iso-C); github.com/danielm1405/iso-merging.
    """
    yield from not_below_zero(_flattened(given, lambda_))


def _flattened(given: Given, weight: float) -> Entries:
    for name, shape in given.entries.items():
        start = given.start(name)
        vector = given.mean(name) - start
        if is_matrix(shape):
            left, values, right = factors(vector.double())
            left.mul_(len(given.experts) * values.mean())
            vector = (left @ right).float()
        yield name, start + weight * vector
