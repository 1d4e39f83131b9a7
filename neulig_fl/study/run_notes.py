"""What a report says of its run before any figure: departures from the paper, conditions."""

from __future__ import annotations

from pathlib import Path

from neulig_fl.config import conditions
from neulig_fl.config.scenario import PRETRAINED_WORDS, Scenario
from neulig_fl.config.values import TRIMMED
from neulig_fl.study.mixture_inputs import sum_notes
from neulig_fl.study.trained_portland import TrainedPortland


def notes(scenario: Scenario, trained: TrainedPortland | None) -> list[str]:
    """Departures from the paper, choices, and conditions that this run's figures rest on."""
    found = [] if trained is None else _portland_notes(scenario)
    found += _origin_notes(scenario)
    if scenario.batch_norm == "re-estimate":
        found.append("Merged BatchNorm statistics are estimated again on unlabelled pool queries.")
    tolerance = scenario.merging.tolerance
    if tolerance > 0 and any("merge" in stage.run for stage in scenario.stages):
        found.append(
            f"Near-equal CoopVecs are merged as one (merging.tolerance: {tolerance:g}), where the "
            "paper merges a network for each query; ensembles keep every query's own CoopVec."
        )
    if any("batch-first" in stage.granularity for stage in scenario.stages):
        found.append(
            "Granularity batch-first merges by the first query's CoopVec, as the released code "
            "does; its ensemble keeps one CoopVec a query."
        )
    if scenario.experts.origin == "diverse":
        found.append(
            "Diverse experts start from OpenCLIP's own initialisation; the released code uses "
            "Kaiming's uniform rule."
        )
    shares = [share for stage in scenario.stages for share in stage.share]
    for fraction in dict.fromkeys(share.fraction for share in shares if share.kind == TRIMMED):
        found.append(
            f"Where a client released no more than a trimmed task vector, its expert is theta_0 "
            f"plus the largest {100 * fraction:g} % of the numbers of its task vector."
        )
    if trained is not None:
        found.append(f"best-single is the expert of {trained.best_single}: {trained.choice}.")
    return [*found, *_expert_notes(scenario), *sum_notes(scenario), *conditions.of(scenario)]


def _expert_notes(scenario: Scenario) -> list[str]:
    """How experts are trained, where any is."""
    if all(client.checkpoint for client in scenario.clients):
        return []
    own = scenario.experts
    said = f"{own.epochs} epochs in batches of {own.batch_size}, learning rate {own.lr:g} after a"
    said += f" warm-up of {100 * own.warmup:g} % of the steps, weight decay {own.weight_decay:g}"
    model = f"{scenario.model.name}, weights {_start(scenario)}"
    return [f"Experts ({own.origin} origin, {model}) are trained for {said}."]


def _start(scenario: Scenario) -> str:
    """Where experts of this run's own training start from."""
    given = scenario.model.pretrained
    if scenario.experts.origin == "diverse" or not given:
        return "random"
    return given if given in PRETRAINED_WORDS else Path(given).name


def _origin_notes(scenario: Scenario) -> list[str]:
    """Weights from elsewhere: what they were trained on, a run cannot know."""
    brought = [client.name for client in scenario.clients if client.checkpoint]
    unknown = "what they were trained on is not known here, pool and evaluation images perhaps"
    found = []
    if brought:
        names = ", ".join(brought)
        found.append(f"The experts of {names} were brought as checkpoints: {unknown} included.")
    own = len(brought) < len(scenario.clients) and scenario.experts.origin == "shared"
    start = scenario.model.pretrained or "none"
    if own and start not in PRETRAINED_WORDS:
        found.append(f"Experts start from the weights {Path(start).name}: {unknown} included.")
    return found


def _portland_notes(scenario: Scenario) -> list[str]:
    options, found = scenario.portland, []
    if options.queries == "pool":
        brought = any(client.checkpoint for client in scenario.clients)
        which = "no expert of this run's own training" if brought else "no expert"
        found.append(
            f"Portland is trained on a public pool that {which} was trained on and that is not "
            "evaluated on; the paper trains it on the experts' training inputs (supervised) or on "
            "unlabelled evaluation inputs (semi)."
        )
    if options.queries == "evaluation":
        found.append(
            "Transductive: Portland is trained on the unlabelled evaluation inputs, and the best "
            "single expert is chosen on them; so are CoopVec Maps and the global CoopVec, where "
            "the pool's outputs are not known."
        )
    if options.alignment == "code":
        found.append("Alignment as in the paper's released code (Eq. 5 squared), not Eq. 8.")
    if options.objective_on != "ensemble":
        judged = {"merge": "the merged models", "both": "the ensemble and the merged models"}
        found.append(
            f"Extension of ours (portland.objective_on: {options.objective_on}): Portland's "
            f"boosting term is computed on {judged[options.objective_on]} of its training queries, "
            "so training reads the experts' parameters; the paper's is computed on the ensemble."
        )
    if options.outputs == "logits":
        found.append(
            "Portland reads logits over the classes of all tasks; the paper's reads features."
        )
    return found
