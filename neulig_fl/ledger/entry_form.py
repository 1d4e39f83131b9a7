"""What an entry of a ledger may say, event by event: its keys, their types and their ranges.

A client writes its own entries, so each may hold anything that JSON can. The server asks here
before it believes one, and `verify` before it counts with one: what the one takes the other takes.
Whether an entry says what was asked for and what came is asked elsewhere (`receipts`), and whether
its account can be true in `expert_account`. A protection may state facts of its own, each a text, a
number, true, false or null.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neulig_fl.config.values import NOISELESS, SUMS, Digest, NotNegative, Number, PublicKey, Whole
from neulig_fl.core.errors import InputError
from neulig_fl.ledger import chain
from neulig_fl.ledger.chain import Entry, shown
from neulig_fl.ledger.expert_account import json_number, same_epsilon
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge

_LATEST = 253_402_300_799
_MOST = 2**53
_LEAST_NOISE, _MOST_NOISE = accountant.MULTIPLIERS
_TELLS_NOISE = ("epsilon", "delta", "adjacency")
_TELLS_SUM = ("round", "sums", "who", "leverage", "group_size")

_FACT = "a text, a finite number, true, false or null"
Fact = Annotated[str | Whole | Number | bool | None, Field(union_mode="left_to_right")]
Text = Annotated[str, Field(min_length=1, description="a text that is not empty")]
Tag = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="32 hexadecimal digits")]
Amount = Annotated[Whole, Field(ge=0, le=_MOST, description=f"a whole number from 0 to {_MOST}")]
Sha256 = Annotated[Digest, Field(description="64 hexadecimal digits")]
TextOrNull = Annotated[Text | None, Field(description="a text that is not empty, or null")]
TagOrNull = Annotated[Tag | None, Field(description="32 hexadecimal digits, or null")]
AmountOrNull = Annotated[
    Amount | None, Field(description=f"a whole number from 0 to {_MOST}, or null")
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Row(_Part):
    """One sum that a vector goes into."""

    of: Text
    weights: dict[str, Number]


class _Written(_Part):
    """What every entry says: whose it is, when and in which run it was made, and of what."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Fact] = Field(init=False)

    index: Amount
    previous: Sha256
    hash: Sha256
    key: PublicKey = Field(description="an Ed25519 public key")
    signature: Text
    time: NotNegative = Field(
        le=_LATEST, description=f"seconds since 1970, a number from 0 to {_LATEST}"
    )
    client: Text
    run: TextOrNull


class _Refusal(_Written):
    """A request that was refused; of one that nobody understood, nothing is known."""

    event: Literal["refusal"]
    reason: str = Field(description="a text")
    expert: TagOrNull = None
    data: TagOrNull = None


class _Outcome(_Written):
    """Who survived a secure sum."""

    event: Literal["outcome"]
    round: Text
    survivors: list[str] = Field(description="a list of names")


class _Release(_Written):
    """A record that left, now or before."""

    event: Literal["release", "repeat"]
    repeats: AmountOrNull = None
    stage: Text
    group: Text
    kind: Text
    queries: TextOrNull
    protection: Text
    fraction: Number = Field(
        gt=0, le=1, description="a number above 0 and at most 1, the share of the record"
    )
    rows: Amount
    bytes: Amount
    sha256: Sha256
    expert: Tag
    data: Tag
    account: dict[str, Any] | None = Field(description="an account, or null")
    fingerprint: TagOrNull = None
    content: TagOrNull = None
    epsilon: Annotated[
        NotNegative | Literal["inf"] | None, Field(description="a number from 0, 'inf' or null")
    ]
    delta: Number | None = Field(
        None, gt=0, lt=1, description="a number above 0 and below 1, or null"
    )
    adjacency: TextOrNull = None
    noise_multiplier: Number | None = Field(
        None,
        ge=_LEAST_NOISE,
        le=_MOST_NOISE,
        description=f"a number from {_LEAST_NOISE:g} to {_MOST_NOISE:g}, or null",
    )
    images: list[Text] | None = Field(
        None, min_length=1, description="a list of names of sets of images, or null"
    )
    round: TextOrNull = None
    sums: list[_Row] | None = Field(
        None, min_length=1, description="a list of sums, each with `of` and finite `weights`"
    )
    who: dict[str, str] | None = Field(None, description="columns by name")
    leverage: Number | None = Field(None, ge=0, le=1, description="a number from 0 to 1")
    group_size: AmountOrNull = None


