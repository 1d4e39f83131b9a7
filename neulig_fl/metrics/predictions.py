"""Predictions of a run, query by query: what `predictions.safetensors` holds, written and read.

A row of a stage has the classes that its merged model and its ensemble predicted for every
evaluation query, and each set of queries its true classes; of both, only numbers of classes. Which
queries they are stands beside them by hash, so that rows of two runs can be paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from neulig_fl.core import regular_files, strict_json
from neulig_fl.core.errors import InputError
from neulig_fl.core.files import PRIVATE, replace_atomically
from neulig_fl.metrics.evaluation import TaskScore

_INDEX = "index"
_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Of numbers of classes; -1 is that of no class, where a vote names none."""

Key = tuple[str, str | None, str | None]
"""Method, granularity, variant."""

Scores = Mapping[Key, Sequence[TaskScore]]
"""What each row of a stage did on the evaluation queries."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class QuerySet(_Part):
    """The evaluation queries of one task, as many as a row answers.

    Attributes:
        task: its name.
        n: how many queries.
        images: SHA-256 (hex) of the images' ids, in their order.
        labels: SHA-256 (hex) of the names of their true classes, in their order.
    """

    task: str
    n: Annotated[int, Field(ge=0)]
    images: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    labels: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Row(_Part):
    stage: str
    method: str
    granularity: str | None
    variant: str | None
    queries: list[int]


class _Index(_Part):
    format: Literal[1]
    queries: list[QuerySet]
    rows: list[_Row]


@dataclass(frozen=True)
class Predictions:
    """What a run predicted.

    Args:
        scores: of each stage by its name, and of each row in it; without CoopVecs and reasons.
        queries: the sets of queries, by task and number.
    """

    scores: Mapping[str, Scores]
    queries: Mapping[tuple[str, int], QuerySet]


def write(
    path: Path, scores: Mapping[str, Scores], query_set: Callable[[str, int], QuerySet]
) -> Path:
    """Write what every row of every stage predicted.

    The same predictions give the same bytes. Numbers of classes stand in the smallest integer type
    that holds a tensor's: one byte for each query up to 256 classes.

    Args:
        path: of the file.
        scores: of each stage, by its name.
        query_set: describes the first n queries of a task.

    Raises:
        RunError: the disk refuses.
    """
    sets: dict[tuple[str, int], int] = {}
    tensors: dict[str, Tensor] = {}
    rows: list[_Row] = []
    for stage, found in scores.items():
        for (method, granularity, variant), row in found.items():
            if not row:
                continue
            asked = []
            for score in row:
                at = sets.setdefault((score.task, len(score.targets)), len(sets))
                asked.append(at)
                tensors[f"labels.{at}"] = _smallest(score.targets)
                for side, classes in (("merge", score.merged), ("ensemble", score.ensembled)):
                    if classes is not None:
                        tensors[f"{side}.{len(rows)}.{at}"] = _smallest(classes)
            rows.append(
                _Row(
                    stage=stage,
                    method=method,
                    granularity=granularity,
                    variant=variant,
                    queries=asked,
                )
            )
    index = _Index(format=1, queries=[query_set(*each) for each in sets], rows=rows)
    said = {_INDEX: index.model_dump_json()}
    return replace_atomically(path, lambda part: save_file(tensors, part, said), PRIVATE)


def _smallest(classes: Tensor) -> Tensor:
    """A copy in the smallest type that holds all values."""
    least, most = (int(classes.min()), int(classes.max())) if len(classes) else (0, 0)
    for kind in _TYPES:
        known = torch.iinfo(kind)
        if known.min <= least and most <= known.max:
            break
    return classes.detach().to("cpu", kind, copy=True).contiguous()


def read(path: Path) -> Predictions:
    """Read what `write` wrote.

    Raises:
        InputError: there is no such file, it is cut off, or is not what `write` writes.
    """
    try:
        content = regular_files.read(path)
        tensors, index = load(content), _index(content)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no predictions are there") from error
    except (OSError, ValueError, SafetensorError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise _damaged(path, str(why)) from error
    problem = _problem(index, tensors)
    if problem is not None:
        raise _damaged(path, problem)
    scores: dict[str, dict[Key, Sequence[TaskScore]]] = {}
    for number, row in enumerate(index.rows):
        found = scores.setdefault(row.stage, {})
        key = (row.method, row.granularity, row.variant)
        if key in found:
            raise _damaged(path, f"row {number} is there twice")
        found[key] = [_score(index, tensors, number, at) for at in row.queries]
    return Predictions(scores, {(each.task, each.n): each for each in index.queries})


def _damaged(path: Path, why: str) -> InputError:
    first = " ".join(why.split())[:200]
    return InputError(
        f"{path}: cut off, or not as a run writes it ({first}); copy the run's folder again, or "
        "run the scenario again"
    )


def _index(content: bytes) -> _Index:
    """What the header says beside the tensors; `load` has checked that there is one."""
    size = int.from_bytes(content[:8], "little")
    header = strict_json.parsed(content[8 : 8 + size])
    said = header.get("__metadata__") if isinstance(header, dict) else None
    text = said.get(_INDEX) if isinstance(said, dict) else None
    if not isinstance(text, str):
        raise ValueError("it has no index")
    return _Index.model_validate(strict_json.parsed(text))


def _problem(index: _Index, tensors: Mapping[str, Tensor]) -> str | None:
    """Why tensors are not those that the index is of; None where they are."""
    allowed: set[str] = set()
    for number, row in enumerate(index.rows):
        if not all(0 <= at < len(index.queries) for at in row.queries):
            return f"row {number} names queries that are not there"
        if len({index.queries[at].task for at in row.queries}) < len(row.queries):
            return f"row {number} names a task twice"
        allowed |= {f"{side}.{number}.{at}" for side in _SIDES for at in row.queries}
    labels = {f"labels.{at}" for at in range(len(index.queries))}
    odd = sorted(labels - set(tensors)) or sorted(set(tensors) - labels - allowed)
    if odd:
        return f"tensor {odd[0][:40]!r} is missing or belongs to no row"
    for name, tensor in tensors.items():
        queries = index.queries[int(name.rpartition(".")[2])]
        if tensor.dtype not in _TYPES or tensor.shape != (queries.n,):
            return f"tensor {name!r} is not {queries.n} numbers of classes"
    return None


_SIDES = ("merge", "ensemble")


def _score(index: _Index, tensors: Mapping[str, Tensor], number: int, at: int) -> TaskScore:
    merged, ensembled = (tensors.get(f"{side}.{number}.{at}") for side in _SIDES)
    return TaskScore(
        index.queries[at].task,
        tensors[f"labels.{at}"].long(),
        None if merged is None else merged.long(),
        None if ensembled is None else ensembled.long(),
        None,
    )
