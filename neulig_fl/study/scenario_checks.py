"""What a scenario's parts must be to one another: names, tasks, shares, files.

Each check is a function from the scenario to the problems it finds, placed where a reader would
mend them.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal

from neulig_fl.config import policy_files
from neulig_fl.config.problems import Problem, quoted
from neulig_fl.config.schema import (
    MICRO_MODELS,
    PRETRAINED_WORDS,
    Scenario,
    exists,
    is_path,
    place,
)
from neulig_fl.config.tasks import OPEN_SOURCES, TaskOptions, built_in_tasks
from neulig_fl.config.values import (
    SERVER,
)
from neulig_fl.core import variants
from neulig_fl.core.errors import nearest
from neulig_fl.models import families
from neulig_fl.records import protections
from neulig_fl.study.method_checks import wrong_methods
from neulig_fl.study.requirements import unmet, unmet_methods, wrong_sums
from neulig_fl.study.share_checks import (
    without_start,
    wrong_budgets,
    wrong_examples,
    wrong_protections,
    wrong_shares,
)

_READ_BY_ALL = frozenset({"templates"})
"""What every task source reads; those that read more say so in `READS`."""

_Faults = Iterator[tuple[tuple[str, ...], str]]


def problems_between(scenario: Scenario, base: Path) -> list[Problem]:
    """Find everything that does not fit together.

    Args:
        scenario: valid field by field.
        base: folder that relative paths start from.
    """
    apart = (
        _names, _trust, _seeds, _resources, _tasks, wrong_shares, wrong_examples,
        wrong_protections, wrong_budgets, without_start, wrong_sums, _stages, _portland, unmet,
        wrong_methods, unmet_methods,
    )  # fmt: skip
    on_disk = (_task_options, _checkpoints, _policies, _weights)
    return [
        *(problem for check in apart for problem in check(scenario)),
        *(problem for check in on_disk for problem in check(scenario, base)),
    ]


def _names(scenario: Scenario) -> Iterator[Problem]:
    yield from _repeated("clients", [client.name for client in scenario.clients])
    yield from _repeated("stages", [stage.name for stage in scenario.stages])


def _resources(scenario: Scenario) -> Iterator[Problem]:
    """Flower's engine, Ray, gives a client a share of one GPU, or whole ones."""
    share = scenario.resources.client_gpus
    if share > 1 and share % 1:
        text = (
            f"a share of one GPU, or a whole number of them (got {share:g}); allowed: 0 to 1, 2, 3"
        )
        yield Problem(("resources", "client_gpus"), text)


