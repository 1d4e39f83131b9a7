"""Whether the scenario as it was given is the one that was run.

The server signs `scenario.json`, which the apps read: resolved, one seed. `given.yaml` and
`overrides.json` come from whoever started the run; put together they must say the same. Relative
paths are apart: nobody wrote down where they started. So must `scenario.yaml`, which runs it again,
paths and all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from neulig_fl.config.scenario import Scenario, as_written
from neulig_fl.core.errors import InputError
from neulig_fl.core.run_folders import GIVEN_FILE, SCENARIO_FILE, read_overrides

_SEEDS = ("seed", "seeds")


def given(folder: Path) -> Path | None:
    """The folder with the scenario as it was given, for the folder of one seed; None without one.

    Args:
        folder: of the seed: that of the run, or `seed-N` in it.
    """
    places = [folder, *([folder.parent] if folder.name.startswith("seed-") else [])]
    return next((place for place in places if (place / GIVEN_FILE).is_file()), None)


def read(place: Path) -> Scenario:
    """The scenario as it was given, with what replaced its values.

    Args:
        place: folder of `given`.

    Raises:
        InputError: it is not valid; the message is one line.
    """
    try:
        return as_written(place / GIVEN_FILE, read_overrides(place)).scenario
    except InputError as error:
        raise InputError(str(error).split("\n")[0]) from error


def again(place: Path, ran: Scenario) -> str | None:
    """What of `scenario.yaml`, with which the run is run again, is not as it was run.

    Args:
        place: folder of `given`.
        ran: of `scenario.json`.

    Raises:
        InputError: the file is not valid; the message is one line.
    """
    try:
        said = as_written(place / SCENARIO_FILE).resolved
    except InputError as error:
        raise InputError(str(error).split("\n")[0]) from error
    return difference(said, ran)


def difference(said: Scenario, ran: Scenario) -> str | None:
    """The first key in which the scenario that was run is not the one that was given.

    Args:
        said: of `read`.
        ran: of `scenario.json`.
    """
    if ran.seed not in said.all_seeds:
        return f"seed is {ran.seed}, which is none of those that were given"
    one, other = (each.model_dump(mode="json", exclude=set(_SEEDS)) for each in (said, ran))
    return _difference(one, other, "")


def _difference(said: Any, ran: Any, place: str) -> str | None:
    if isinstance(said, dict) and isinstance(ran, dict) and set(said) == set(ran):
        parts = [(said[key], ran[key], f"{place}.{key}" if place else key) for key in said]
    elif isinstance(said, list) and isinstance(ran, list) and len(said) == len(ran):
        parts = [(said[i], ran[i], f"{place}.{i}") for i in range(len(said))]
    elif said == ran or _same_path(said, ran):
        return None
    else:
        return f"{place} is {str(ran)[:60]!r}, and {str(said)[:60]!r} was given"
    return next((found for each in parts if (found := _difference(*each))), None)


def _same_path(said: object, ran: object) -> bool:
    """Whether one may be the other's absolute path."""
    if not isinstance(said, str) or not isinstance(ran, str) or not Path(ran).is_absolute():
        return False
    steps = [step for step in Path(os.path.normpath(said)).parts if step not in ("..", "~")]
    absolute = Path(said).is_absolute()
    return not absolute and (not steps or [*Path(ran).parts[-len(steps) :]] == steps)