_FORMS: dict[str, type[_Written]] = {
    chain.RELEASE: _Release,
    chain.REPEAT: _Release,
    chain.REFUSAL: _Refusal,
    chain.OUTCOME: _Outcome,
}


def problem(entry: Entry) -> str | None:
    """What is wrong with what an entry says, whatever was asked; None when nothing is.

    Args:
        entry: of a ledger of which the signatures hold, as JSON has it.

    Returns:
        The rest of a sentence that begins with the entry.

    Example:
        >>> problem({"event": "gift"})
        "says event 'gift'; allowed: release, repeat, refusal, outcome"
    """
    event = entry.get("event")
    form = _FORMS.get(event) if isinstance(event, str) else None
    if form is None:
        return f"says event {shown(event)}; allowed: {', '.join(_FORMS)}"
    try:
        form.model_validate(entry)
    except ValidationError as error:
        return _in_words(form, entry, str(error.errors(include_url=False)[0]["loc"][0]))
    return _of_release(entry) if form is _Release else None


def _in_words(form: type[_Written], entry: Entry, key: str) -> str:
    """The first key that is not what it may be; of one that nobody knows, what all such may be."""
    about = form.model_fields.get(key)
    said = f"says {key[:60]} {shown(entry[key])}" if key in entry else f"says no {key[:60]}"
    return f"{said}; allowed: {_FACT if about is None else about.description}"


def _of_release(entry: Entry) -> str | None:
    """What a release's facts say against one another."""
    repeats = entry.get("repeats")
    if (entry["event"] == chain.REPEAT) != (repeats is not None):
        return f"is a {entry['event']}, and says repeats {shown(repeats)}"
    if repeats is not None and repeats >= entry["index"]:
        return f"says repeats {shown(repeats)}; allowed: the index of an entry before it"
    summed = entry["protection"] in SUMS
    for key in _TELLS_SUM:
        if (key in entry) if not summed else entry.get(key) is None:
            told = "is of a part in sums, and says no" if summed else "is of no sum, and says"
            return f"{told} {key}"
    return _of_noise(entry)


def _of_noise(entry: Entry) -> str | None:
    """Whether what an entry claims is what its noise gives; without noise it claims nothing."""
    noise = entry.get("noise_multiplier")
    if noise is None:
        claimed = next((key for key in _TELLS_NOISE if entry.get(key) is not None), None)
        return (
            None if claimed is None else f"claims {claimed} {shown(entry[claimed])}, and no noise"
        )
    if entry["protection"] in NOISELESS:
        return f"claims noise under protection {shown(entry['protection'])}"
    absent = next((key for key in _TELLS_NOISE if entry.get(key) is None), None)
    if absent is not None:
        return f"claims noise, and says no {absent}"
    try:
        spent = json_number(_alone(float(noise), float(entry["delta"])))
    except InputError:
        return f"claims an epsilon at a delta of {entry['delta']:g}"
    if same_epsilon(entry["epsilon"], spent):
        return None
    return f"claims an epsilon of {_figure(entry['epsilon'])}; its noise comes to {_figure(spent)}"


@cache
def _alone(noise: float, delta: float) -> float:
    """Epsilon of one record by itself."""
    return accountant.spent([Charge("one record", noise)], delta).epsilon


def _figure(epsilon: float | str) -> str:
    return epsilon if isinstance(epsilon, str) else f"{epsilon:.6g}"
