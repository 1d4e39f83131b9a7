"""What the server knows: every record that a client released, and nothing else of a client's.

What an earlier stage released stays known. Pool and evaluation inputs and labels are the server's
own; training inputs are here only when their owners released them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neulig_fl.config.values import MIXED_KINDS, MODEL_KINDS, TRIMMED
from neulig_fl.core.cache_folder import cache_dir
from neulig_fl.data.query_sets import Block, class_columns
from neulig_fl.merging import trimming
from neulig_fl.merging.inference import ExpertStack, mapped
from neulig_fl.models.outputs import classify, encode
from neulig_fl.records import kinds
from neulig_fl.records.grants import Grants, Key
from neulig_fl.records.kinds import Arrays, Request
from neulig_fl.records.kinds.task_vector import moved
from neulig_fl.records.release_plan import Setting


@dataclass(frozen=True)
class Questions:
    """The queries of one block as the server has them.

    Args:
        task: their task.
        images: uint8 (queries, 3, size, size).
        labels: (queries,) int64, in the task's own classes.
    """

    task: str
    images: NDArray[np.uint8]
    labels: Tensor


class ReleasedRecords(Grants):
    """The server's memory over the stages of one run: who released what, and the records.

    Args:
        setting: the scenario, with its tasks and model opened.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.scenario, setting.tasks)
        self.setting = setting
        self.outputs: dict[Key, dict[str, Tensor]] = {}
        self.answers: dict[Key, dict[str, Arrays]] = {}
        self.sums: dict[str, dict[str, float]] = {}
        self.inputs: dict[str, dict[str, Arrays]] = {}
        self.stacks: dict[str, ExpertStack] = {}
        self.statistics: dict[Key, dict[str, Arrays]] = {}
        self.bytes: dict[Key, int] = {}
        self.summed: dict[tuple[object, ...], Any] = {}
        """What secure sums gave, by what was asked (`server.secagg.rounds`)."""
        self._models: dict[tuple[str, str], tuple[Key, int]] = {}
        self._questions: dict[tuple[object, ...], list[Questions]] = {}
        self._at_start: dict[int, tuple[Questions, Tensor]] = {}
        self._heads: dict[str, Tensor] = {}

    def take(self, client: str, request: Request, arrays: Arrays, size: int) -> None:
        """Remember one record.

        Args:
            client: whose.
            request: what was asked.
            arrays: the record.
            size: bytes of its payload.
        """
        key = (request.group, request.kind, request.queries)
        self.bytes[key] = self.bytes.get(key, 0) + size
        if request.kind in MODEL_KINDS:  # a client's last model takes the place of the one before
            before, less = self._models.get((request.group, client), (key, 0))
            self.bytes[before] -= less
            self._models[(request.group, client)] = (key, size)
        if request.fraction != self.fractions.get(key, 0.0):
            self.outputs.pop(key, None)
            self.answers.pop(key, None)
        self.note(client, key, request.fraction)
        if request.kind in MIXED_KINDS:
            rows = torch.from_numpy(np.array(arrays[request.kind]))
            self.outputs.setdefault(key, {})[client] = rows
        elif kinds.load(request.kind).output:
            self.answers.setdefault(key, {})[client] = _copied(arrays)
        elif request.kind == "offset-sum":
            self.sums.setdefault(request.group, {})[client] = float(arrays["sum"][0])
        elif request.kind == "inputs":
            self.inputs.setdefault(request.group, {})[client] = arrays
        elif kinds.load(request.kind).measured:
            self.statistics.setdefault(key, {})[client] = _copied(arrays)
        elif request.kind in ("task-vector", TRIMMED):
            shapes, start = self.setting.family.entries(), self.setting.family.encoder()
            vector = trimming.restored(arrays, shapes) if request.kind == TRIMMED else arrays
            known = {name: value.numpy() for name, value in start.state_dict().items()}
            self._stack(request.group).put(client, moved(known, vector))
        else:
            self._stack(request.group).put(client, arrays)

    def _stack(self, group: str) -> ExpertStack:
        if group not in self.stacks:
            shapes, most = self.setting.family.entries(), self.setting.scenario.merging.stack_mib
            entries = sum(math.prod(shape) for shape in shapes.values())
            folder, most = cache_dir() / "stacks", most and most * 2**20
            matrix = mapped.zeros(len(self.clients), entries, folder, most)
            self.stacks[group] = ExpertStack(shapes, self.clients, matrix)
        return self.stacks[group]

    def questions(self, group: str, queries: str) -> list[Questions]:
        """The queries that the known outputs answer, block by block."""
        return self.questions_at(group, queries, self.fraction(group, queries))

    def questions_at(self, group: str, queries: str, fraction: float) -> list[Questions]:
        """Images and labels of a share of a query set, block by block.

        The server's own, or those that their owners released for `train`.
        """
        owners = tuple(self.inputs.get(group, {})) if queries == "train" else ()
        place = (group if queries == "train" else None, queries, fraction, owners)
        if place not in self._questions:
            mine = self.blocks(group, queries, fraction)
            self._questions[place] = self._opened(group, mine)
        return self._questions[place]

    def _opened(self, group: str, mine: Sequence[Block]) -> list[Questions]:
        resize = self.setting.family.resize
        found = []
        for block in mine:
            if block.owner is None:
                images, labels = block.pixels(resize), block.labels()
            else:
                record = self.inputs[group][block.owner]
                # The owner gave its first queries in order; outputs may be asked on fewer of them.
                images = np.asarray(record["images"], dtype=np.uint8)[: block.rows]
                labels = np.asarray(record["labels"], dtype=np.int64)[: block.rows]
            found.append(Questions(block.task.name, images, torch.from_numpy(np.array(labels))))
        return found

    def at_start(self, questions: Sequence[Questions]) -> list[Tensor]:
        """Features that theta_0 gives of some queries, block by block, (queries, dim)."""
        if any(id(question) not in self._at_start for question in questions):
            encoder = self.setting.family.encoder()
            for question in questions:
                features = encode(encoder, question.images, self.setting.family)
                self._at_start[id(question)] = (question, features)
        return [self._at_start[id(question)][1] for question in questions]

    def outputs_at_start(self, questions: Sequence[Questions]) -> list[Tensor]:
        """Outputs of theta_0, in the kind that Portland reads: features, or all classes' logits."""
        features = self.at_start(questions)
        if self.kind == "features":
            return features
        head = torch.cat(list(self._all_heads.values()))
        return [classify(each, head) for each in features]

    def stacked(self, group: str, queries: str, experts: Sequence[str]) -> list[Tensor]:
        """The experts' outputs, block by block, (queries, experts, dim)."""
        known = self.outputs[(group, self.kind, queries)]
        together = torch.stack([known[name] for name in experts], dim=1)
        rows = [len(q.labels) for q in self.questions(group, queries)]
        return list(together.split(rows))

    def head(self, task: str) -> Tensor:
        """The head that scores a task's queries: its own, or all tasks' in the union space."""
        heads = self._all_heads
        if self.setting.scenario.portland.label_space == "union":
            return torch.cat(list(heads.values()))
        return heads[task]

    @property
    def _all_heads(self) -> dict[str, Tensor]:
        """Every task's own head, in the order of the union's classes."""
        if not self._heads:
            self._heads = {
                name: self.setting.family.head(t.source.class_names, t.source.templates)
                for name, t in self.setting.tasks.items()
            }
        return self._heads

    def scored(self, task: str, features: Tensor) -> Tensor:
        """Logits of a task's queries from an encoder's features, (queries, competing classes)."""
        return classify(features, self.head(task))

    def columns(self, task: str) -> slice | None:
        """The classes that compete among union logits; None for all of them."""
        if self.setting.scenario.portland.label_space == "union":
            return None
        return class_columns(self.setting.tasks)[task]

    def targets(self, question: Questions) -> Tensor:
        """True classes in the label space, (queries,)."""
        if self.setting.scenario.portland.label_space == "task":
            return question.labels
        first: int = class_columns(self.setting.tasks)[question.task].start
        return question.labels.add(first)

    def head_for_outputs(self, task: str) -> Tensor | None:
        """The head to apply to mixed outputs; None when the outputs are logits already."""
        return self.head(task) if self.kind == "features" else None


def _copied(arrays: Arrays) -> Arrays:
    """Arrays of their own: those of a record are views of its payload."""
    return {name: np.array(array) for name, array in arrays.items()}
