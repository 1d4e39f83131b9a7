"""Law 8, second half: what the server sees of one client is uniform, and no secret is shown."""

from __future__ import annotations

import ast
import importlib
import io
import pkgutil
import random
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sum_round
from numpy.typing import NDArray
from scipy import stats
from sum_round import Round

from neulig_fl.core.errors import NeuligError
from neulig_fl.privacy import secagg
from neulig_fl.privacy.secagg import client, masks
from neulig_fl.privacy.secagg.fixed_point import WORD
from neulig_fl.privacy.secagg.masks import Mask
from neulig_fl.privacy.secagg.messages import Delivery, Roster, Shares
from neulig_fl.privacy.secagg.terms import Terms
from neulig_fl.privacy.secagg.unmasking import Reveal

CHANCE = 1e-9
"""A fair generator is called unfair once in 1e9 tests; there are under a hundred."""
RUNS, ENTRIES = 160, 64


def _seen(fill: float, off: str, runs: int = RUNS) -> NDArray[np.uint8]:
    """What reaches the server from c-001 in many rounds in which its vector is always the same.

    Args:
        fill: every entry of its vector.
        off: which masks the server can take off: no mask; the self-mask, as after the last step;
            the pairwise masks, as when c-001 is called dropped and its vector comes too late.
        runs: rounds.

    Returns:
        uint8 array of shape (runs, bytes).
    """
    agreed = sum_round.terms(3, entries=ENTRIES, chunk_entries=ENTRIES)
    data = {name: np.full(ENTRIES, fill, np.float32) for name in agreed.clients}
    rows = []
    for _ in range(runs):
        made = Round(agreed, data).until("share")
        everyone = Roster.read(made.told["roster"], agreed.digest)
        own = client._masks(made.state("c-001"), everyone, ["c-000", "c-002"])
        left = {"no mask": [], "the self-mask": own[:1], "the pairwise masks": own[1:]}[off]
        words = np.frombuffer(made.masked("c-001"), WORD).copy()
        masks.apply([Mask(each.key, -each.sign) for each in left], 0, words)
        rows.append(words.view(np.uint8))
    return np.stack(rows)


def _uniformity(seen: NDArray[np.uint8]) -> list[float]:
    """p-values: of all bytes together, and of each of a word's bytes."""
    columns = [seen, *(seen.reshape(len(seen), -1, 4)[..., i] for i in range(4))]
    return [stats.chisquare(np.bincount(c.ravel(), minlength=256)).pvalue for c in columns]


@pytest.mark.parametrize("off", ["no mask", "the self-mask", "the pairwise masks"])
def test_what_the_server_sees_of_one_client_is_uniform(off: str) -> None:
    """Without it a masked vector would tell something of the vector.

    One of the two kinds of mask can be taken off in any round; the other one must hide the vector.
    """
    low, high = _seen(-1.0, off), _seen(0.5, off)
    for seen in (low, high):
        assert min(_uniformity(seen)) > CHANCE
    tables = [np.bincount(seen.ravel(), minlength=256) for seen in (low, high)]
    assert stats.chi2_contingency(tables).pvalue > CHANCE
    for place in (0, 3, 4 * ENTRIES - 1):  # one byte of one entry, over the runs, in 8 bins
        halves = [np.bincount(seen[:, place] >> 5, minlength=8) for seen in (low, high)]
        assert min(stats.chisquare(half).pvalue for half in halves) > CHANCE


def test_the_test_of_uniformity_sees_a_vector_without_masks() -> None:
    """Without it the test above could pass whatever is sent."""
    agreed = sum_round.terms(3, entries=ENTRIES)
    words = np.empty(ENTRIES, WORD)
    values = np.random.default_rng(0).uniform(-1 / 3, 1 / 3, ENTRIES)
    agreed.fixed_point.encode(values, lambda size: np.zeros(size, np.uint16), words, 1 / 3, "it")
    once = np.stack([words.view(np.uint8)] * RUNS)
    assert max(_uniformity(once)) < CHANCE
    assert stats.chisquare(np.bincount(once[:, 3] >> 5, minlength=8)).pvalue < CHANCE


def test_words_of_two_rounds_of_one_vector_have_nothing_in_common() -> None:
    """Without it the difference of two rounds would be the difference of two vectors."""
    seen = _seen(0.25, "no mask", runs=2).view(WORD)
    difference = (seen[0] - seen[1]).view(np.uint8)
    assert not (seen[0] == seen[1]).any()
    assert stats.chisquare(np.bincount(difference >> 5, minlength=8)).pvalue > CHANCE


