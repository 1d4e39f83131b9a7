"""Attacks on statistics of training images by asking for several that differ in a few images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import ClientRefused
from neulig_fl.merging import gram
from neulig_fl.records import kinds, payloads


def _party(folder: Path, data: Path, kind: str, examples: int) -> ClientHandler:
    stages = [{"name": "all", "share": [{"kind": kind, "examples": examples}]}]
    scenario = tiny.scenario(folder, data, stages=stages)
    return ClientHandler(scenario, scenario.seed, "ada", folder / "ada")


@pytest.mark.parametrize("kind", ["gram", "fisher"])
def test_no_two_statistics_of_an_expert_differ_in_a_few_images(
    kind: str, data: Path, tmp_path: Path
) -> None:
    """Attack: measure on five images in one run and on four in the next, and subtract.

    The difference of two sums over images is that of one image: of a Gram matrix, its patches.
    """
    asked = {"stage": "all", "group": "A", "kind": kind}
    first = _party(tmp_path, data, kind, 5)
    assert tiny.say(first, "release", asked)[1]
    for examples in (4, 6):
        with pytest.raises(ClientRefused, match=f"{kind} was measured on other images before"):
            tiny.say(_party(tmp_path, data, kind, examples), "release", asked)
    assert tiny.say(_party(tmp_path, data, kind, 5), "release", asked)[1]
    events = [entry["event"] for entry in ClientStore(first.root).entries()]
    assert events == ["release", "refusal", "refusal"]


def test_the_difference_would_be_one_images(data: Path, tmp_path: Path) -> None:
    """If this fails, the rule above guards nothing: two Gram matrices no longer differ in one image."""
    found = []
    for count in (5, 4):
        party = _party(tmp_path / str(count), data, "gram", count)
        asked = {"stage": "all", "group": "A", "kind": "gram"}
        _, payload = tiny.say(party, "release", asked)
        found.append(payloads.unpack(payload, kinds.layout("gram", 1, party.setting.sizes), "gram"))
    (name, *_) = [each for each in found[0] if each.startswith(gram.GRAM)]
    more, less = (np.asarray(each[name], np.float64) for each in found)
    one = 5 * more - 4 * less  # gram.measured gives means over images
    ranks = [np.linalg.matrix_rank(each, tol=1e-4 * np.abs(each).max()) for each in (one, more)]
    assert ranks[0] < ranks[1]
