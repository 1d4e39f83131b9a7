"""A server that asks what its plan says, and writes down the answers in the order they came."""

from __future__ import annotations

import json
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from neulig_fl.errors import BadReply
from neulig_fl.flower_io import FlowerParties, server_config
from neulig_fl.parties import Ask

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Go through the plan's steps; fail at the end if it says so."""
    config = server_config(context)
    plan = json.loads(config.scenario.read_text(encoding="utf-8"))
    parties = FlowerParties(grid, plan["clients"], 60.0, print)
    steps = [_step(parties, step) for step in plan["steps"]]
    if plan.get("fail") == "own error":
        record = {"type": "BadReply", "message": "north sent NaN", "exit_code": 1}
        (config.out / "error.json").write_text(json.dumps(record), encoding="utf-8")
        raise BadReply("north sent NaN")
    if plan.get("fail"):
        raise ValueError(plan["fail"])
    (config.out / "outcome.json").write_text(json.dumps(steps), encoding="utf-8")


def _step(parties: FlowerParties, step: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask every client of one step: `{"timeout": s, "ask": {client: what to do}}`."""
    asks = [Ask(name, "release", {"do": do}, b"abc") for name, do in step["ask"].items()]
    return [
        {
            "client": answer.client,
            "status": answer.status,
            "reason": answer.reason,
            "body": answer.body,
            "payload": bytes(answer.payload).decode(),
        }
        for answer in parties.ask(asks, step["timeout"])
    ]
