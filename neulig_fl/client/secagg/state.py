"""What a client keeps of the one secure sum that it takes part in. It holds secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neulig_fl.core import strict_json
from neulig_fl.core.errors import InputError, RunError
from neulig_fl.ledger.chain import canonical
from neulig_fl.privacy.keys import PublicIdentity
from neulig_fl.privacy.secagg import ClientState
from neulig_fl.records.secagg.peers import column
from neulig_fl.records.secagg.requests import SumRequest

_LENGTH_BYTES = 4


@dataclass(frozen=True)
class SumInProgress:
    """One sum, between two messages.

    Args:
        run: the run's id.
        asked: what is summed, as the first message said it.
        state: the protocol's.
        identities: the long-term keys of all who are invited, as the first message said them.
        images: the name of each task's set of images.
        experts: tags of the experts whose vectors the clients put in, by client; of all others once
            they have said it.
        last: the digest of the last request that was answered (`asked`) and the `reply`, for a
            server that is resumed and asks the same again; none of a masked vector, which is not
            charged yet when this is kept.
    """

    run: str
    asked: SumRequest
    state: ClientState = field(repr=False)
    identities: Mapping[str, Any] = field(default_factory=dict, repr=False)
    images: Mapping[str, str] = field(default_factory=dict)
    experts: Mapping[str, str] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def columns(self) -> dict[str, str]:
        """What each client is called in histories."""
        return {n: column(PublicIdentity.read(said)) for n, said in self.identities.items()}

    def to_bytes(self) -> bytes:
        """For a file that nobody else can read."""
        said = {
            "run": self.run, "asked": self.asked.to_body(), "identities": self.identities,
            "images": self.images, "experts": self.experts, "last": self.last,
        }  # fmt: skip
        text = canonical(said).encode()
        return len(text).to_bytes(_LENGTH_BYTES, "big") + text + self.state.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> SumInProgress:
        """What `to_bytes` gave.

        Raises:
            RunError: it is not that. The message shows none of it.
        """
        end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
        try:
            said = strict_json.parsed(data[_LENGTH_BYTES:end])
            asked = SumRequest.from_body(said["asked"])
            names = ("identities", "images", "experts", "last")
            run, more = said["run"], [said[name] for name in names]
        except (ValueError, KeyError, TypeError, InputError):
            problem = "its stored state of a secure sum is damaged"
            raise RunError(
                f"secure sum: {problem}; leave the file aside and begin a new round",
                public_reason=problem,
            ) from None
        return cls(run, asked, ClientState.from_bytes(data[end:]), *more)
