"""Clients that do what the request's body says: answer, wait, refuse, raise, hang, die or be mute."""

from __future__ import annotations

import os
import time
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from neulig_fl.core.errors import ClientRefused
from neulig_fl.runtime.flower_messages import answer_message, decode
from neulig_fl.runtime.node_config import client_config

app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say who this is."""
    return answer_message(message, context, respond)


@app.train("prepare")
@app.query("release")
def release(message: Message, context: Context) -> Message | None:
    """Answer, or return nothing."""
    if decode(message.content)[0].get("do") == "nothing":
        return None
    return answer_message(message, context, respond)


def respond(
    context: Context, action: str, body: dict[str, Any], payload: memoryview
) -> tuple[dict[str, Any], bytes]:
    """Do what the body says."""
    config = client_config(context)
    me = f"c{config.partition}"
    match body.get("do"):
        case "wait":
            config.scenario.with_name("waits").touch()
            while not config.scenario.with_name("go").exists():
                time.sleep(0.05)
        case "die":
            os._exit(1)
        case "hang":
            time.sleep(3600)
        case "refuse":
            raise ClientRefused("the rule is in /secret/rules", public_reason="not that")
        case "raise":
            raise TypeError("/secret/path")
    return {"client": me, "action": action, "do": body.get("do")}, bytes(payload)[::-1]
