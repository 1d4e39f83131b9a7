"""The Flower ClientApp: a shell around `neulig_fl.client.handler`.

Every message may reach a new process, so nothing is kept here: what must last is in the client's
own store. The handlers are at module level because Ray keeps a module's state only for those.
"""

from __future__ import annotations

from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from neulig_fl.client.handler import ClientHandler
from neulig_fl.config.scenario import Scenario, load_resolved
from neulig_fl.core.errors import InputError
from neulig_fl.runtime.flower_messages import answer_message, at_client
from neulig_fl.runtime.node_config import ClientConfig, client_config

app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say which client this is."""
    return answer_message(message, context, _respond)


@app.train("prepare")
def prepare(message: Message, context: Context) -> Message:
    """Train or load this client's expert."""
    return answer_message(message, context, _respond)


@app.query("release")
def release(message: Message, context: Context) -> Message:
    """Release a record, if the gate lets it out."""
    return answer_message(message, context, _respond)


@app.query("sum")
def secure_aggregation(message: Message, context: Context) -> Message:
    """Take one step of a secure sum, if the gate allows it."""
    return answer_message(message, context, _respond)


@app.query("close")
def close(message: Message, context: Context) -> Message:
    """Say how far this client's ledger goes at the end of a run."""
    return answer_message(message, context, _respond)


def _respond(
    context: Context, action: str, body: dict[str, Any], payload: memoryview
) -> tuple[dict[str, Any], bytes]:
    config = client_config(context)
    scenario = load_resolved(config.scenario)
    torch.set_num_threads(scenario.resources.client_cpus)
    name = _name(scenario, config)
    known = (config.keys, config.policy, config.server, config.reference, config.address_book)
    handler = ClientHandler(
        scenario, scenario.seed, name, config.store(name), *known, str(context.run_id)
    )
    try:
        return handler.answer(action, body, payload)
    except Exception as error:
        error.add_note(at_client(name))  # for the log; the reply holds no text of an error
        raise


def _name(scenario: Scenario, config: ClientConfig) -> str:
    names = [client.name for client in scenario.clients]
    if config.partition >= len(names):
        reason = f"this is node {config.partition}, but the scenario has {len(names)} clients"
        raise InputError(reason, public_reason=reason)
    return names[config.partition]
