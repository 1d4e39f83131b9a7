"""What the server restores from shares: the masks that are left on the sum."""

from __future__ import annotations

from collections.abc import Mapping

from neulig_fl.core.errors import BadReply
from neulig_fl.privacy.secagg import shares
from neulig_fl.privacy.secagg.masks import Mask
from neulig_fl.privacy.secagg.messages import Roster
from neulig_fl.privacy.secagg.terms import Terms
from neulig_fl.privacy.secagg.unmasking import Outcome, Reveal


def masks_left(
    terms: Terms,
    roster: Roster,
    outcome: Outcome,
    checks: Mapping[str, bytes],
    reveals: Mapping[str, Reveal],
) -> list[Mask]:
    """The masks whose adding takes off what survivors' vectors still carry.

    Of a survivor that is its self-mask; of a dropped client, the mask between it and each survivor.

    Args:
        terms: of the sum.
        roster: everyone's keys.
        outcome: survivors and dropped.
        checks: of each client's self seed.
        reveals: of as many survivors as the threshold, by name.

    Raises:
        BadReply: shares that do not fit the client's key or check.
    """
    places = {name: place for place, name in enumerate(roster.clients, 1)}
    parts: dict[str, dict[int, bytes]] = {}
    for keeper, reveal in reveals.items():
        for name, _, share in reveal.shares:
            parts.setdefault(name, {})[places[keeper]] = share
    found = []
    for name in outcome.survivors:
        seed = shares.combine(parts[name])
        if shares.self_check(seed, terms.digest) != checks[name]:
            raise _wrong_shares(name)
        found.append(Mask(shares.self_mask(seed, terms.digest), -1))
    for name in outcome.dropped:
        private = shares.mask_key(shares.combine(parts[name]), terms.digest)
        if shares.public_key(private) != roster[name].mask_key:
            raise _wrong_shares(name)
        found += _of_dropped(terms, roster, outcome, name, private)
    return found


def _of_dropped(
    terms: Terms, roster: Roster, outcome: Outcome, dropped: str, private: bytes
) -> list[Mask]:
    """The dropped client's side of each mask: added now, it cancels the survivor's side."""
    bound = roster.digest(terms.digest)
    found = []
    for other in outcome.survivors:
        key = shares.pair_mask(private, roster[other].mask_key, terms.digest, bound)
        found.append(Mask(key, 1 if dropped < other else -1))
    return found


def _wrong_shares(name: str) -> BadReply:
    problem = f"the shares of {name} do not restore its seed"
    return BadReply(
        f"secure sum: {problem}: {name} shared something else, or a share was changed; nothing of "
        "the sum is used; begin a new round",
        public_reason=problem,
    )
