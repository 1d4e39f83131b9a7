"""Which queries run together, in what batches, and in what order they come back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from superposed_cases import EXACT, coopvecs, error, experts, normal, slowly, stacked
from torch import Tensor, nn

from neulig_fl.merging.inference import Merging, merged_outputs, queries

METHODS = ["batched", "one-at-a-time"]


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))


@given(
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.sampled_from(METHODS),
)
def test_any_mixture_of_equal_and_different_coopvecs(
    count: int, experts_count: int, distinct: int, seed: int, batch_size: int, method: str
) -> None:
    """Without it queries that share a CoopVec could get one another's outputs."""
    encoder, states = experts(_mlp, experts_count)
    inputs = normal((count, 4))
    pick = torch.randint(distinct, (count,), generator=torch.Generator().manual_seed(seed))
    beta = torch.cat([coopvecs(distinct, experts_count, seed), torch.eye(experts_count)])
    beta = beta[(pick + seed) % len(beta)]
    done: list[int] = []
    found = merged_outputs(
        encoder,
        stacked(states),
        beta,
        lambda rows: inputs[rows],
        None,
        done.append,
        batch_size,
        Merging(method=method),  # type: ignore[arg-type]
    )
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT
    assert sum(done) == count
    assert max(done) <= batch_size


@pytest.mark.parametrize("method", METHODS)
def test_every_query_is_asked_for_once_and_answered_in_its_place(method: str) -> None:
    """Without it an image would be read twice, or another image's output would be scored."""
    encoder, states = experts(_mlp)
    inputs, beta = normal((40, 4)), coopvecs(40, 3)[torch.arange(40) % 23]
    asked: list[int] = []

    def given_rows(rows: Tensor) -> Tensor:
        asked.extend(rows.tolist())
        return inputs[rows]

    merging = Merging(method=method)  # type: ignore[arg-type]
    found = merged_outputs(
        encoder, stacked(states), beta, given_rows, batch_size=7, merging=merging
    )
    assert sorted(asked[-40:]) == list(range(40))
    assert len(asked) <= 41, "one more, to see how large an input is"
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_large_inputs_make_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the activations of a batch of large images would not fit into memory."""
    encoder, states = experts(_mlp)
    inputs, beta, sizes = normal((10, 4)), coopvecs(10, 3), list[int]()
    monkeypatch.setattr(queries, "INPUT_BYTES", 3 * 4 * 4)
    found = merged_outputs(
        encoder, stacked(states), beta, lambda rows: inputs[rows], None, sizes.append
    )
    assert sizes == [3, 3, 3, 1]
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_an_input_beyond_the_share_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it one image that is larger than the share could not be run at all."""
    encoder, states = experts(_mlp)
    inputs, beta, sizes = normal((3, 4)), coopvecs(3, 3), list[int]()
    monkeypatch.setattr(queries, "INPUT_BYTES", 1)
    merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows], None, sizes.append)
    assert sizes == [1, 1, 1]


def test_a_query_gets_the_same_output_in_any_company() -> None:
    """Without it a query's prediction would depend on which others were asked."""
    encoder, states = experts(_mlp)
    inputs, beta = normal((12, 4)), coopvecs(12, 3)
    stack = stacked(states)
    every = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    order = torch.tensor([7, 3, 11, 0, 2])
    some = merged_outputs(encoder, stack, beta[order], lambda rows: inputs[order][rows])
    assert error(some, every[order]) <= EXACT


@pytest.mark.parametrize("method", METHODS)
def test_no_query_gives_no_output(method: str) -> None:
    """Without it an empty task would end the run."""
    encoder, states = experts(_mlp)
    found = merged_outputs(
        encoder,
        stacked(states),
        torch.zeros(0, 3),
        lambda rows: rows,
        merging=Merging(method=method),  # type: ignore[arg-type]
    )
    assert len(found) == 0


def test_dropout_never_acts() -> None:
    """Without it a merged model in training mode would give other outputs each time."""
    encoder, states = experts(
        lambda: nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2))
    )
    encoder.train()
    inputs, beta = normal((6, 4)), coopvecs(6, 3)
    one = merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
    two = merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
    assert torch.equal(one, two)


def test_outputs_are_of_no_gradient() -> None:
    """Without it an evaluation would keep what training would need."""
    encoder, states = experts(_mlp)
    inputs, beta = normal((3, 4)), coopvecs(3, 3).requires_grad_()
    found = merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
    assert not found.requires_grad
