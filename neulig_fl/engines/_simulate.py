"""What stands in for `flwr-simulation` in a run of ours: the same, with actors that start again.

In Flower 1.41 the process of a client that died (out of memory, say) stays among those that get
messages, and every client that is sent to it is lost as well. Ray restarts an actor if it was
declared so. Then the client that died is asked once more, and is missing if it dies again; nobody
else is.
"""

from __future__ import annotations

import sys
from typing import Any

import ray
from flwr.simulation.ray_transport import ray_actor

from neulig_fl.engines._command import SIMULATION, fresh_signals, load


class RestartedActor(ray_actor.VirtualClientEngineActor):
    """Flower's client actor; takes the one argument that Flower may give."""

    def __init__(self, on_actor_init_fn: Any = None) -> None:
        super().__init__()
        if on_actor_init_fn is not None:
            on_actor_init_fn()


def main() -> None:
    """Run Flower's simulation process with restarted actors."""
    restarted = ray.remote(max_restarts=-1, max_task_retries=1)(RestartedActor)
    ray_actor.ClientAppActor = restarted  # type: ignore[misc, assignment]  # Ray's own class type
    sys.argv[0] = SIMULATION  # Flower tells its own commands apart by this.
    fresh_signals()
    load(SIMULATION)()


if __name__ == "__main__":
    main()
