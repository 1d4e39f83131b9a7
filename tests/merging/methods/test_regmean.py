"""RegMean: layers that are closest to all experts' on all their inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import three_matrices as model
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.merging.methods import StateDicts, merged
from neulig_fl.merging.methods.regmean import extension

Inputs = dict[str, NDArray[np.float64]]
WIDTHS = {"first.weight": 5, "second.weight": 7, "proj": 7}
CONVOLVED = {"conv1.weight": 8, "conv2.weight": 4, "fc.weight": 6}


def seen(widths: dict[str, int], rows: int, seed: int) -> Inputs:
    """One client's inputs of every layer, (rows, inputs); columns of different size."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(rows, n)) * (1 + np.arange(n)) for name, n in widths.items()}


def record(state: model.State, inputs: Inputs) -> dict[str, Tensor]:
    """What the client gives away: G, W G and W diag(G), a number at a time."""
    found = {}
    for name, x in inputs.items():
        weight = model.array(state[name])
        matrix = weight.T if name == "proj" else weight.reshape(len(weight), -1)
        gram = np.zeros((x.shape[1], x.shape[1]))
        for row in x:
            gram += np.outer(row, row) / len(x)
        for kind, value in (
            ("moment", matrix @ gram),
            ("diagonal", matrix @ np.diag(np.diag(gram))),
        ):
            value = value.T if name == "proj" else value.reshape(weight.shape)
            found[f"{kind}:{name}"] = torch.tensor(value, dtype=torch.float32)
        found[f"gram:{name}"] = torch.tensor(gram, dtype=torch.float32)
    return found


def given_with(source: StateDicts, inputs: list[Inputs]) -> StateDicts:
    """The experts, each with a record of its own inputs, and without theta_0."""
    pairs = zip(source.models.items(), inputs, strict=True)
    records = {key: record(dict(state), x) for (key, state), x in pairs}
    return replace(source, checkpoint=None, records={"gram": records})


def example(shapes: model.Shapes = model.LINEAR, count: int = 3, rows: int = 20) -> Any:
    """Experts around a checkpoint, and the inputs of each."""
    widths = CONVOLVED if shapes is model.CONVOLUTIONS else WIDTHS
    source = model.source(shapes, count)
    inputs = [seen(widths, rows, seed) for seed in range(count)]
    return given_with(source, inputs), inputs


def slow(source: StateDicts, inputs: list[Inputs], factor: float) -> dict[str, Any]:
    """The paper's formula by an explicit inverse, float64, from the inputs themselves."""
    found: dict[str, Any] = {}
    for name in source.entries:
        weights = [model.array(m[name]) for m in source.models.values()]
        found[name] = sum(weights[1:], weights[0]) / len(weights)
        if name in inputs[0]:
            width = inputs[0][name].shape[1]
            left, right = np.zeros((width, width)), 0.0
            for weight, x in zip(weights, (one[name] for one in inputs), strict=True):
                gram = x.T @ x / len(x)
                for i in range(width):
                    for j in range(width):
                        gram[i, j] *= 1.0 if i == j else factor
                left += gram
                matrix = weight if name == "proj" else weight.reshape(len(weight), -1).T
                right = right + gram @ matrix
            solved = np.linalg.inv(left) @ right
            found[name] = solved if name == "proj" else solved.T.reshape(weights[0].shape)
    return found


