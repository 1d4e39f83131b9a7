"""What policies allow: layers of rules, all of which a request has to pass.

Rules from several places hold at once: a preset and what stands beside it, the scenario's and a
node's own file. Each place is a layer. What cannot be read lets nothing pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from neulig_fl.config.policy_files import preset_path, read
from neulig_fl.config.policy_rules import AllowRule, Policy, is_policy_file
from neulig_fl.config.schema import Client
from neulig_fl.config.values import MODEL_KINDS
from neulig_fl.core.errors import NeuligError, ScenarioError
from neulig_fl.ledger.chain import Entry
from neulig_fl.records import budgets, kinds
from neulig_fl.records.budgets import Candidate

NODE = "this node's own policy"
_LOGGER = logging.getLogger(__name__)


class Asked(Protocol):
    """What a policy looks at in a request."""

    @property
    def kind(self) -> str:
        """Kind of record."""
        ...

    @property
    def queries(self) -> str | None:
        """The query set, if the kind answers any."""
        ...

    @property
    def fraction(self) -> float:
        """Share of the query set."""
        ...

    @property
    def protection(self) -> str:
        """What is done to the record."""
        ...


@dataclass(frozen=True)
class Layer:
    """The rules of one place.

    Args:
        name: what a refusal calls it; it goes to the server, so it holds no path.
        rules: what it says; None when it cannot be read, and then nothing passes.
    """

    name: str
    rules: Policy | None


def of_client(client: str, policy: Policy) -> tuple[Layer, ...]:
    """The layers of a client's policy in a scenario, whose paths are absolute."""
    return _layers(f"policy of client {client!r}", policy, Path())


def max_leverages(clients: Sequence[Client]) -> tuple[dict[str, float], list[str]]:
    """Each client's `max_leverage`, by its policy in a scenario whose paths are absolute.

    Returns:
        The limits by name; and who has a preset that cannot be read here, so that there may be a
        smaller one.
    """
    found: dict[Policy, tuple[float, bool]] = {}
    for client in clients:  # a thousand clients have few policies, and each is files
        if client.policy not in found:
            known = [each.rules for each in of_client(client.name, client.policy)]
            limits_ = [rules.budgets.max_leverage for rules in known if rules is not None]
            found[client.policy] = (min(limits_), None in known)
    told = {client.name: found[client.policy] for client in clients}
    unread = [name for name, (_, partly) in told.items() if partly]
    return {name: most for name, (most, _) in told.items()}, unread


def of_node(path: Path | None) -> tuple[Layer, ...]:
    """The layers of a node's own policy file; what cannot be read lets nothing pass.

    Args:
        path: absolute; None when the node has no policy of its own.
    """
    if path is None:
        return ()
    try:
        if not path.is_absolute():
            raise ScenarioError(f"{path}: a node's policy needs an absolute path")
        return _layers(NODE, read(path), path.parent)
    except (NeuligError, OSError, ValueError):
        _LOGGER.exception("%s cannot be read, so nothing is released", NODE)
        return (Layer(NODE, None),)


def _layers(name: str, policy: Policy, folder: Path) -> tuple[Layer, ...]:
    """A policy's own rules and those of its presets, which hold as well."""
    found: list[Layer] = [Layer(name, policy)]
    within: tuple[Path, ...] = ()
    while policy.preset is not None:
        path = preset_path(policy.preset, folder)
        label = "file" if is_policy_file(policy.preset) else policy.preset
        try:
            policy = read(path, within)
        except (NeuligError, OSError, ValueError):
            _LOGGER.exception("%s: its preset cannot be read, so nothing is released", name)
            return (*found, Layer(f"{name}, preset {label}", None))
        found.append(Layer(f"{name}, preset {label}", policy))
        folder, within = path.parent, (*within, path)
    return tuple(found)


def first_refusal(layers: Sequence[Layer], ask: Callable[[Policy], str | None]) -> str | None:
    """Why the first layer that refuses does so; what cannot be read refuses everything.

    Args:
        layers: the rules, which all hold.
        ask: why one layer's rules refuse; None when they do not.

    Returns:
        One line: the layer and its rule.
    """
    for layer in layers:
        if layer.rules is None:
            return f"{layer.name} cannot be read"
        reason = ask(layer.rules)
        if reason is not None:
            return f"{layer.name}: {reason}"
    return None


def denial(layers: Sequence[Layer], asked: Asked, now: datetime | None = None) -> str | None:
    """Why one of the layers does not allow a request; None when all of them do.

    Args:
        layers: the rules, which all hold.
        asked: the request.
        now: the time, with its zone; the clock's unless given.
    """
    moment = now or datetime.now(UTC)
    return first_refusal(
        layers, lambda rules: budgets.expired(rules.budgets, moment) or _forbidden(rules, asked)
    )


def time_over(layers: Sequence[Layer], now: datetime | None = None) -> str | None:
    """Why the time of one of the layers is over; None where it is not.

    Args:
        layers: the rules, which all hold.
        now: the time, with its zone; the clock's unless given.
    """
    moment = now or datetime.now(UTC)
    return first_refusal(layers, lambda rules: budgets.expired(rules.budgets, moment))


def over_limit(
    layers: Sequence[Layer], entries: Sequence[Entry], candidate: Candidate
) -> str | None:
    """Which limit of which layer a record would exceed; None when it is within all of them.

    Args:
        layers: the rules, which all hold.
        entries: the client's own ledger.
        candidate: the record.
    """
    return first_refusal(layers, lambda rules: budgets.exceeded(rules.budgets, entries, candidate))


def _forbidden(policy: Policy, asked: Asked) -> str | None:
    telling = asked.kind in kinds.those(lambda kind: kind.tells_model)
    same = dict.fromkeys((asked.kind, *MODEL_KINDS)) if telling else (asked.kind,)
    for kind in same:  # whoever keeps the parameters keeps what they follow from
        if kind in policy.never:
            return f"never {kind}"
    if policy.only is not None and asked.kind not in policy.only:
        return f"only {', '.join(policy.only) or 'nothing'}"
    return None if policy.allow is None else _not_allowed(policy.allow, asked)


def _not_allowed(rules: Sequence[AllowRule], asked: Asked) -> str | None:
    rules = [rule for rule in rules if rule.kind == asked.kind]
    if not rules:
        return f"does not allow {asked.kind}"
    rules = [rule for rule in rules if rule.queries is None or asked.queries in rule.queries]
    if not rules:
        return f"does not allow {asked.kind} on queries {asked.queries}"
    guards = dict.fromkeys(guard for rule in rules for guard in rule.protections or ())
    rules = [r for r in rules if r.protections is None or asked.protection in r.protections]
    if not rules:
        allowed = ", ".join(guards)
        return f"allows {asked.kind} with protection {allowed}, not {asked.protection}"
    most = max(rule.fraction for rule in rules)
    if not 0 < asked.fraction <= most:
        return f"allows a fraction of {most} of {asked.kind}, not {asked.fraction}"
    return None
