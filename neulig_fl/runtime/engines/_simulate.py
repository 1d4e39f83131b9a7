"""What stands in for `flwr-simulation` in a run of ours: actors start again, and Ray is closed.

In Flower 1.41 the process of a client that died (out of memory, say) stays among those that get
messages, and every client that is sent to it is lost as well. Ray restarts an actor if it was
declared so. Then the client that died is asked once more, and is missing if it dies again; nobody
else is.

Ray takes tasks from whoever reaches it. A run's environment makes it ask for a token and listen on
loopback; where that had no effect, the run ends here, before the first client starts.
"""

from __future__ import annotations

import sys
from typing import Any

import psutil
import ray
from flwr.server.superlink.fleet.vce.backend import raybackend
from flwr.simulation.ray_transport import ray_actor
from ray._private import utils as ray_utils
from ray._private.authentication.authentication_utils import is_token_auth_enabled

from neulig_fl.core.errors import EngineError
from neulig_fl.runtime.engines._command import SIMULATION, fresh_signals, load
from neulig_fl.runtime.engines._processes import open_to_others


class RestartedActor(ray_actor.VirtualClientEngineActor):
    """Flower's client actor; takes the one argument that Flower may give."""

    def __init__(self, on_actor_init_fn: Any = None) -> None:
        super().__init__()
        if on_actor_init_fn is not None:
            on_actor_init_fn()


class ClosedRay(raybackend.RayBackend):
    """Flower's backend, which goes no further with a Ray that others can use."""

    def init_ray(self, backend_config: Any) -> None:
        """Start Ray.

        Raises:
            EngineError: it asks for no token, or listens where other machines reach it.
        """
        super().init_ray(backend_config)
        refuse_an_open_ray()


def refuse_an_open_ray() -> None:
    """Look whether the Ray that this process started is closed to others.

    Raises:
        EngineError: it asks for no token, or listens where other machines reach it.
    """
    this = psutil.Process()
    opened = open_to_others([this, *this.children(recursive=True)])
    if opened or not is_token_auth_enabled():
        what = f"listens on {', '.join(opened)}" if opened else "asks nobody for a token"
        raise EngineError(
            f"Ray {ray.__version__} {what}, so that others could run code here; "
            "install the Ray that flwr[simulation] asks for, or choose --engine local"
        )


def main() -> None:
    """Run Flower's simulation process with restarted actors and a closed Ray."""
    restarted = ray.remote(max_restarts=-1, max_task_retries=1)(RestartedActor)
    raybackend.ClientAppActor = restarted  # type: ignore[attr-defined, assignment]  # Ray's type
    raybackend.RayBackend = ClosedRay  # type: ignore[misc]  # looked up when a run begins
    # Where `ray[default]` is installed, the dashboard's agent would start servers of its own.
    ray_utils.get_dashboard_dependency_error = lambda: ImportError("no dashboard in a run")
    sys.argv[0] = SIMULATION  # Flower tells its own commands apart by this.
    fresh_signals()
    load(SIMULATION)()


if __name__ == "__main__":
    main()
