"""Protections: one file each. A record is treated once when it is made, and wrapped as it leaves.

A file defines `PROTECTION`, an instance of `Protection` or of a class below it, which says no more
than in what it differs: `Protection` itself leaves a record as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from neulig_fl.config.allowed import in_yaml
from neulig_fl.config.problems import Problem, problems_within, quoted
from neulig_fl.config.scenario import Scenario, Share
from neulig_fl.config.values import Section
from neulig_fl.config.yaml_source import Steps
from neulig_fl.core import variants
from neulig_fl.core.errors import InputError
from neulig_fl.records.kinds import Arrays

if TYPE_CHECKING:  # numpy and cryptography are slow to import, and `check` needs neither
    from neulig_fl.privacy.accountant import Charge
    from neulig_fl.privacy.keys import Identity
    from neulig_fl.privacy.sealing import Seen


@dataclass(frozen=True)
class Claims:
    """What its protection says of a release; None where it says nothing.

    Args:
        charge: what its noise costs; None where it has none.
        delta: the probability for which its noise's epsilon may not hold.
        leverage: the record's largest leverage in the sums that it goes into, in [0, 1].
        group_size: clients with equal weights that would hide one another as well, in the smallest
            of these sums.
        sums: of the expert's vectors that tell of one another, this record's among them.
    """

    charge: Charge | None = None
    delta: float | None = None
    leverage: float | None = None
    group_size: int | None = None
    sums: int | None = None


@dataclass(frozen=True)
class Case:
    """A record that a client is about to make.

    Args:
        kind: of record.
        rows: its rows; 1 for kinds that answer no queries.
        share: what the stage says of it.
        start: theta_0, which everybody knows; None where there is none.
    """

    kind: str
    rows: int
    share: Share
    start: Callable[[], Arrays] | None = None


@dataclass(frozen=True)
class Stated:
    """What a protection promises of a record.

    Args:
        claims: for limits.
        facts: what the ledger's entry says besides.
    """

    claims: Claims = field(default_factory=Claims)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """How a record gets to its recipient.

    Args:
        binding: what it is bound to (`sealing.binding`).
        recipient: the text of the recipient's X25519 key; None where it is not known.
    """

    binding: bytes
    recipient: str | None = None


NOTHING_STATED = Stated()

Placed = tuple[Steps, Share]
"""A share, and where it stands in the scenario."""


class NoOptions(Section):
    """The options of a protection that has none."""


OptionsT = TypeVar("OptionsT", bound=Section)


class Protection(Generic[OptionsT]):
    """What is done to a record before it leaves: nothing, as far as a class below says no more.

    Args:
        options: model of the options that a scenario can give, each with a description.

    Attributes:
        example: options that can be given, for error messages; empty where none are needed.
        elsewhere: where its settings stand that are no options, for error messages; empty where
            there are none.
        noised: whether it adds noise of its own to every record, so that the same queries in
            another fraction, or under other options, are another record.
    """

    example: Mapping[str, Any] = {}
    elsewhere = ""
    noised = False

    def __init__(self, options: type[OptionsT]) -> None:
        self.options = options

    @property
    def overhead(self) -> int:
        """Bytes by which what leaves is longer than the record."""
        return 0

    @property
    def needed(self) -> str:
        """The options that a scenario has to give, in words."""
        fields = self.options.model_fields
        return " and ".join(key for key, about in fields.items() if about.is_required())

    def fits(self, kind: str) -> bool:
        """Whether a record of a kind can have it at all.

        Args:
            kind: name of one.
        """
        return True

    def given(self, share: Share) -> OptionsT:
        """The options that a share gives.

        Raises:
            InputError: they are not those of this protection.
        """
        found = self.wrong_options(share)
        if found:
            told = "; ".join(each.text for each in found)
            raise InputError(
                f"protection {share.protection.name}: {told}",
                public_reason="the stage does not say in full what its protection is",
            )
        return self.options.model_validate(share.protection.options)

    def wrong_options(self, share: Share) -> list[Problem]:
        """What is wrong with the options that a share gives, placed from the share on."""
        name, options = share.protection.name, share.protection.options
        try:
            self.options.model_validate(options)
        except ValidationError as error:
            return list(self._in_words(name, options, error))
        return []

    def _in_words(
        self, name: str, options: Mapping[str, Any], error: ValidationError
    ) -> Iterator[Problem]:
        fields, steps = self.options.model_fields, ("protection", name)
        if not fields:
            what = f"{name} has no options (got {quoted(options)}); write protection: {name}"
            yield Problem(steps, f"{what}, and {self.elsewhere}" if self.elsewhere else what)
        elif not options:
            what = f"{name} needs {self.needed} (got no options)"
            yield Problem(steps[:1], f"{what}; such as {in_yaml({name: dict(self.example)})}")
        else:
            yield from problems_within(error, self.options.model_json_schema(), steps)

    def problems(self, scenario: Scenario, shares: Sequence[Placed]) -> Iterator[Problem]:
        """What is wrong with how a scenario uses it, but for single options.

        Args:
            scenario: valid field by field.
            shares: all of the scenario that ask for it, in order, and where they stand.
        """
        return iter(())

    def settings(self, share: Share, kind: str) -> dict[str, Any]:
        """What else decides about a record's bytes: under other settings it is another record.

        Raises:
            InputError: the share does not say enough, or is of a kind that it is not for.
        """
        return {}

    def delta(self, share: Share) -> float | None:
        """The probability with which its promise may not hold; None where it promises nothing."""
        return None

    def signed(self, share: Share, kind: str) -> dict[str, Any]:
        """Facts that an honest client's entry has, as far as they follow from the scenario.

        Raises:
            InputError: as `settings`.
        """
        return {}

    def stated(self, case: Case) -> Stated:
        """What it promises of a record, for limits and for the ledger; no data are touched."""
        return NOTHING_STATED

    def treated(self, arrays: Arrays, case: Case) -> Arrays:
        """The arrays as they are stored and then leave, every time the same."""
        return arrays

    def problem(self, way: Way) -> str | None:
        """Why nothing can leave on this way; None when it can."""
        return None

    def wrapped(self, payload: bytes, way: Way) -> bytes:
        """The bytes that leave, made anew each time."""
        return payload

    def opened(
        self,
        payload: bytes | memoryview,
        way: Way,
        key: Identity,
        seen: Seen,
    ) -> bytes | memoryview:
        """At the recipient, what `wrapped` was given.

        Raises:
            BadReply: it is not what `wrapped` made for this recipient and way.
        """
        return payload


def load(name: str) -> Protection[Any]:
    """The protection of a name.

    Raises:
        InputError: no file of that name is in the folder.

    Example:
        >>> load("none").overhead
        0
    """
    found: Protection[Any] = variants.load(__name__, name).PROTECTION
    return found
