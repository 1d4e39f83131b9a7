"""The server's part of a run: prepare the experts, go through the stages, write what came out.

It knows the clients through `Transport` only; what they keep on their side it never reads.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from neulig_fl.config.scenario import Scenario, Stage, dumped
from neulig_fl.core import variants
from neulig_fl.core.errors import InputError, NeuligError
from neulig_fl.core.files import PRIVATE, replace_atomically, sha256, write_atomically
from neulig_fl.core.progress import Progress
from neulig_fl.core.versions import versions
from neulig_fl.ledger import chain, manifest, privacy_cost
from neulig_fl.ledger.manifest import Manifest
from neulig_fl.metrics.predictions import Scores
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.release_plan import open_setting, stage_plan
from neulig_fl.records.transport import Transport
from neulig_fl.server.collecting import Collector
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.server.secagg import kept_rounds
from neulig_fl.server.secagg.rounds import SumRounds
from neulig_fl.server.unfinished import Unfinished
from neulig_fl.study import kept_predictions, kept_stages, stage_comparisons
from neulig_fl.study.baseline_rows import StageRun, peak_rss_bytes
from neulig_fl.study.kept_stages import FinishedStage
from neulig_fl.study.run_notes import notes
from neulig_fl.study.trained_portland import TrainedPortland


@dataclass
class Study:
    """A run in progress.

    Args:
        collector: the exchange with the clients.
        progress: takes progress events.
        restoring: whether what was finished before the run was resumed is still being taken over.
    """

    collector: Collector
    progress: Progress
    trained: TrainedPortland | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    maps: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    prepared: dict[str, dict[str, bool]] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    restoring: bool = False

    @property
    def released(self) -> ReleasedRecords:
        """What was released so far."""
        return self.collector.released

    def prepare(self, scenario: Scenario) -> None:
        """Have the experts of every group that a stage needs."""
        start = time.perf_counter()
        for group in dict.fromkeys(stage.group for stage in scenario.stages):
            trained = self.collector.prepare(group)
            self.prepared[group] = trained
            new = sum(trained.values())
            cached = len(trained) - new
            self.progress.note(f"group {group}: {new} experts trained, {cached} from the cache")
        self.seconds["prepare"] = time.perf_counter() - start

    def run_stage(self, stage: Stage) -> None:
        """Collect what a stage shares, run its steps, keep its part of the report."""
        kept = self.collector.kept
        if kept is not None and stage.name in kept.finished():
            self._restore(kept, stage)
            return
        self.restoring = False
        finished = self._finished(stage)
        self._add(finished)
        if kept is not None:
            kept_stages.keep(kept, finished, chain.head(self.collector.receipts))

    def _add(self, finished: FinishedStage) -> None:
        self.trained = finished.trained
        self.maps += finished.maps
        self.seconds[f"stage {finished.name}"] = finished.seconds
        self.scores[finished.name] = finished.scores
        self.stages.append(finished.record)

    def _restore(self, kept: Unfinished, stage: Stage) -> None:
        """Take over a stage that was finished before the run was resumed.

        Raises:
            InputError: what was kept does not come to the same receipts.
        """
        with kept.complete(self.collector.clients):
            self.collector.collect(stage)
        kept_rounds.restore(self.collector, stage.name)
        finished, head = kept_stages.read(kept, stage.name)
        if chain.head(self.collector.receipts) != head:
            raise InputError(
                f"{kept.folder}: what was kept of stage {stage.name!r} does not come to the "
                "receipts that it had; the run cannot go on, begin it anew"
            )
        self._add(finished)
        self.progress.note(f"stage {stage.name}: finished before, taken from {kept.folder}")

    def _finished(self, stage: Stage) -> FinishedStage:
        start = time.perf_counter()
        releases, refusals = self.collector.collect(stage)
        sums = SumRounds(self.collector, stage, releases, refusals)
        run = StageRun(stage, self.released, self.trained, self.progress, sums)
        for step in stage.run:
            variants.load("neulig_fl.study.steps", step).run(run)
        scores = {key: row.scores for key, row in run.rows.items()}
        seconds = time.perf_counter() - start
        record = {
            "name": stage.name,
            "group": stage.group,
            "results": [row.record() for row in run.rows.values()],
            "comparisons": stage_comparisons.within(scores),
            "releases": releases,
            "refusals": refusals,
            "audits": [],
        }
        return FinishedStage(record, run.maps, scores, run.trained, seconds)

    def portland_record(self) -> dict[str, Any] | None:
        """The report's `portland`: the last one trained."""
        if self.trained is None:
            return None
        fit, options = self.trained.fit, self.released.setting.scenario.portland
        return {
            "experts": list(fit.portland.experts),
            "outputs": options.outputs,
            "objective": options.objective,
            "objective_on": options.objective_on,
            "queries": options.queries,
            "alignment": options.alignment,
            "alpha": options.alpha,
            "beta": options.beta,
            "parameters": fit.portland.weight.numel() + fit.portland.bias.numel(),
            "seconds": fit.seconds,
            "samples_per_second": fit.samples / fit.seconds if fit.seconds > 0 else 0.0,
            "trajectory": fit.trajectory,
            "transductive": options.queries == "evaluation",
        }

    def outcome(self) -> dict[str, Any]:
        """What the server contributes to the report."""
        receipts = self.collector.receipts
        return {
            "prepared": self.prepared,
            "versions": versions(),
            "seconds": self.seconds,
            "peak_rss_bytes": peak_rss_bytes(),
            "notes": notes(self.released.setting.scenario, self.trained),
            "stages": self.stages,
            "stage_comparisons": [*stage_comparisons.between(self.stages, self.scores)],
            "coopvec_maps": self.maps,
            "portland": self.portland_record(),
            "privacy": privacy_cost.account(receipts, [stage["name"] for stage in self.stages]),
            "ledger": {
                "entries": len(receipts),
                "head": chain.head(receipts),
                "verified": self.collector.book.verified(),
                **self.collector.book.told(),
            },
        }