@pytest.mark.parametrize("factor", [0.0, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("shapes", [model.LINEAR, model.CONVOLUTIONS])
def test_regmean_is_the_papers(shapes: model.Shapes, factor: float) -> None:
    """A layer would not be the paper's, or a bias not be averaged."""
    source, inputs = example(shapes)
    found = merged("regmean", source, off_diagonal=factor)
    assert model.close(found, slow(source, inputs, factor))


def test_the_default_is_that_of_the_docstring() -> None:
    """The factor off the diagonal would not be 0.95."""
    source, inputs = example()
    assert model.close(merged("regmean", source), slow(source, inputs, 0.95))


def test_no_layer_is_closer_to_the_experts() -> None:
    """The merged layer would not be what RegMean is for: the regression on all clients' inputs."""
    source, inputs = example()
    found = merged("regmean", source, off_diagonal=1.0)
    models = source.models.values()
    for name in ("first.weight", "second.weight"):
        x = np.concatenate([one[name] for one in inputs])
        y = np.concatenate(
            [one[name] @ model.array(m[name]).T for one, m in zip(inputs, models, strict=True)]
        )
        wanted, *_ = np.linalg.lstsq(x, y, rcond=None)
        assert np.allclose(model.array(found[name]), wanted.T, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 5), st.integers(1, 30), st.sampled_from([0.3, 0.95, 1.0]))
def test_equal_experts_give_the_expert(count: int, rows: int, factor: float) -> None:
    """Law 1, however different the clients' inputs are.

    With fewer inputs than columns, the records' own rounding is divided by a small number, or, for
    all that is off the diagonal, by next to nothing; there the experts' answers are what counts.
    """
    one = model.state(model.LINEAR, 5)
    source = StateDicts({"abcdef"[i]: one for i in range(count)})
    found = given_with(source, [seen(WIDTHS, rows, seed) for seed in range(count)])
    few = rows * count < 4 * max(WIDTHS.values())
    assume(not few or factor < 1.0)
    assert model.close(merged("regmean", found, off_diagonal=factor), one, 1e-3 if few else 1e-4)


def test_equal_inputs_give_the_mean() -> None:
    """A client would count more than another that sees the same."""
    source = model.source(model.LINEAR, 3)
    found = given_with(source, [seen(WIDTHS, 20, 1)] * 3)
    assert model.close(merged("regmean", found), merged("simple-average", source))


def test_the_diagonal_alone_weighs_column_by_column() -> None:
    """Without what is off the diagonal the rule would not be a weighted mean."""
    source, inputs = example()
    found = merged("regmean", source, off_diagonal=0.0)["first.weight"]
    sizes = [(one["first.weight"] ** 2).mean(axis=0) for one in inputs]
    weights = [model.array(m["first.weight"]) for m in source.models.values()]
    wanted = sum(w * s for w, s in zip(weights, sizes, strict=True)) / sum(sizes)
    assert np.allclose(model.array(found), wanted, atol=1e-5)


def test_scale_and_order_do_not_matter() -> None:
    """A common unit of the inputs, or a client's place, would decide about the merged model."""
    source, inputs = example()
    plain = merged("regmean", source)
    for unit in (1e-3, 100):
        other = given_with(source, [{k: unit * x for k, x in one.items()} for one in inputs])
        assert model.close(merged("regmean", other), plain)
    turned = replace(source, models=dict(reversed(source.models.items())))
    assert model.close(merged("regmean", turned), plain)


def test_what_no_client_has_seen_is_averaged() -> None:
    """A unit that never fires would make the merged layer infinite, or empty."""
    source, inputs = example()
    for one in inputs:
        one["first.weight"][:, 2] = 0.0
        one["second.weight"][:] = 0.0
    blind = given_with(source, inputs)
    found, mean = merged("regmean", blind, off_diagonal=1.0), merged("simple-average", source)
    assert torch.allclose(found["first.weight"][:, 2], mean["first.weight"][:, 2], atol=1e-5)
    assert not torch.allclose(found["first.weight"][:, 1], mean["first.weight"][:, 1], atol=1e-3)
    assert torch.equal(found["second.weight"], mean["second.weight"])


def test_fewer_inputs_than_a_layer_has_still_give_a_layer() -> None:
    """A singular matrix would stop the merge, or fill the layer with huge numbers."""
    source, inputs = example(rows=1)
    found = merged("regmean", source, off_diagonal=1.0)
    largest = max(float(m["second.weight"].abs().max()) for m in source.models.values())
    assert float(found["second.weight"].abs().max()) < 2 * largest
    for one, state in zip(inputs, source.models.values(), strict=True):
        x = one["second.weight"]
        answer, wanted = (x @ model.array(w["second.weight"]).T for w in (found, state))
        assert np.allclose(answer, wanted, atol=1e-2)


def test_rounded_sums_that_are_slightly_indefinite_still_give_a_layer() -> None:
    """Rounding to the grid of a secure sum would stop the merge."""
    source, _ = example()
    gram = source.records["gram"]["a"]["gram:first.weight"].double()
    values, vectors = torch.linalg.eigh(gram)
    values[0] = -2e-4 * gram.diagonal().mean()
    spoiled = (vectors @ torch.diag(values) @ vectors.T).float()
    for one in source.records["gram"].values():
        one["gram:first.weight"].copy_(spoiled)  # type: ignore[index]
    found = merged("regmean", source, off_diagonal=1.0)["first.weight"]
    assert bool(torch.isfinite(found).all())


def test_what_is_no_gram_matrix_is_refused() -> None:
    """Sums that noise or rounding has spoiled would give a layer of nonsense."""
    source, _ = example()
    for one in source.records["gram"].values():
        one["gram:second.weight"].neg_()
    with pytest.raises(RunError, match=r"second\.weight is none: it is not positive definite"):
        merged("regmean", source)


def test_convolutions_are_said_to_be_an_extension() -> None:
    """The paper calls RegMean not applicable to ResNets; a reader would not know that this is ours."""
    assert "2 convolutions as matrices of their patches" in str(extension(model.CONVOLUTIONS))
    assert extension(model.LINEAR) is None


@pytest.mark.parametrize("value", [1.5, -0.1, "1", None])
def test_bad_options_are_refused(value: object) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match="option off_diagonal of regmean"):
        merged("regmean", example()[0], off_diagonal=value)
