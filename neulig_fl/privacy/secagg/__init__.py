"""Secure sums: the server learns the sum of the clients' vectors and no single one.

The protocol of Bonawitz et al. 2017: `client` and `server` hold its two sides, `terms` what both
agree on. Nothing here knows Flower, a scenario or a policy: messages are bytes that others carry.
"""

from __future__ import annotations

from neulig_fl.privacy.secagg.client import advertise, confirm, mask, reveal, share
from neulig_fl.privacy.secagg.fixed_point import FixedPoint, quantisation
from neulig_fl.privacy.secagg.messages import Sign, Verify
from neulig_fl.privacy.secagg.server import Phase, Server
from neulig_fl.privacy.secagg.state import ClientState, Step
from neulig_fl.privacy.secagg.terms import Terms, colluders, default_threshold

__all__ = [
    "ClientState", "FixedPoint", "Phase", "Server", "Sign", "Step", "Terms", "Verify",
    "advertise", "colluders", "confirm", "default_threshold", "mask", "quantisation", "reveal",
    "share",
]  # fmt: skip