def serve(
    scenario: Scenario,
    seed: int,
    transport: Transport,
    out: Path,
    progress: Progress,
    trust: Mapping[str, str] | None = None,
    identity: Identity | None = None,
    kept: Unfinished | None = None,
) -> None:
    """Run a scenario's stages; leave receipts, Portland, the manifest and `outcome.json` in `out`.

    Args:
        scenario: resolved and validated.
        seed: the seed of this run.
        transport: the clients.
        out: the run's folder.
        progress: takes progress events.
        trust: the public key that each client is pinned to; the others' are trusted as they are
            first seen.
        identity: the server's keys; fresh ones for this run alone when not given.
        kept: what is kept of the run until it ends, with the server's keys; None: nothing, and it
            cannot be resumed.

    Raises:
        RunError: a client's answer ends the run.
        InputError: the model or a task cannot be opened.
    """
    released = ReleasedRecords(open_setting(scenario, seed))
    own = kept.identity if kept else identity or Identity.new()
    collector = Collector(transport, released, progress, trust or {}, own, kept=kept)
    study = Study(collector, progress, restoring=bool(kept and kept.resumed))
    for stage in scenario.stages:
        list(stage_plan(released.setting, stage))  # data that cannot be listed ends the run here
    try:
        study.prepare(scenario)
        for stage in scenario.stages:
            study.run_stage(stage)
        outcome = _text(study)
    except BaseException as error:
        if not study.restoring:  # else nothing has come of this process, and the run is as it was
            _leave(study, out, error)
        raise
    _leave(study, out, outcome)


def _text(study: Study) -> str:
    """The outcome as it is written and signed; once made, it is not made again."""

    def made() -> str:
        return json.dumps(study.outcome(), allow_nan=False)

    kept = study.collector.kept
    return made() if kept is None else kept.outcome(made)


def _leave(study: Study, out: Path, ended: str | BaseException) -> None:
    """Write what a run leaves in its folder, and sign it; the outcome last, which says it is whole.

    Args:
        study: at its end.
        out: the run's folder.
        ended: the text of the outcome, or what ended the run before there was one.
    """
    collector, trained, kept = study.collector, study.trained, study.collector.kept
    if kept is not None and isinstance(ended, NeuligError):
        kept.erase()  # what is signed as failed does not go on
    collector.book.write(out)
    files = [manifest.RECEIPTS, manifest.TRUST]
    if isinstance(ended, str) and trained is not None:
        _write_portland(trained, out / manifest.PORTLAND)
        files.append(manifest.PORTLAND)
    if isinstance(ended, str):
        kept_predictions.write(out / manifest.PREDICTIONS, study.scores, study.released.setting)
        files.append(manifest.PREDICTIONS)
    hashes = {name: sha256(out / name) for name in files}
    hashes[manifest.SCENARIO] = _digest(dumped(study.released.setting.scenario))
    if isinstance(ended, str):
        hashes[manifest.OUTCOME] = _digest(ended)
    interrupted = not isinstance(ended, str | NeuligError)
    made = Manifest(
        run=collector.book.run,
        error=None if isinstance(ended, str) else _ended(ended),
        files=hashes,
        receipts={"entries": len(collector.receipts), "head": chain.head(collector.receipts)},
        clients=_unasked(collector) if interrupted else collector.close(),
        server=collector.identity.public,
    )
    manifest.write(out, made, collector.identity)
    if isinstance(ended, str):
        write_atomically(out / manifest.OUTCOME, ended, PRIVATE)
        if kept is not None:
            kept.erase()


def _write_portland(trained: TrainedPortland, path: Path) -> None:
    network = trained.portland
    tensors = {"weight": network.weight, "bias": network.bias}
    experts = {"experts": ",".join(network.experts)}
    replace_atomically(path, lambda part: save_file(tensors, part, experts), PRIVATE)


def _unasked(collector: Collector) -> dict[str, dict[str, Any]]:
    return {name: {"reason": "the run was interrupted"} for name in collector.book.known}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _ended(error: BaseException) -> dict[str, Any]:
    """What the manifest says of what ended a run; of what is no error of ours, the class alone."""
    if isinstance(error, NeuligError):
        return {k: v for k, v in error_record(error).items() if k != "exit_code"}
    return {"type": type(error).__name__, "message": ""}


def error_record(error: NeuligError) -> dict[str, Any]:
    """What the server app leaves in `error.json` for its engine, which knows the classes of errors.

    An error of a class that stands elsewhere goes by the class that it descends from.
    """
    known = next(c for c in type(error).__mro__ if c.__module__ == NeuligError.__module__)
    return {"type": known.__name__, "message": str(error), "exit_code": error.exit_code}
