"""WeMoE's counterpart that mixes outputs, by weights that a router gives each query."""

from __future__ import annotations

import math

import pytest
import torch
from encoders import answers
from torch import Tensor, nn

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import Answers, wemoe


def test_the_ensemble_is_routed_by_the_mean_output() -> None:
    """The outputs would be mixed with other weights than entropy gives."""
    pool, evaluation = [answers(1, 7), answers(2, 4)], [answers(3, 2), answers(4, 3)]
    lr = 0.02
    found = wemoe.ensemble(pool, evaluation, lambda_=0.3, steps=4, lr=lr, batch_size=3)
    router = nn.Linear(4, 3).double()
    with torch.no_grad():
        router.weight.zero_()
        router.bias.fill_(0.3)

    def mixed(task: Answers, rows: range) -> Tensor:
        values = []
        for q in rows:
            base, own = task.base[q].double(), task.outputs[q].double()
            weights = router(own.mean(dim=0))
            values.append(base + sum(w * (z - base) for w, z in zip(weights, own, strict=True)))
        return torch.stack(values)

    optimiser = torch.optim.Adam(router.parameters())
    for step in range(4):
        loss = torch.zeros((), dtype=torch.float64)
        for task in pool:
            turns = math.ceil(len(task.outputs) / 3)
            p = torch.softmax(
                task.logits(mixed(task, range(step % turns, len(task.outputs), turns))), dim=1
            )
            loss = loss - (p * p.log()).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / 4)) / 2
        optimiser.step()
    for one, task in zip(found, evaluation, strict=True):
        wanted = mixed(task, range(len(task.outputs))).detach()
        torch.testing.assert_close(one.double(), wanted, rtol=1e-5, atol=1e-5)
        assert not one.requires_grad
    assert (router.weight.abs() > 1e-3).all()


def test_an_ensemble_without_a_pool_is_refused() -> None:
    """A router would be taken as trained that nothing trained."""
    with pytest.raises(InputError, match="no pool queries of task t2"):
        wemoe.ensemble([answers(1, 7), answers(2, 0)], [answers(3, 2)])
