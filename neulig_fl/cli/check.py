"""`neulig-fl check`: whether scenarios are valid, and their folders and checkpoints fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulig_fl.cli.options import Settings
from neulig_fl.cli.streams import echo

if TYPE_CHECKING:
    from neulig_fl.config.scenario import Client, OpenedScenario, Scenario
    from neulig_fl.data.sources import Task
    from neulig_fl.records.release_plan import Setting
    from neulig_fl.study.study_files import OpenedStudy


def check(
    scenarios: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Scenario or study files (YAML).")
    ],
    with_hash: Annotated[
        bool,
        typer.Option(
            "--hash",
            help="Also print each scenario's hash, which a node's policy can list as approved.",
        ),
    ] = False,
    settings: Settings = [],  # noqa: B006 (typer copies it)
) -> None:
    """Validate scenarios and studies: keys, values, combinations, image folders, checkpoints.

    Every error names the file, line and column, the value, what is allowed and the nearest valid
    name. Nothing is trained. Data sets are opened, and each image that is not built in is decoded
    once. The output lists the images used, by class and split, and the files left out, by reason.
    The exit code is 2 if any scenario is invalid.

    [bold]Example[/]
      neulig-fl check scenarios/*.yaml
    """
    from neulig_fl.cli import taken
    from neulig_fl.cli.exits import BAD_INPUT, say_error
    from neulig_fl.cli.model_lines import model_lines
    from neulig_fl.config import studies
    from neulig_fl.core.errors import InputError, plain
    from neulig_fl.runtime import machine
    from neulig_fl.study.checking import open_scenario

    bad = False
    for path in scenarios:
        try:
            if studies.is_study(path):
                echo(plain(_study(path, settings)))
                continue
            opened = open_scenario(path, settings)
            machine.require(opened.scenario.resources, opened.name)
            setting = require_sound(opened)
        except InputError as error:
            say_error(error)
            bad = True
        else:
            echo(plain(f"OK: {opened.name}: {summary(setting)}"))
            for line in (*taken.lines(setting), *model_lines(setting), *warnings(setting)):
                echo(f"  {plain(line)}")
            if with_hash:
                echo(f"  hash {opened.resolved.hash}")
    if bad:
        raise typer.Exit(BAD_INPUT)


def _study(path: Path, settings: list[str]) -> str:
    """A study in one line, once every case of it is valid."""
    from neulig_fl.study.study_files import open_study

    opened = open_study(path, settings)
    require_sound_cases(opened)
    seeds = ", ".join(map(str, opened.seeds))
    names = ", ".join(case.name for case in opened.cases)
    cases = f"{_count(opened.cases, 'case')} of {opened.base.scenario.name} ({names})"
    return f"OK: {opened.written.source.name}: {opened.name}: {cases}, seeds {seeds}"


def require_sound_cases(opened: OpenedStudy) -> None:
    """Open what a study's cases name and neulig-fl does not bring, once for all that name the same.

    Raises:
        InputError: what is wrong with it, with the case.
    """
    from neulig_fl.config.tasks import READ_FILES
    from neulig_fl.core.errors import InputError

    seen = set()
    for case in opened.cases:
        read = case.opened.scenario
        if not read.tasks and not any(c.checkpoint or c.task in READ_FILES for c in read.clients):
            continue
        files = read.model_dump_json(include={"tasks", "clients", "model", "queries", "stages"})
        if files in seen:
            continue
        seen.add(files)
        try:
            require_sound(replace(case.opened, scenario=_with_seeds(read, opened.seeds)))
        except InputError as error:
            raise InputError(f"{opened.written.source.name}: case {case.name}: {error}") from error


def _with_seeds(read: Scenario, seeds: tuple[int, ...]) -> Scenario:
    return read.model_copy(update={"seeds": seeds})


def summary(setting: Setting) -> str:
    """A scenario in one line."""
    read, classes = setting.scenario, setting.sizes.classes
    seeds = f"seeds {', '.join(map(str, read.all_seeds))}" if read.seeds else f"seed {read.seed}"
    parts = [
        f"{len(read.clients)} clients",
        f"{_count(setting.tasks, 'task')} ({classes} classes)",
        f"{_count(read.stages, 'stage')} ({', '.join(stage.name for stage in read.stages)})",
        f"{read.model.name} ({read.model.pretrained})",
        f"experts of {read.experts.origin} origin",
        seeds,
    ]
    return f"{read.name}: {', '.join(parts)}"


def _count(things: object, noun: str) -> str:
    count = len(things)  # type: ignore[arg-type]
    return f"{count} {noun}{'' if count == 1 else 's'}"


def warnings(setting: Setting) -> Iterator[str]:
    """What is allowed and yet hardly meant: more threads than cores, and `study.remarks`."""
    from neulig_fl.runtime import machine
    from neulig_fl.study.remarks import remarks

    threads, there = setting.scenario.resources.client_cpus, machine.cores()
    if threads > there:
        yield (
            f"resources.client_cpus: {threads}, but this process may use {there} "
            f"{'core' if there == 1 else 'cores'}: a client's threads will wait for one another"
        )
    yield from remarks(setting)


def require_sound(opened: OpenedScenario) -> Setting:
    """Open a scenario's folders and checkpoints, and collect what is wrong with them.

    Args:
        opened: valid in itself.

    Returns:
        The scenario with its tasks and model opened, for its first seed.

    Raises:
        InputError: every problem, a line each.
    """
    from neulig_fl.cli import taken
    from neulig_fl.core.errors import InputError
    from neulig_fl.records.release_plan import open_setting

    resolved = opened.resolved
    try:
        setting = open_setting(resolved, resolved.all_seeds[0])
    except InputError as error:
        raise InputError(f"{opened.name}: {error}") from error
    text = list(_text_problems(setting))
    with taken.watched(setting):
        # Without its text tower no prompt can be read, which every task would say again.
        tasks = [] if text else list(_task_problems(setting))
        found = [*text, *tasks, *_weight_problems(setting), *_method_problems(setting)]
    if found:
        raise InputError("\n".join(f"{opened.name}: {problem}" for problem in dict.fromkeys(found)))
    return setting


def _text_problems(setting: Setting) -> Iterator[str]:
    """What heads are made with may have to be fetched, which is tried again and again."""
    from neulig_fl.config.schema import MICRO_MODELS
    from neulig_fl.core.errors import InputError

    model = setting.scenario.model.name
    if model in MICRO_MODELS:
        return
    from neulig_fl.core.consoles import PlainConsole

    console = PlainConsole(stderr=True)
    try:
        with console.status(f"looking for the tokeniser and text tower of {model}"):
            setting.family.require_text()
    except InputError as error:
        yield str(error)


def _task_problems(setting: Setting) -> Iterator[str]:
    from neulig_fl.core.errors import InputError

    for name, task in setting.tasks.items():
        if _comes_along(setting, name):
            continue
        try:
            task.require_prompts(setting.family.tokens)
            for seed in setting.scenario.all_seeds:
                _require_images(setting.scenario, task, seed)
        except InputError as error:
            words = str(error)
            yield words if words.startswith("task ") else f"task {name!r}: {words}"


def _comes_along(setting: Setting, task: str) -> bool:
    """Whether task and model are built in, so that tests have looked at them together.

    Their prompts differ as the model reads them, and a class has so many images that no seed leaves
    a split without it. To read either takes seconds.
    """
    from neulig_fl.config.schema import MICRO_MODELS
    from neulig_fl.data.built_in import BuiltInSource

    own = task in setting.scenario.tasks or setting.scenario.model.name not in MICRO_MODELS
    return not own and isinstance(setting.tasks[task].source, BuiltInSource)


def _require_images(read: Scenario, task: Task, seed: int) -> None:
    """Every class has images to train on and to be evaluated on, and the pool has some."""
    from neulig_fl.core.errors import DataError
    from neulig_fl.data.sources import Task

    split = Task(task.name, task.source, seed)
    trained = any(c.task == task.name and not c.checkpoint for c in read.clients)
    groups = [f"train-{group}" for group in read.experts.groups] if trained else []
    for name in (*groups, "evaluation"):
        split.require_classes(name, split.indices(name))
    asked = {q for stage in read.stages for share in stage.share for q in share.queries or ()}
    if "pool" in asked and len(split.indices("pool")) == 0:
        raise DataError(
            f"task {task.name!r} has no image in the pool (it has {len(task.source.ids())} in "
            "all), which a stage asks about; give it more images (20 a class and more)"
        )


def _weight_problems(setting: Setting) -> Iterator[str]:
    """The model's own weights and every given checkpoint must fit it; tags are not fetched."""
    from neulig_fl.config.scenario import PRETRAINED_WORDS
    from neulig_fl.core.errors import InputError

    pretrained = setting.scenario.model.pretrained
    own = pretrained not in PRETRAINED_WORDS and Path(pretrained).is_absolute()
    try:
        if own:
            setting.family.encoder()
    except InputError as error:
        yield str(error)
    for client in setting.scenario.clients:
        for group in client.checkpoint or {}:
            yield from _checkpoint_problems(setting, client, group)


def _method_problems(setting: Setting) -> Iterator[str]:
    """A merge method may not know the model, by the names of its entries."""
    from neulig_fl.merging import methods

    for index, entry in enumerate(setting.scenario.methods):
        unfit = getattr(methods.load(entry.name), "unfit", lambda entries: None)
        problem = unfit(setting.family.entries())
        if problem is not None:
            yield f"methods.{index}: {problem}"


def _checkpoint_problems(setting: Setting, client: Client, group: str) -> Iterator[str]:
    """Read one given checkpoint as the client will; the model's own weights are not loaded."""
    from neulig_fl.client import experts
    from neulig_fl.core.errors import InputError

    try:
        experts.given(client, group, setting.family)
    except InputError as error:
        yield str(error)
