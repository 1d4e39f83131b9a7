"""The experts' parameters in a mapped file, and what happens when a disk has no room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from neulig_fl.core.errors import RunError
from neulig_fl.merging.inference import ExpertStack, mapped, merged_outputs


def _filled(matrix: torch.Tensor | None) -> ExpertStack:
    layer = nn.Linear(40, 30)
    shapes = {k: tuple(v.shape) for k, v in layer.state_dict().items()}
    stack = ExpertStack(shapes, ("a", "b"), matrix)
    for seed, name in enumerate("ab"):
        rng = torch.Generator().manual_seed(seed)
        stack.put(name, {k: torch.randn(s, generator=rng) for k, s in shapes.items()})
    return stack


def test_a_mapped_stack_merges_as_one_in_memory(tmp_path: Path) -> None:
    """Without it a study with large models would have other figures than one with small ones."""
    inputs, beta = torch.randn(5, 40), torch.softmax(torch.randn(5, 2), dim=1)
    plain = _filled(None)
    matrix = mapped.zeros(2, plain.matrix.shape[1], tmp_path / "stacks", most=100)
    large = _filled(matrix)
    assert large.matrix.data_ptr() == matrix.data_ptr(), "no copy is made"
    found = [
        merged_outputs(nn.Linear(40, 30), stack, beta, lambda rows: inputs[rows])
        for stack in (plain, large)
    ]
    assert torch.equal(*found)


def test_a_mapped_stack_is_a_file_that_leaves_nothing_behind(tmp_path: Path) -> None:
    """Without it a killed run would leave gigabytes, or the stack would be in memory after all."""
    matrix = mapped.zeros(3, 1000, tmp_path / "stacks", most=11_999)
    assert f"{tmp_path}/stacks" in Path("/proc/self/maps").read_text(), "it is mapped"
    assert list((tmp_path / "stacks").iterdir()) == []
    assert matrix.shape == (3, 1000)
    assert float(matrix.abs().sum()) == 0.0


def test_a_stack_that_fits_is_in_memory(tmp_path: Path) -> None:
    """Without it every small run would write its parameters to a disk."""
    assert mapped.zeros(3, 1000, tmp_path / "stacks", most=12_000).shape == (3, 1000)
    assert mapped.zeros(3, 1000, tmp_path / "stacks").shape == (3, 1000)
    assert not (tmp_path / "stacks").exists()


def test_a_disk_without_room_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Without it the server would die by a signal while it takes the parameters."""
    free = os.statvfs(tmp_path)
    entries = 2 * free.f_blocks * free.f_frsize // 4
    with pytest.raises(RunError, match=r"no room for them .* raise merging\.stack_mib"):
        mapped.zeros(1, entries, tmp_path / "stacks", most=100)
    assert list((tmp_path / "stacks").iterdir()) == []