def _repeated(section: str, names: Sequence[str]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        first = names.index(name)
        if first < index:
            taken = f"the name is taken (got {quoted(name)}, as in {section}.{first}.name)"
            yield Problem((section, index, "name"), f"{taken}; every name stands once")


def _trust(scenario: Scenario) -> Iterator[Problem]:
    clients = [client.name for client in scenario.clients]
    for name in scenario.trust:
        if name not in (*clients, SERVER):
            allowed = nearest(name, [*clients, SERVER])
            yield Problem(("trust", name), f"is no client; {allowed}", key=True)
    if SERVER in clients:
        steps = ("clients", clients.index(SERVER), "name")
        what = f"is what the server is called (got {quoted(SERVER)}); give the client another name"
        yield Problem(steps, what)


def _seeds(scenario: Scenario) -> Iterator[Problem]:
    if scenario.seeds is not None and "seed" in scenario.model_fields_set:
        got = quoted(scenario.seeds)
        yield Problem(("seeds",), f"given beside seed (got {got}); keep one of the two")


def _tasks(scenario: Scenario) -> Iterator[Problem]:
    built_in = built_in_tasks()
    for name, options in scenario.tasks.items():
        if name in built_in and options.source != name:
            yield Problem(("tasks", name), "is a built-in task; give yours another name", key=True)
    known = list(dict.fromkeys([*built_in, *scenario.tasks]))
    for index, client in enumerate(scenario.clients):
        if client.task in known:
            continue
        what = f"no such task (got {quoted(client.task)}); {nearest(client.task, known)}"
        if client.task in OPEN_SOURCES:
            needed = "root: FOLDER" if client.task == "imagefolder" else "dataset: NAME"
            what += f"; to use it, write tasks: {{my-task: {{source: {client.task}, {needed}}}}}"
        yield Problem(("clients", index, "task"), what)


def _stages(scenario: Scenario) -> Iterator[Problem]:
    for i, stage in enumerate(scenario.stages):
        if stage.group not in scenario.experts.groups:
            trained = nearest("", scenario.experts.groups)
            what = f"no expert is trained on this half (got {quoted(stage.group)}); {trained}"
            yield Problem(("stages", i, "group"), f"{what}; or add it to experts.groups")
        if "granularity" in stage.model_fields_set and "merge" not in stage.run:
            what = f"only merge uses it, and run has no merge (got {quoted(stage.granularity)})"
            yield Problem(("stages", i, "granularity"), f"{what}; add merge or leave this out")
        if not stage.share and not stage.run:
            yield Problem(("stages", i), "shares nothing and runs nothing; give it share or run")


def _portland(scenario: Scenario) -> Iterator[Problem]:
    options = scenario.portland
    if options.objective == "supervised" and options.queries == "evaluation":
        yield Problem(
            ("portland", "queries"),
            'labels of evaluation queries are never trained on (got "evaluation" with objective '
            "supervised); allowed: pool, train; or take objective: semi, which uses no labels",
        )
    if options.objective_on != "ensemble" and scenario.batch_norm == "re-estimate":
        yield Problem(
            ("portland", "objective_on"),
            f"re-estimated BatchNorm statistics have no gradient (got "
            f"{quoted(options.objective_on)} with batch_norm: re-estimate); allowed: ensemble; or "
            "take batch_norm: average",
        )


def _task_options(scenario: Scenario, base: Path) -> Iterator[Problem]:
    """Every key that a task gives is one that its source reads, and says what can be."""
    for name, options in scenario.tasks.items():
        steps = ("tasks", name)
        module = variants.load("neulig_fl.data.sources", options.source)
        reads = getattr(module, "READS", _READ_BY_ALL)
        yield from _not_read(steps, options, reads)
        if "root" in reads and options.root is not None and not options.download:
            yield from _must_exist((*steps, "root"), options.root, base, "folder")
        if options.classes is not None and "classes" in reads:
            yield from _classes_alike(steps, options.classes)
        root = None if options.root is None else str(place(base, options.root))
        for keys, words in _faults(module, options.model_copy(update={"root": root})):
            below_classes = len(keys) > 1  # where the key itself is what is wrong
            yield Problem((*steps, *keys), words, key=below_classes)


def _faults(module: ModuleType, options: TaskOptions) -> _Faults:
    found: _Faults = module.faults(options) if hasattr(module, "faults") else iter(())
    return found


def _not_read(
    steps: tuple[str, str], options: TaskOptions, reads: Collection[str]
) -> Iterator[Problem]:
    for key in TaskOptions.model_fields:
        value = getattr(options, key)
        if key == "source" or key in reads or value is None or key not in options.model_fields_set:
            continue
        what = "folder" if key == "root" else key
        known = [each for each in TaskOptions.model_fields if each in reads]
        text = f"{options.source} reads no {what} (got {quoted(value)}); leave {key} out"
        yield Problem((*steps, key), f"{text}; what it reads: {', '.join(known)}", key=True)


def _classes_alike(steps: tuple[str, str], classes: Mapping[str, str]) -> Iterator[Problem]:
    names = list(classes.values())
    for index, (key, name) in enumerate(classes.items()):
        first = names.index(name)
        if first < index:
            what = f"the class name is taken (got {quoted(name)}, as for {list(classes)[first]!r})"
            yield Problem((*steps, "classes", key), f"{what}; every class has its own")


def _checkpoints(scenario: Scenario, base: Path) -> Iterator[Problem]:
    for index, client in enumerate(scenario.clients):
        if client.checkpoint is None:
            if client.prefix is not None:
                yield _idle_prefix(("clients", index, "prefix"), client.prefix, "a checkpoint")
            continue
        steps = ("clients", index, "checkpoint")
        lacking = [group for group in scenario.experts.groups if group not in client.checkpoint]
        if lacking:
            what = f"has none for group {lacking[0]} (got {quoted(client.checkpoint)})"
            yield Problem(steps, f"{what}; add {lacking[0]}: PATH, or take it from experts.groups")
        for path in dict.fromkeys(client.checkpoint.values()):
            yield from _must_exist(steps, path, base, "file or folder")


def _idle_prefix(steps: tuple[str | int, ...], got: object, beside: str) -> Problem:
    return Problem(steps, f"is read beside {beside} only (got {quoted(got)}); leave prefix out")


def _policies(scenario: Scenario, base: Path) -> Iterator[Problem]:
    """No policy contradicts itself; one that the stages contradict is a refusal, and no error."""
    for index, client in enumerate(scenario.clients):
        for found in policy_files.problems(client.policy, base, fits=_fits):
            steps = ("clients", index, "policy", *found.steps)
            yield Problem(steps, found.text, found.key)


def _fits(protection: str, kind: str) -> bool:
    return protections.load(protection).fits(kind)


def _weights(scenario: Scenario, base: Path) -> Iterator[Problem]:
    """Check the model's name and the weights that it starts from."""
    model = scenario.model
    family = families.family_of(model.name)
    if family is None:
        yield Problem(("model", "name"), _unknown_model(model.name))
        return
    if model.text_files is not None:
        yield from _must_exist(("model", "text_files"), model.text_files, base, "folder")
    named = is_path(model.pretrained) or exists(place(base, model.pretrained), "file")
    if model.prefix is not None and (model.pretrained in PRETRAINED_WORDS or not named):
        yield _idle_prefix(("model", "prefix"), model.prefix, "the path of a checkpoint")
    steps = ("model", "pretrained")
    if model.pretrained == "bundled" and "bundled" not in family.weights(model.name):
        what = f"bundled weights are for {' and '.join(MICRO_MODELS)} (got {quoted(model.name)})"
        yield Problem(steps, f"{what}; give an OpenCLIP tag, the path of a checkpoint, or none")
    elif model.pretrained in PRETRAINED_WORDS or exists(place(base, model.pretrained), "file"):
        return
    elif is_path(model.pretrained):
        yield from _must_exist(steps, model.pretrained, base, "file or folder")
    elif model.pretrained not in (tags := family.weights(model.name)):
        allowed = nearest(model.pretrained, [*tags, "none", "the path of a checkpoint"])
        yield Problem(steps, f"no weights of that tag (got {quoted(model.pretrained)}); {allowed}")


def _unknown_model(name: str) -> str:
    """What is wrong with a model's name."""
    known = {each.lower(): each for each in families.names()}
    rest = len(known) - len(MICRO_MODELS)
    allowed = (
        f"allowed: {', '.join(MICRO_MODELS)}, or one of {rest} others (`neulig-fl models --all`)"
    )
    close = difflib.get_close_matches(name.lower(), [*MICRO_MODELS, *known], n=1, cutoff=0.5)
    hint = f"; did you mean {known.get(close[0], close[0])}?" if close else ""
    return f"no such model (got {quoted(name)}); {allowed}{hint}"


def _must_exist(
    steps: tuple[str | int, ...],
    path: str,
    base: Path,
    kind: Literal["file", "folder", "file or folder"],
) -> Iterator[Problem]:
    full = place(base, path)
    if not exists(full, kind):
        looked = f"looked for {full}; a relative path starts from {base}"
        yield Problem(steps, f"there is no such {kind} (got {quoted(path)}); {looked}")
