"""An expert's account: what its noise has cost over everything in its client's ledger.

The client signs it with every entry under which bytes leave. It counts all that left of the expert,
in earlier runs and to other servers too: each release with fresh noise once, however often it is
sent again, and what left without noise by its kind. The server knows its own run alone; it holds
the account against that, and reports what was signed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neulig_fl.ledger import chain
from neulig_fl.ledger.chain import Entry, Fault
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge, Spent

LEFT = (chain.RELEASE, chain.REPEAT)
"""Events of entries under which bytes leave."""

MOST_RUNS = 20
"""Earlier runs that an account names, the latest; it counts them all."""

_MOST_COUNT = 10**9
_CLOSE = 1e-6
"""Share by which epsilon may differ between two machines' arithmetic."""

Account = Mapping[str, Any]
"""`epsilon` (`inf` where something had no noise) at `delta`, `adjacency`; `noise`: pairs of a noise
multiplier and how many releases had it; `unprotected`: kinds; `runs` and `earlier_runs`: ids of the
latest earlier runs, and how many there were."""


def charges(entries: Iterable[Entry]) -> list[Charge]:
    """What entries of a ledger cost; one without noise has no finite epsilon."""
    return [Charge(str(entry["kind"]), entry.get("noise_multiplier")) for entry in entries]


def charged(accounts: Iterable[Account]) -> list[Charge]:
    """What accounts of several experts cost together."""
    found = []
    for account in accounts:
        found += [Charge("noise", multiplier, count) for multiplier, count in account["noise"]]
        found += [Charge(kind, None) for kind in account["unprotected"]]
    return found


def json_number(epsilon: float) -> float | str:
    """Epsilon as JSON can say it.

    Example:
        >>> json_number(2.0), json_number(math.inf)
        (2.0, 'inf')
    """
    return epsilon if math.isfinite(epsilon) else "inf"


def account(entries: Sequence[Entry], entry: Entry) -> dict[str, Any] | None:
    """The account that goes with a client's next entry.

    Args:
        entries: all that the client's ledger holds before it.
        entry: what it says; it names its expert. An entry that names none counts for every one.

    Returns:
        The account; None where nothing of the expert was ever noised, so that nothing is claimed.

    Example:
        >>> noised = {"event": "release", "expert": "e", "kind": "features", "run": "r",
        ...           "noise_multiplier": 2.0, "delta": 1e-5, "adjacency": "one model"}
        >>> bare = {"event": "release", "expert": "e", "kind": "offset-sum", "run": "q"}
        >>> found = account([bare], noised)
        >>> found["epsilon"], found["noise"], found["unprotected"], found["runs"]
        ('inf', [[2.0, 1]], ['offset-sum'], ['q'])
        >>> account([], bare) is None
        True
    """
    expert = entry.get("expert")
    mine = [e for e in (*entries, entry) if e.get("event") == chain.RELEASE and _of(e, expert)]
    noised = [e for e in mine if e.get("noise_multiplier") is not None]
    if not noised:
        return None
    last = entry if entry.get("noise_multiplier") is not None else noised[-1]
    counts = Counter(float(e["noise_multiplier"]) for e in noised)
    bare = dict.fromkeys(str(e["kind"]) for e in mine if e.get("noise_multiplier") is None)
    runs = dict.fromkeys(str(e.get("run")) for e in mine if e.get("run") != entry.get("run"))
    found = {
        "delta": last.get("delta"),
        "adjacency": last.get("adjacency"),
        "noise": [[multiplier, counts[multiplier]] for multiplier in sorted(counts)],
        "unprotected": list(bare),
        "runs": list(runs)[-MOST_RUNS:],
        "earlier_runs": len(runs),
    }
    return {"epsilon": json_number(_spent(found).epsilon), **found}


def _of(entry: Entry, expert: object) -> bool:
    return entry.get("expert") in (expert, None)


def _spent(account: Account) -> Spent:
    return accountant.spent(charged([account]), float(account["delta"]))


