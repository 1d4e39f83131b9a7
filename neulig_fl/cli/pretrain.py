"""`neulig-fl pretrain`: first weights for a micro model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulig_fl.cli.streams import echo

if TYPE_CHECKING:
    from neulig_fl.client.pretraining import Recipe

SAVE_EVERY = 250
"""Steps between two saved states: what an interruption costs at most."""

NOTE_EVERY = 500


def pretrain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="micro-vit or micro-rn.")],
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the initial weights and of the images.")
    ] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps; the recipe's default if not given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The safetensors file to write.",
            show_default="the bundled file, families/micro/MODEL.safetensors in the package",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Pre-train a bundled micro model on synthetic images, and write its weights.

    The same recipe gives the same file on the same machine, interrupted or not: after Ctrl-C, the
    same command resumes from the last saved step.

    [bold]Examples[/]
      neulig-fl pretrain micro-vit
      neulig-fl pretrain micro-rn --steps 200 --out /tmp/micro-rn.safetensors
    """
    from neulig_fl.config.scenario import MICRO_MODELS
    from neulig_fl.core.errors import InputError, nearest, plain

    if model not in MICRO_MODELS:
        raise InputError(
            f"only the micro models are pre-trained here: {nearest(model, MICRO_MODELS)}"
        )
    import torch

    from neulig_fl.client.pretraining import Recipe
    from neulig_fl.core.files import sha256
    from neulig_fl.models.families._bundled import FOLDER

    target = out or FOLDER / f"{model}.safetensors"
    _require_writable(target)
    torch.set_num_threads(threads)
    recipe = Recipe(model, seed) if steps is None else Recipe(model, seed, steps)
    _train(recipe, target)
    digest = sha256(target)
    echo(f"{plain(target)}\nSHA-256 {digest}")


def _train(recipe: Recipe, target: Path) -> None:
    """Train with a progress bar; say what is kept when it is interrupted."""
    from neulig_fl.client.pretraining import pretrain as train
    from neulig_fl.core.live import Live

    task, last = f"pre-training {recipe.model}", 0
    with Live() as live:

        def on_step(step: int, loss: float) -> None:
            nonlocal last
            if not last and step > 1:
                live({"note": f"going on from step {step - 1}"})
            live({"task": task, "done": step, "total": recipe.steps})
            if step % NOTE_EVERY == 0 or step == recipe.steps:
                live({"note": f"step {step} of {recipe.steps}: loss {loss:.3f}"})
            last = step

        try:
            train(recipe, target, on_step, SAVE_EVERY)
        except KeyboardInterrupt as stop:
            kept = last // SAVE_EVERY * SAVE_EVERY
            stop.add_note(
                f"stopped after step {last} of {recipe.steps}; step {kept} is kept, and the same "
                "command goes on from there"
            )
            raise


def _require_writable(target: Path) -> None:
    """Hours of training must not end at a file that cannot be written.

    Raises:
        InputError: there is no such folder and none can be made, or it is not ours to write to.
    """
    from neulig_fl.core.errors import InputError

    if target.is_dir():
        raise InputError(f"--out {target}: is a folder; give the file to write")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {target}: its folder cannot be made ({error.strerror})") from error
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{target.parent}: is not writable; give another file with --out")
