"""Whether pre-training ever shows an image of a built-in task: every step's against every image.

    python benchmarks/pretraining_images.py
    python benchmarks/pretraining_images.py --minutes 3

Draws every batch of the bundled models' pre-training again (a quarter of an hour on one core) and
compares hashes of pixels with those of all images of the built-in tasks. What was drawn is kept, so
the same command goes on where it was stopped, and compares what there is so far. Writes
benchmarks/results/pretraining-images.json, of which docs/models.md has the figures; progress goes
to the standard error.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reproduction.data import laid_out

from neulig_fl.cli import exits
from neulig_fl.client.pretraining import Recipe, draw_batch
from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core import variants
from neulig_fl.core.errors import DataError, NeuligError
from neulig_fl.core.files import replace_atomically, write_atomically
from neulig_fl.core.live import Live
from neulig_fl.core.run_folders import RUNS
from neulig_fl.data.synthetic import SIZE

FILE = Path(__file__).with_name("results") / "pretraining-images.json"
TASKS = ("clutter", "digits", "fashion", "glyphs", "mnist5k", "shapes", "signs", "textures")
SAVE_EVERY = 100
Hashes = NDArray[np.uint64]


def hashes(images: NDArray[np.uint8]) -> Hashes:
    """64 bits of each image's pixels: uint8 (n, 3, size, size) to uint64 (n,)."""
    digests = b"".join(hashlib.blake2b(each.tobytes(), digest_size=8).digest() for each in images)
    return np.frombuffer(digests, dtype=np.uint64)


def of_task(name: str) -> Hashes | None:
    """Hashes of all images of a built-in task; None where its files are not on this machine."""
    source = variants.load("neulig_fl.data.sources", name).source(TaskOptions(source=name))
    try:
        return hashes(source.pixels(np.arange(len(source.ids())), SIZE))
    except DataError:
        return None


def drawn(recipe: Recipe, state: Path, until: float, live: Live) -> Hashes:
    """Hashes of a pre-training's images, its last batch (the scaling's) included.

    Args:
        recipe: of the pre-training; the images do not depend on the model.
        state: file that keeps what was drawn before.
        until: the moment, by `time.monotonic`, at which to stop.
        live: shows progress.

    Returns:
        uint64 of shape (batches, batch), step by step; fewer than steps + 1 where time was short.
    """
    batches = [*np.load(state)] if state.is_file() else []
    wanted = recipe.steps + 1
    while len(batches) < wanted:
        batches.append(hashes(draw_batch(recipe, len(batches))[0]))
        live({"task": "steps", "done": len(batches), "total": wanted})
        late = time.monotonic() > until
        if late or len(batches) % SAVE_EVERY == 0 or len(batches) == wanted:
            _keep(np.stack(batches), state)
        if late:
            break
    return np.stack(batches)


def _keep(batches: Hashes, state: Path) -> None:
    state.parent.mkdir(parents=True, exist_ok=True)

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, batches)

    replace_atomically(state, save)


def compared(recipe: Recipe, shown: Hashes, tasks: Sequence[str]) -> dict[str, Any]:
    """What is written: counts of images, of different ones, and of those that both sides have."""
    found = {}
    for name in tasks:
        of = of_task(name)
        found[name] = (
            {"images": None, "also_shown": None}
            if of is None
            else {"images": len(of), "also_shown": int(np.isin(of, shown).sum())}
        )
    return {
        "schema_version": 1,
        "seed": recipe.seed,
        "batches": recipe.steps + 1,
        "batches_drawn": len(shown),
        "batch": shown.shape[1],
        "different_images": len(np.unique(shown)),
        "tasks": found,
    }


def asked_for(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the pre-training; the bundled models have 0")
    add("--steps", type=int, default=Recipe("micro-vit").steps, help="of the pre-training")
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="whose images")
    add("--minutes", type=float, default=float("inf"), help="stop after so many, and keep")
    add("--state", type=Path, default=RUNS / "pretraining-images", help="folder of what is kept")
    add("--out", type=Path, default=FILE, help="the file to write")
    return parser.parse_args(arguments)


def main(asked: argparse.Namespace) -> None:
    """Draw what is missing, as long as there is time, compare, and write."""
    recipe = Recipe("micro-vit", seed=asked.seed, steps=asked.steps)
    until = time.monotonic() + 60 * asked.minutes
    with Live() as live:
        shown = drawn(recipe, asked.state / f"{recipe.key}.npy", until, live)
    found = laid_out(compared(recipe, shown, asked.tasks)) + "\n"
    write_atomically(asked.out, found)
    sys.stdout.write(found)


if __name__ == "__main__":
    try:
        main(asked_for())
    except NeuligError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        exits.say("interrupted; what was drawn is kept, and the same command goes on")
        sys.exit(exits.INTERRUPTED)
