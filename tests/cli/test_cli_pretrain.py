"""`neulig-fl pretrain`: progress, resuming, and the file's hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import Line

from neulig_fl.client import pretraining


def _trains(monkeypatch: pytest.MonkeyPatch, steps: Sequence[int], stop: bool) -> list[Any]:
    """Put another training in place of the real one; what it was called with."""
    called: list[Any] = []

    def train(recipe: Any, out: Path, on_step: Callable[[int, float], None], every: int) -> Path:
        called.append((recipe.model, recipe.seed, recipe.steps, out))
        for step in steps:
            on_step(step, 0.5)
        if stop:
            raise KeyboardInterrupt
        out.write_bytes(b"weights")
        return out

    monkeypatch.setattr(pretraining, "pretrain", train)
    return called


def test_pretrain_prints_the_files_hash(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it nobody could tell whether two machines made the same weights."""
    called = _trains(monkeypatch, range(251, 301), stop=False)
    ended = line("pretrain", "micro-rn", "--steps", "300", "--seed", "2", "--out", "sub/w.bin")
    assert ended.code == 0
    assert ended.out == f"sub/w.bin\nSHA-256 {hashlib.sha256(b'weights').hexdigest()}\n"
    assert called == [("micro-rn", 2, 300, Path("sub/w.bin"))]
    assert "going on from step 250" in ended.err
    assert "step 300 of 300: loss 0.500" in ended.err


def test_an_interrupted_pretraining_says_how_to_go_on(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a user would not know that hours are not lost."""
    _trains(monkeypatch, range(1, 607), stop=True)
    ended = line("pretrain", "micro-vit", "--out", "w.bin")
    assert ended.code == 130
    assert "stopped after step 606 of 4000; step 500 is kept, and the same command" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ViT-B-32"], "only the micro models are pre-trained here: allowed: micro-vit, micro-rn"),
        (["micro-vit", "--out", "."], "--out .: is a folder; give the file to write"),
        (["micro-vit", "--out", "file/w.bin"], "its folder cannot be made"),
    ],
)
def test_bad_input_of_pretrain(line: Line, arguments: list[str], message: str) -> None:
    """Without it the training would run for an hour and then have no place to write to."""
    Path("file").touch()
    ended = line("pretrain", *arguments)
    assert ended.code == 2
    assert message in ended.err
