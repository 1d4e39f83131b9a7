"""A server that asks what its plan says, and writes down the answers in the order they came."""

from __future__ import annotations

import json
import time
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from neulig_fl.core.errors import BadReply
from neulig_fl.records.transport import Ask
from neulig_fl.runtime.flower_messages import FlowerTransport
from neulig_fl.runtime.node_config import server_config

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Go through the plan's steps; fail at the end if it says so."""
    config = server_config(context)
    plan = json.loads(config.scenario.read_text(encoding="utf-8"))
    parties = FlowerTransport(grid, plan["clients"], 600.0, print)
    steps, first = [], 0.0
    for step in plan["steps"]:
        begun = time.monotonic()
        steps.append(_step(parties, step, first))
        first = first or time.monotonic() - begun
    if plan.get("fail") == "own error":
        record = {"type": "BadReply", "message": "north sent NaN", "exit_code": 1}
        (config.out / "error.json").write_text(json.dumps(record), encoding="utf-8")
        raise BadReply("north sent NaN")
    if plan.get("fail"):
        raise ValueError(plan["fail"])
    (config.out / "outcome.json").write_text(json.dumps(steps), encoding="utf-8")


def _step(parties: FlowerTransport, step: dict[str, Any], first: float) -> list[dict[str, Any]]:
    """Ask every client of one step: `{"timeout": s, "ask": {client: what to do}}`.

    With `times_the_first` in the place of `timeout`, it is so many times what the first step took,
    in which every client answered: a machine under load gets the time that it needs.
    """
    timeout = step["timeout"] if "timeout" in step else max(3.0, step["times_the_first"] * first)
    asks = [Ask(name, "release", {"do": do}, b"abc") for name, do in step["ask"].items()]
    return [
        {
            "client": answer.client,
            "status": answer.status,
            "reason": answer.reason,
            "body": answer.body,
            "payload": bytes(answer.payload).decode(),
        }
        for answer in parties.ask(asks, timeout)
    ]
