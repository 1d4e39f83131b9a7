"""The kinds `gram` and `fisher`: what a client measures, on which images, and what they tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from neulig_fl.client import experts
from neulig_fl.client.handler import ClientHandler
from neulig_fl.core.errors import ClientRefused
from neulig_fl.merging import fisher, gram
from neulig_fl.records import kinds, payloads
from neulig_fl.records.kinds import Arrays

STAGES = [
    {
        "name": "all",
        "share": [
            {"kind": "parameters"},
            {"kind": "gram", "examples": 5},
            {"kind": "fisher", "examples": 4},
        ],
    }
]


def _party(folder: Path, data: Path, **changes: Any) -> ClientHandler:
    scenario = tiny.scenario(folder, data, **{"stages": STAGES, **changes})
    return ClientHandler(scenario, scenario.seed, "ada", folder / "ada")


def _asked(party: ClientHandler, kind: str) -> tuple[dict[str, Any], Arrays]:
    body = {"stage": "all", "group": "A", "kind": kind}
    reply, payload = tiny.say(party, "release", body, b"")
    fields = kinds.layout(kind, 1, party.setting.sizes)
    return reply, payloads.unpack(payload, fields, kind)


def _images(party: ClientHandler, count: int, split: str = "train-A") -> Any:
    task, family = party.setting.tasks["first"], party.setting.family
    return family.normalise(task.pixels(task.indices(split, count), family.image_size))


@pytest.mark.parametrize(("kind", "count"), [("gram", 5), ("fisher", 4)])
def test_a_statistic_is_of_the_owners_training_images(
    kind: str, count: int, data: Path, tmp_path: Path
) -> None:
    """It would be measured on public images, on more of them than was agreed, or by another model."""
    party = _party(tmp_path, data)
    _, released = _asked(party, kind)
    encoder = party.encoder("A")[0]
    task, family = party.setting.tasks["first"], party.setting.family
    head = family.head(task.source.class_names, task.source.templates)

    def measured(images: Any) -> dict[str, Any]:
        if kind == "gram":
            return dict(gram.measured(encoder, images))
        return dict(fisher.measured(encoder, images, head))

    wanted = measured(_images(party, count))
    assert list(released) == list(wanted)
    assert all(np.allclose(released[k], wanted[k], rtol=1e-5, atol=1e-7) for k in wanted)
    for other in (_images(party, count - 1), _images(party, count, "pool")):
        assert not all(np.allclose(released[k], v, rtol=1e-3) for k, v in measured(other).items())


def test_parameters_follow_from_the_fisher_information(data: Path, tmp_path: Path) -> None:
    """The documents say so, and policies rest on it: whoever keeps the model in keeps it in too."""
    party = _party(tmp_path, data)
    _, own = _asked(party, "parameters")
    _, told = _asked(party, "fisher")
    for name, value in own.items():
        found = told[f"{fisher.MOMENT}{name}"] / told[f"{fisher.FISHER}{name}"]
        assert np.allclose(found, value, rtol=1e-4, atol=1e-6)


def test_a_weight_follows_from_its_gram_matrix(data: Path, tmp_path: Path) -> None:
    """The same for Gram matrices, where the inputs span their space; else on what they span."""
    party = _party(tmp_path, data)
    _, own = _asked(party, "parameters")
    _, told = _asked(party, "gram")
    names = [n.removeprefix(gram.GRAM) for n in told if n.startswith(gram.GRAM)]
    assert names
    for name in names:
        matrix = np.asarray(told[f"{gram.GRAM}{name}"], np.float64)
        moment = np.asarray(told[f"{gram.MOMENT}{name}"], np.float64)
        weight = np.asarray(own[name], np.float64)
        if gram._input_first(name):
            weight, moment = weight.T, moment.T
        values, vectors = np.linalg.eigh(matrix)
        seen = vectors[:, values > 1e-4 * values.max()]
        found = moment @ seen / values[values > 1e-4 * values.max()]
        assert seen.shape[1] >= 1
        assert np.allclose(found, weight @ seen, rtol=0.02, atol=2e-3 * np.abs(weight).max())


@pytest.mark.parametrize("kind", ["gram", "fisher"])
def test_whoever_keeps_the_parameters_keeps_the_statistics(
    kind: str, data: Path, tmp_path: Path
) -> None:
    """A rule `never: [parameters]` would let the model out under another name."""
    clients = [
        {"name": "ada", "task": "first", "policy": {"never": ["parameters"]}},
        {"name": "bob", "task": "second"},
        {"name": "cyd", "task": "first"},
    ]
    party = _party(tmp_path, data, clients=clients)
    with pytest.raises(ClientRefused, match="policy of client 'ada': never parameters"):
        _asked(party, kind)


def test_a_statistic_is_measured_when_the_gate_has_let_it_pass(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused request would still make a client load its expert and read its images."""
    party = _party(tmp_path, data, stages=[{"name": "all", "share": [{"kind": "parameters"}]}])

    def touched(*_: Any, **__: Any) -> None:
        pytest.fail("an expert was loaded")

    monkeypatch.setattr(experts, "obtain", touched)
    with pytest.raises(ClientRefused, match="does not share gram"):
        tiny.say(party, "release", {"stage": "all", "group": "A", "kind": "gram"}, b"")
