"""What a client holds that a record can be made of, and what is known of it beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neulig_fl.client import experts
from neulig_fl.config.scenario import Client, Scenario
from neulig_fl.data.query_sets import Block, blocks
from neulig_fl.merging import fisher, gram, trimming
from neulig_fl.models import checkpoints, outputs
from neulig_fl.records import kinds, offset_sum
from neulig_fl.records.identity import Basis, data_hash
from neulig_fl.records.kinds import Arrays, Dimensions, Request, share_of
from neulig_fl.records.kinds.task_vector import difference
from neulig_fl.records.release_plan import Setting
from neulig_fl.records.secagg.requests import image_ids


class Owner(Protocol):
    """The client whose the holdings are."""

    @property
    def scenario(self) -> Scenario:
        """The client's own copy."""
        ...

    @property
    def seed(self) -> int:
        """The seed of this run."""
        ...

    @property
    def name(self) -> str:
        """The client's name in the scenario."""
        ...

    @property
    def client(self) -> Client:
        """The client's entry in the scenario."""
        ...

    @property
    def setting(self) -> Setting:
        """The scenario's tasks and model."""
        ...

    def encoder(self, group: str) -> tuple[nn.Module, bool]:
        """The client's expert, and whether it was trained just now."""
        ...


class ClientHoldings:
    """What a client's records are made of; nothing is loaded before the gate asks for it.

    Args:
        handler: whose they are.
        request: what is asked for.
        payload: the queries' images, when they travel by value.
    """

    def __init__(self, handler: Owner, request: Request, payload: bytes | memoryview) -> None:
        self._handler = handler
        self._request = request
        self._payload = payload

    @cached_property
    def _blocks(self) -> Sequence[Block]:
        handler, asked = self._handler, self._request
        if asked.queries is None:
            return []
        found = blocks(
            handler.scenario, handler.setting.tasks, asked.queries, asked.group, asked.fraction
        )
        if asked.kind == "inputs":
            return [b for b in found if b.owner == handler.name]
        return found

    def fault(self) -> str | None:
        """What is wrong with queries that came by value; None when nothing is.

        A policy allows the scenario's queries, not any: so many images and no more, and none
        where the queries travel by reference.
        """
        asked, came = self._request, len(self._payload)
        output = kinds.load(asked.kind).output
        training = output and asked.queries == "train"
        by_value = training or (output and self._handler.scenario.queries.travel == "value")
        if not by_value:
            return "the scenario's queries travel by reference" if came else None
        allowed = sum(block.rows for block in self._blocks) * 3 * self._size**2
        if came == allowed or (training and 0 < came < allowed and came % (3 * self._size**2) == 0):
            return None
        return f"the queries that came are {came} bytes; the scenario's are {allowed}"

    @property
    def rows(self) -> int:
        """Rows of the record: queries, or 1."""
        if self._request.queries is None:
            return 1
        if len(self._payload):
            return len(self._payload) // (3 * self._size**2)
        return sum(b.rows for b in self._blocks)

    @property
    def rows_by_task(self) -> dict[str, int]:
        """Queries of each task, in the order of the record's rows; none without queries."""
        return {block.task.name: block.rows for block in self._blocks if block.owner is None}

    @property
    def images_by_task(self) -> dict[str, list[str] | None]:
        """Content ids of each task's images; None where the server sends what it likes."""
        return image_ids(self._handler.scenario, [b for b in self._blocks if b.owner is None])

    @property
    def sent_images(self) -> str:
        """SHA-256 of the images that came by value; empty where none did."""
        return hashlib.sha256(self._payload).hexdigest() if len(self._payload) else ""

    @property
    def sizes(self) -> Dimensions:
        """What the record's shapes follow from."""
        return self._handler.setting.sizes

    @property
    def _size(self) -> int:
        return self._handler.setting.family.image_size

    @cached_property
    def data_hash(self) -> str:
        """Identifies the expert and the images that it is asked about, whatever they are called."""
        measured = kinds.load(self._request.kind).measured
        asked = [self._measured_on] if measured else self._blocks
        return data_hash(
            self._handler.setting, self.expert, self._request.kind, asked, self._payload
        )

    @property
    def record_hash(self) -> str:
        """Identifies all that the record's numbers follow from besides its kind and shape."""
        basis = Basis(self._request.kind, self.data_hash, self._blocks, self._measured_on.task)
        return basis.record_hash(self._handler.setting)

    @cached_property
    def expert(self) -> str:
        """Identifies the expert: its checkpoint's hash, or what it is trained by."""
        handler, group = self._handler, self._request.group
        given = experts.checkpoint(handler.client, group)
        if given is not None:
            return checkpoints.identity(Path(given), experts.prefix(handler.client, group))
        task = handler.setting.tasks[handler.client.task]
        return experts.recipe(
            handler.scenario, handler.client, group, handler.setting.family, task, handler.seed
        ).key

    def _images(self) -> NDArray[np.uint8]:
        """The queries' images, uint8 of shape (rows, 3, size, size)."""
        shape = (self.rows, 3, self._size, self._size)
        if len(self._payload):
            return np.frombuffer(self._payload, dtype=np.uint8).reshape(shape)
        parts = [block.pixels(self._handler.setting.family.resize) for block in self._blocks]
        return np.concatenate(parts) if parts else np.zeros(shape, np.uint8)

    def _encoder(self) -> nn.Module:
        return self._handler.encoder(self._request.group)[0]

    def _features(self) -> torch.Tensor:
        return outputs.encode(self._encoder(), self._images(), self._handler.setting.family)

    def inputs(self) -> Arrays:
        """The client's own training queries."""
        labels = [block.labels() for block in self._blocks]
        return {"images": self._images(), "labels": np.concatenate(labels)}

    def offset_sum(self) -> Arrays:
        """The rounded sum of all floating entries; BatchNorm's statistics are among them."""
        shared = self._handler.scenario.experts.origin == "shared"
        start = offset_sum.entry_sum(self.start()) if shared else 0.0
        own = offset_sum.entry_sum(self.parameters())
        return {"sum": np.array([offset_sum.rounded(own, start)])}

    def features(self) -> Arrays:
        """The expert's features of the queries."""
        return {"features": self._features().numpy()}

    def logits(self) -> Arrays:
        """The expert's logits of the queries, over the classes of all tasks."""
        setting = self._handler.setting
        features = self._features()
        heads = [
            setting.family.head(t.source.class_names, t.source.templates)
            for t in setting.tasks.values()
        ]
        return {"logits": outputs.classify(features, torch.cat(heads)).numpy()}

    def parameters(self) -> Arrays:
        """Every floating state-dict entry."""
        return _floating(self._encoder())

    def task_vector(self) -> Arrays:
        """The difference of every floating entry to that of the common checkpoint."""
        return difference(self.parameters(), self.start())

    def trimmed_task_vector(self) -> Arrays:
        """As much of it as is asked for."""
        return trimming.trimmed(self.task_vector(), self._request.fraction)

    def gram(self) -> Arrays:
        """Gram matrices over the client's own training images."""
        encoder, images, _ = self._examples()
        found: Arrays = dict(gram.measured(encoder, images))
        return found

    def fisher(self) -> Arrays:
        """Diagonal Fisher information over the client's own training images."""
        encoder, images, head = self._examples()
        found: Arrays = dict(fisher.measured(encoder, images, head))
        return found

    def _examples(self) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
        """The encoder, training images as it takes them, and the head of the client's own task.

        As many images as the stage says, drawn from those that the expert was trained on.
        """
        family, own = self._handler.setting.family, self._measured_on
        source, images = own.task.source, family.normalise(own.pixels(family.resize))
        return self._encoder(), images, family.head(source.class_names, source.templates)

    @property
    def _measured_on(self) -> Block:
        """The training images that statistics are measured on."""
        handler, asked = self._handler, self._request
        share = share_of(handler.scenario, asked)
        most = kinds.examples(share) if share else None
        task = handler.setting.tasks[handler.client.task]
        return Block(task, task.indices(f"train-{asked.group}", most))

    def start(self) -> Arrays:
        """Every floating entry of the checkpoint that all experts start from."""
        return _floating(self._handler.setting.family.encoder())


def _floating(encoder: nn.Module) -> Arrays:
    state = encoder.state_dict()
    return {k: v.numpy() for k, v in state.items() if v.is_floating_point()}
