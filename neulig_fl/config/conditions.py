"""Conditions under which policies and protections hold, in the same words wherever they are told.

README, the presets, docs/threat-model.md, `plan` and a report's notes have these sentences as they
stand here; a test compares them.
"""

from __future__ import annotations

from neulig_fl.config.policy_rules import Policy
from neulig_fl.config.scenario import Scenario
from neulig_fl.config.values import NOISELESS, SERVER, SUMS

CLIENT_CODE = (
    "Policies and protections are kept by neulig-fl's own client code, which arrives with the run: "
    "they hold against a server that asks and lies, not against one that brings other code."
)

ONE_USER = (
    "A simulation runs the server and all clients as one user: it shows what would leave a client, "
    "and keeps nobody apart."
)

FIRST_SERVER = (
    "Where no key of the server is pinned (trust: {server: KEY}), a client believes the first "
    "server that its store meets."
)

ONE_STORE = (
    "Budgets, leverage and epsilon count what left from one store: neulig-fl run makes each client "
    "a new one, unless --stores keeps them."
)

LEVERAGE = (
    "Leverage counts the sums that honest clients know of, and neither sizes nor likeness of "
    "vectors: a client whose vector is much larger than the others', or whose partners work with "
    "the server, is hidden less than it says."
)

ALL = (CLIENT_CODE, ONE_USER, FIRST_SERVER, ONE_STORE, LEVERAGE)


def of(scenario: Scenario) -> list[str]:
    """The conditions under which what a scenario promises holds.

    Args:
        scenario: without any policy or protection it promises nothing.

    Returns:
        Sentences of `ALL`, in their order.
    """
    used = {share.protection.name for stage in scenario.stages for share in stage.share} - {"none"}
    ruled = any(client.policy != Policy() for client in scenario.clients)
    if not used and not ruled:
        return []
    found = [CLIENT_CODE, ONE_USER]
    if SERVER not in scenario.trust:
        found.append(FIRST_SERVER)
    if ruled or used - set(NOISELESS) or used & SUMS:
        found.append(ONE_STORE)
    if used & SUMS:
        found.append(LEVERAGE)
    return found


def with_server(colluders: int) -> str:
    """How many clients may work together with the server in a secure sum, as a part of a sentence.

    Args:
        colluders: of the sum's terms.

    Example:
        >>> with_server(2).partition(" learn")[0]
        'up to 2 clients that work together with the server'
    """
    who = f"up to {colluders} clients that work together with the server learn no other"
    if colluders == 0:
        who = "as long as no client works together with the server, it learns no"
    elif colluders == 1:
        who = "a single client that works together with the server learns no other"
    return f"{who} client's record, beyond what the sums tell"
