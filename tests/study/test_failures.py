"""What a user gets when something is wrong: one clear error, nothing half done, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from open_clip.transformer import VisionTransformer
from PIL import Image

from neulig_fl.client import experts
from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.holdings import ClientHoldings
from neulig_fl.config.scenario import dump
from neulig_fl.core.errors import (
    BadReply,
    ClientFailed,
    ClientMissing,
    ClientRefused,
    DataError,
    InputError,
    NeuligError,
    RunError,
)
from neulig_fl.merging.inference import NotCovered
from neulig_fl.records import decisions
from neulig_fl.runtime import engines, flower_messages
from neulig_fl.runtime.engines import Job, local

Break = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def broken(data: Path, tmp_path: Path, own_cache: Path) -> Callable[..., NeuligError]:
    """Run the tiny scenario, which must fail; the error, after a look at what the run left."""

    def run(kind: type[NeuligError], **changes: Any) -> NeuligError:
        with pytest.raises(kind) as caught:
            tiny.run(tmp_path, data, **changes)
        left = (
            {p.name for p in (tmp_path / "out").rglob("*")}
            if (tmp_path / "out").exists()
            else set()
        )
        assert not left & {"report.json", "report.md", "outcome.json", "summary.json"}
        assert not [name for name in left if name.startswith(".")], "a temporary file was left"
        text = str(caught.value)
        assert "Traceback" not in text
        assert len(text.splitlines()) == 1
        assert len(text) < 500
        assert type(caught.value) is kind
        return caught.value

    return run


# ---------------------------------------------------------------- clients that misbehave


def _raises(patch: pytest.MonkeyPatch) -> None:
    def spoil(body: dict[str, Any], reply: tiny.Reply) -> tiny.Reply:
        raise MemoryError("/secret/path of bob")

    tiny.spoiled(patch, "bob", "features", spoil)


def _sends(payload: Callable[[bytes], bytes], **body: Any) -> Break:
    """A client that goes round its own gate."""

    def break_it(patch: pytest.MonkeyPatch) -> None:
        import hashlib

        def spoil(_: dict[str, Any], reply: tiny.Reply) -> tiny.Reply:
            data = payload(bytes(reply[1]))
            digest = hashlib.sha256(data).hexdigest()
            return {**reply[0], "sha256": digest, **body}, data

        tiny.spoiled(patch, "bob", "features", spoil)

    return break_it


def _computes_nan(patch: pytest.MonkeyPatch) -> None:
    honest = ClientHoldings.features

    def features(self: ClientHoldings) -> Any:
        record = honest(self)
        if self._handler.name == "bob":
            record["features"] = np.full_like(record["features"], np.nan)
        return record

    patch.setattr(ClientHoldings, "features", features)


def _computes_another_shape(patch: pytest.MonkeyPatch) -> None:
    honest = ClientHoldings.features

    def features(self: ClientHoldings) -> Any:
        record = honest(self)
        if self._handler.name == "bob":
            record["features"] = record["features"][:, :-1]
        return record

    patch.setattr(ClientHoldings, "features", features)


def _never_answers(patch: pytest.MonkeyPatch) -> None:
    honest = flower_messages.answer_message

    def answer(message: Message, context: Context, respond: Any) -> Any:
        body, _ = flower_messages.decode(message.content)
        asked = body.get("asked", {})
        if context.node_config["partition-id"] == 1 and asked.get("kind") == "features":
            return None
        return honest(message, context, respond)

    patch.setattr(flower_messages, "answer_message", answer)


def _refuses(patch: pytest.MonkeyPatch) -> None:
    honest = decisions.refusal

    def refusal(scenario: Any, client: Any, request: Any) -> str | None:
        if client.name == "bob" and request.kind == "features" and not planning:
            return "bob changed his mind"
        return honest(scenario, client, request)

    planning: list[int] = []
    patch.setattr(decisions, "refusal", refusal)


CLIENTS: dict[str, tuple[Break, type[RunError], str]] = {
    "raises": (_raises, ClientFailed, "unexpected MemoryError"),
    "computes NaN": (_computes_nan, ClientFailed, "features holds 192 values that are not finite"),
    "computes another shape": (
        _computes_another_shape,
        ClientFailed,
        r"has shape \(12, 15\) instead of \(12, 16\)",
    ),
    "sends NaN": (
        _sends(lambda p: np.full(len(p) // 4, np.nan, "<f4").tobytes()),
        BadReply,
        "features holds 192 values that are not finite",
    ),
    "sends another shape": (_sends(lambda p: p[:-64], rows=11), BadReply, "11 rows instead of 12"),
    "sends rubbish": (_sends(lambda p: b"rubbish"), BadReply, "7 bytes instead of 768"),
    "says rubbish": (_sends(lambda p: p, rows={"a": 1}), BadReply, "rows instead of 12"),
    "never answers": (_never_answers, ClientMissing, "bob was gone before it answered release"),
    "refuses": (_refuses, ClientRefused, "bob changed his mind"),
}  # fmt: skip


@pytest.mark.parametrize("how", CLIENTS)
def test_a_client_that_misbehaves_is_one_clear_error_and_nothing_is_lost(
    how: str, broken: Callable[..., NeuligError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the user would get a traceback, half a report, or have to train again."""
    break_it, kind, problem = CLIENTS[how]
    with monkeypatch.context() as patch:
        break_it(patch)
        error = broken(kind)
    assert error.exit_code == 1
    text = str(error)
    assert text.startswith("client 'bob', stage 'outputs', features on pool queries: ")
    assert "/secret" not in text
    assert "`on_refusal: stop` (`continue` goes on" in text
    with pytest.raises(RunError, match=problem):
        raise error
    assert "/secret" not in (tmp_path / "out" / "error.json").read_text()
    lines = (tmp_path / "out" / "receipts.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds.count("offset-sum") == 3, "what was received before is on record"
    assert len(list((tmp_path / "own-cache" / "experts").glob("*.safetensors"))) == 3


def test_after_a_failure_the_next_run_trains_nothing(
    broken: Callable[..., NeuligError], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it one broken client would cost all the others their training."""
    with monkeypatch.context() as patch:
        _raises(patch)
        broken(ClientFailed)
    monkeypatch.setattr(experts, "_train", None)
    assert tiny.run(tmp_path / "again", data).data["stages"]


@pytest.mark.parametrize("how", ["raises", "sends NaN", "never answers", "refuses"])
def test_the_others_go_on_without_it_when_the_scenario_says_so(
    how: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it one broken client would end everybody's study."""
    CLIENTS[how][0](monkeypatch)
    report = tiny.run(tmp_path, data, on_refusal="continue")
    outputs = report.data["stages"][0]
    assert {(r["client"], r["kind"]) for r in outputs["refusals"]} == {("bob", "features")}
    assert all(
        r["experts"] == ["ada", "cyd"] for r in outputs["results"] if r["method"] != "pretrained"
    )


def test_a_client_that_fails_to_train_is_named_and_the_others_experts_are_kept(
    broken: Callable[..., NeuligError], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it one party's mistake would cost the others their training."""
    honest = experts.obtain

    def obtain(scenario: Any, client: Any, *rest: Any, **more: Any) -> Any:
        if client.name == "cyd":
            raise RunError("cyd's /secret disk is full", public_reason="its disk is full")
        return honest(scenario, client, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(experts, "obtain", obtain)
        error = broken(ClientFailed)
    assert str(error).startswith(
        "client 'cyd', preparing its expert of group A: its disk is full; "
    )
    assert len(list((tmp_path / "own-cache" / "experts").glob("*.safetensors"))) == 2


def test_a_client_app_that_answers_nothing_at_all_is_missing(data: Path, tmp_path: Path) -> None:
    """Without it the server would wait for ever, or call the run done."""
    scenario = tiny.scenario(tmp_path, data)
    out = tmp_path / "out"
    out.mkdir()
    dump(scenario, out / "scenario.json")
    with pytest.raises(
        ClientMissing, match=r"^client 'ada', preparing its expert .*no node answered hello"
    ):
        local.run(Job(out / "scenario.json", out, clients=3), client_app=ClientApp())
    assert not (out / engines.OUTCOME).exists()


def test_an_error_in_the_middle_of_the_analysis_leaves_no_outcome(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the first stage's result would look like the whole run's."""
    from neulig_fl.study.steps import merge

    def broken_step(run: Any) -> None:
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(merge, "run", broken_step)
    with pytest.raises(RunError, match=r"the server app failed: ZeroDivisionError.*flower\.log"):
        tiny.run(tmp_path, data)
    left = {p.name for p in (tmp_path / "out").iterdir()}
    assert not left & {"outcome.json", "report.json", "report.md"}
    assert "receipts.jsonl" in left


def _uncovered(patch: pytest.MonkeyPatch) -> None:
    """Every encoder takes a spectral norm of a parameter, which batched merged inference does not cover."""
    honest = VisionTransformer.forward

    def forward(self: VisionTransformer, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            norm = torch.linalg.matrix_norm(self.proj, 2)
        return honest(self, x) + 0.0 * norm  # type: ignore[no-any-return]

    patch.setattr(VisionTransformer, "forward", forward)


def test_a_model_that_batched_inference_does_not_cover_says_what_does(
    broken: Callable[..., NeuligError], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the user would get torch's error, and not learn which option runs the model."""
    _uncovered(monkeypatch)
    error = broken(NotCovered)
    assert error.exit_code == 1
    assert "matrix_norm" in str(error)
    assert "merging.method: one-at-a-time" in str(error)
    left = json.loads((tmp_path / "out" / "error.json").read_text())
    assert left["message"] == str(error)
    found = tiny.run(tmp_path / "again", data, merging={"method": "one-at-a-time"})
    assert {row["status"] for row in found.data["stages"][1]["results"]} == {"ok"}


# ---------------------------------------------------------------- data and weights


def _folder(tmp_path: Path, data: Path) -> tuple[Path, dict[str, Any]]:
    # So many that each class is in each split, whatever the seed.
    own = tiny.images(tmp_path / "own", ("cat", "dog"), each=60, seed=9)
    second = {"source": "imagefolder", "root": str(data / "second")}
    return own, {"first": {"source": "imagefolder", "root": str(own)}, "second": second}


def test_an_empty_class_folder_is_bad_input(
    broken: Callable[..., NeuligError], data: Path, tmp_path: Path
) -> None:
    """Without it the run would train on the classes that are left."""
    own, tasks = _folder(tmp_path, data)
    (own / "emu").mkdir()
    error = broken(DataError, tasks=tasks)
    assert error.exit_code == 2
    assert "class folder 'emu' holds no image" in str(error)
    assert "add some, or leave it out" in str(error)


def test_an_unreadable_image_is_bad_input_before_anything_runs(
    broken: Callable[..., NeuligError], data: Path, tmp_path: Path
) -> None:
    """Without it the user would get PIL's error after the experts were trained."""
    own, tasks = _folder(tmp_path, data)
    file = own / "dog" / "14.bmp"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    error = broken(DataError, tasks=tasks)
    assert error.exit_code == 2
    assert "dog/14.bmp cannot be read" in str(error)
    assert "replace or remove it" in str(error)


def test_a_missing_folder_is_bad_input_before_anything_runs(
    broken: Callable[..., NeuligError], data: Path, tmp_path: Path
) -> None:
    """Without it the experts would be trained first."""
    _, tasks = _folder(tmp_path, data)
    tasks["first"]["root"] = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere") as caught:
        tiny.run(tmp_path, data, tasks=tasks)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


CHECKPOINTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing entries": (lambda s: s.pop("proj"), "does not fit the scenario's model"),
    "extra entries": (lambda s: s.update(x=torch.zeros(1)), "does not fit the scenario's model"),
    "another shape": (lambda s: s.update(proj=torch.zeros(2)), "does not fit the scenario's model"),
    "NaN": (lambda s: s["proj"].fill_(float("nan")), "holds values that are not finite"),
    "code": (lambda s: s.update(x=print), "asks to run code"),
}


@pytest.mark.parametrize("how", CHECKPOINTS)
def test_a_wrong_checkpoint_names_its_client(
    how: str, broken: Callable[..., NeuligError], tmp_path: Path, data: Path
) -> None:
    """Without it the user would not learn whose file to look at."""
    change, reason = CHECKPOINTS[how]
    scenario = tiny.scenario(tmp_path / "look", data)
    state = (
        ClientHandler(scenario, scenario.seed, "ada", tmp_path / "look")
        .setting.family.encoder()
        .state_dict()
    )
    change(state)
    torch.save(state, tmp_path / "bob.pt")
    clients = [
        {"name": "ada", "task": "first"},
        {"name": "bob", "task": "second", "checkpoint": str(tmp_path / "bob.pt")},
    ]
    error = broken(ClientFailed, clients=clients)
    assert str(error).startswith("client 'bob', preparing its expert of group A: its checkpoint")
    assert reason in str(error)
    assert str(tmp_path) not in str(error)


def test_a_task_with_too_few_images_says_which_class(
    broken: Callable[..., NeuligError], data: Path, tmp_path: Path
) -> None:
    """Without it an expert would be measured on a class that it has no image of."""
    _, tasks = _folder(tmp_path, data)
    few = tiny.images(tmp_path / "few", ("a", "b"), each=2)
    tasks["first"]["root"] = str(few)
    error = broken(ClientFailed, tasks=tasks)
    assert str(error).startswith(
        "client 'ada', preparing its expert of group A: task 'first': a class has no image"
    )


def test_a_pool_without_queries_says_so(
    broken: Callable[..., NeuligError], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it Portland's training would end in Python."""
    from neulig_fl.data.sources import SPLITS

    for split in ("pool", "train-B"):
        monkeypatch.setitem(SPLITS, split, (2.0, 3.0))
    error = broken(RunError)
    assert "pool" in str(error)
    assert "stage 'outputs'" in str(error)


def test_an_image_of_the_wrong_kind_is_read_all_the_same(tmp_path: Path, data: Path) -> None:
    """Without it a grey or transparent image among the others would end the run."""
    own, tasks = _folder(tmp_path, data)
    for mode, name, side in (("L", "cat", 9), ("RGBA", "cat", 10), ("I;16", "dog", 11)):
        Image.new(mode, (side, side)).save(own / name / f"{mode[0]}.png")
    assert tiny.run(tmp_path, data, tasks=tasks).data["stages"]