def problem(entry: Entry, earlier: Sequence[Entry]) -> str | None:
    """What is wrong with a received entry's account; None when it can be true.

    Args:
        entry: signed by its client.
        earlier: of the same client, received before in this run.

    Returns:
        The rest of a sentence that begins with the entry.
    """
    found, expert = entry.get("account"), entry.get("expert")
    mine = [e for e in (*earlier, entry) if e.get("expert") == expert]
    noised = [e for e in mine if e.get("noise_multiplier") is not None]
    before = next((e["account"] for e in reversed(mine[:-1]) if e.get("account")), None)
    if found is None:
        return "has no account of the noise that left" if noised or before else None
    if not _is_account(found):
        return "has an account that is none"
    source = entry if entry.get("noise_multiplier") is not None else before
    stated = ("delta", "adjacency")
    if source is not None and [found[k] for k in stated] != [source.get(k) for k in stated]:
        return "accounts at another delta or adjacency than its noise has"
    fresh = Counter(e["noise_multiplier"] for e in noised if e["event"] == chain.RELEASE)
    told = dict(before["noise"]) if before else {}
    floors = (dict(fresh), {e["noise_multiplier"]: 1 for e in noised}, told)
    counts = dict(found["noise"])
    if any(counts.get(each, 0) < least for floor in floors for each, least in floor.items()):
        return "accounts for less noise than has been released"
    bare = dict.fromkeys(e["kind"] for e in mine if e.get("noise_multiplier") is None)
    bare |= dict.fromkeys(before["unprotected"] if before else ())
    lacking = [kind for kind in bare if kind not in found["unprotected"]]
    if lacking:
        return f"does not account for {lacking[0]}, which left without noise"
    epsilon = json_number(_spent(found).epsilon)
    if not same_epsilon(found["epsilon"], epsilon):
        return f"claims an epsilon of {found['epsilon']} for what comes to {epsilon}"
    return None


def same_epsilon(one: object, other: float | str) -> bool:
    """Whether two epsilons are one but for the rounding of two machines.

    Args:
        one: as a client says it.
        other: as it was calculated, by `json_number`.

    Example:
        >>> same_epsilon(2.0, 2.0000001), same_epsilon("inf", "inf"), same_epsilon(1.0, "inf")
        (True, True, False)
    """
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return isinstance(one, float | int) and math.isclose(one, other, rel_tol=_CLOSE, abs_tol=1e-12)


def _is_account(said: object) -> bool:
    """Whether this has an account's form, whoever sent it."""
    if not isinstance(said, dict) or set(said) != {
        "epsilon", "delta", "adjacency", "noise", "unprotected", "runs", "earlier_runs"
    }:  # fmt: skip
        return False
    delta, noise, epsilon = said["delta"], said["noise"], said["epsilon"]
    names = (said["unprotected"], said["runs"])
    return (
        isinstance(delta, float)
        and 0.0 < delta < 1.0
        and isinstance(said["adjacency"], str)
        and (epsilon == "inf" or (type(epsilon) in (int, float) and epsilon >= 0))
        and all(isinstance(each, list) and all(isinstance(n, str) for n in each) for each in names)
        and type(said["earlier_runs"]) is int
        and len(said["runs"]) <= said["earlier_runs"] <= _MOST_COUNT
        and isinstance(noise, list)
        and len(noise) > 0
        and all(_is_pair(pair) for pair in noise)
        and len({pair[0] for pair in noise}) == len(noise)
    )


def _is_pair(said: object) -> bool:
    if not isinstance(said, list) or len(said) != 2 or type(said[0]) is not float:
        return False
    least, most = accountant.MULTIPLIERS
    return least <= said[0] <= most and type(said[1]) is int and 1 <= said[1] <= _MOST_COUNT


def fault(own: Sequence[Entry]) -> Fault | None:
    """The first entry of a client's own ledger whose account is not that of the ledger."""
    before: list[Entry] = []
    for index, entry in enumerate(own):
        if entry.get("event") in LEFT and not _agree(account(before, entry), entry.get("account")):
            return Fault(index, "has an account that is not what the ledger comes to")
        before += [entry] if entry.get("event") == chain.RELEASE else []
    return None


def _agree(wanted: Account | None, found: object) -> bool:
    if wanted is None or not isinstance(found, dict) or not _is_account(found):
        return wanted is None and found is None
    rest = [{k: v for k, v in each.items() if k != "epsilon"} for each in (wanted, found)]
    return rest[0] == rest[1] and same_epsilon(found["epsilon"], wanted["epsilon"])