def test_secrets_do_not_come_from_a_seed() -> None:
    """Without it who knows the scenario's seed would know every mask."""
    agreed = sum_round.terms(3)

    def drawn() -> list[bytes]:
        np.random.seed(0)
        random.seed(0)
        state, _ = secagg.advertise(agreed, "c-000")
        return [state.sealing_key, state.mask_seed, state.self_seed]

    first, second = drawn(), drawn()
    assert not set(first) & set(second)
    assert len(set(first)) == 3


def test_no_module_of_it_imports_a_seeded_generator() -> None:
    """Without it a later change could draw a secret where anyone can draw it again."""
    package = Path(secagg.__file__).parent
    for path in sorted(package.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names += [str(node.module), *(f"{node.module}.{a.name}" for a in node.names)]
            assert not {"random", "torch", "neulig_fl.core.randomness"} & set(names), path
        assert "np.random" not in text, path


def _secrets(made: Round) -> list[bytes]:
    """Every secret of a round that stands in some client's state."""
    found = []
    for name in made.terms.clients:
        state = made.state(name)
        found += [state.sealing_key, state.mask_seed, state.self_seed]
        found += [pair[at : at + 16] for _, pair in state.held for at in (0, 16)]
    return [secret for secret in found if secret]


def _spellings(secret: bytes) -> list[str]:
    return [secret.hex(), repr(secret)[2:-1], str(list(secret))[1:-1]]


def test_no_repr_shows_a_secret() -> None:
    """Without it a log line, or a failed assertion, would give a key away."""
    made = Round(sum_round.terms(3)).until("share")
    hidden = _secrets(made)
    assert len(hidden) == 15
    told = [repr(made.state(name)) for name in made.terms.clients]
    made.mask()
    hidden += _secrets(made)
    told += [repr(made.state(name)) for name in made.terms.clients]
    made.confirm()
    made.reveal()
    told += [repr(made.state(name)) for name in made.terms.clients]
    told += [repr(Mask(secret, 1)) for secret in hidden]
    readers = ((Shares.read, "share"), (Delivery.read, "deliveries"), (Reveal.read, "reveal"))
    for read, step in readers:
        messages = made.told[step] if step in made.told else made.sent[step]
        told += [repr(read(sent, made.terms.digest)) for sent in messages.values()]
    told += [repr(made.server), str(made.server)]
    text = "\n".join(told)
    for secret in hidden:
        assert not [spelling for spelling in _spellings(secret) if spelling in text]
    assert repr(made.told["roster"])[2:-1] not in text, "a log line does not hold everyone's keys"


def test_no_error_shows_a_secret_or_a_value() -> None:
    """Without it a refusal would send what it refuses to send."""
    made = Round(sum_round.terms(3)).until("mask")
    early = Round(made.terms).until("share")
    hidden = [_spellings(secret) for secret in _secrets(made) + _secrets(early)]
    value = np.float64(1234.5678901)
    attempts: list[Callable[[], object]] = [
        lambda: secagg.ClientState.from_bytes(made.stored["c-000"][:-1]),
        lambda: secagg.confirm(made.state("c-000"), made.sent["share"]["c-000"]),
        lambda: secagg.share(made.state("c-000"), made.told["roster"]),
        lambda: secagg.mask(early.state("c-000"), early.told["deliveries"]["c-001"], [], 0.1),
        lambda: b"".join(
            secagg.mask(
                early.state("c-000"), early.told["deliveries"]["c-000"], [np.full(10, value)], 1.0
            )[1]
        ),
    ]
    for attempt in attempts:
        with pytest.raises(NeuligError) as caught:
            attempt()
        shown = io.StringIO()
        traceback.print_exception(caught.value, file=shown)
        text = shown.getvalue() + repr(caught.value) + str(caught.value.public_reason)
        assert caught.value.public_reason
        assert "1234" not in text
        assert not [s for spellings in hidden for s in spellings if s in text]


def test_every_module_has_been_looked_at() -> None:
    """Without it a new module of the package could hold secrets that no test here knows."""
    known = {
        "checks", "client", "fixed_point", "masks", "messages", "recovery", "running_sum",
        "server", "shares", "state", "terms", "unmasking", "vectors", "wire",
    }  # fmt: skip
    assert {m.name for m in pkgutil.iter_modules(secagg.__path__)} == known
    secret_fields = {"key", "sealing_key", "mask_seed", "self_seed", "held", "shares", "sealed"}
    for name in sorted(known):
        module = importlib.import_module(f"neulig_fl.privacy.secagg.{name}")
        for kind in vars(module).values():
            if kind is Terms or getattr(kind, "__module__", "") != module.__name__:
                continue
            for field in getattr(kind, "__dataclass_fields__", {}).values():
                public = kind.__name__ == "Advert"
                assert public or field.name not in secret_fields or not field.repr, field
