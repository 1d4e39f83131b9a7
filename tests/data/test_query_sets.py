"""Query sets: which inputs are asked about, in which order, and how classes are numbered."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config.scenario import Scenario
from neulig_fl.data import query_sets
from neulig_fl.data.sources import Task


@pytest.fixture(scope="module")
def opened(
    data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Scenario, dict[str, Task]]:
    """The tiny scenario and its tasks."""
    scenario = tiny.scenario(tmp_path_factory.mktemp("queries"), data)
    return scenario, query_sets.open_tasks(scenario, scenario.seed)


Opened = tuple[Scenario, dict[str, Task]]


def test_tasks_stand_once_in_the_order_of_the_clients(opened: Opened) -> None:
    """Without it tables and class numbers would not follow the scenario."""
    scenario, tasks = opened
    assert query_sets.task_names(scenario) == ["first", "second"]
    assert list(tasks) == ["first", "second"]


@pytest.mark.parametrize(("name", "most"), [("pool", 6), ("evaluation", 7)])
def test_public_queries_come_task_by_task(name: str, most: int, opened: Opened) -> None:
    """Without it a task with two clients would be asked twice."""
    found = query_sets.blocks(*opened, name, "A", 1.0)
    assert [(b.task.name, b.owner, b.rows) for b in found] == [
        ("first", None, most),
        ("second", None, most),
    ]
    assert [b.indices.tolist() for b in found] == [
        b.indices.tolist() for b in query_sets.blocks(*opened, name, "B", 1.0)
    ]


def test_training_queries_come_owner_by_owner_and_half_by_half(opened: Opened) -> None:
    """Without it an owner would be asked about somebody else's half."""
    halves = [query_sets.blocks(*opened, "train", group, 1.0) for group in "AB"]
    for found in halves:
        assert [(b.task.name, b.owner, b.rows) for b in found] == [
            ("first", "ada", 5), ("second", "bob", 5), ("first", "cyd", 5)
        ]  # fmt: skip
    for a, b in zip(*halves, strict=True):
        assert not set(a.indices.tolist()) & set(b.indices.tolist())


def test_the_query_sets_share_no_image(opened: Opened) -> None:
    """Without it Portland or an expert would be trained on what accuracy is measured on."""
    seen: set[tuple[str, int]] = set()
    for name, group in (("pool", "A"), ("evaluation", "A"), ("train", "A"), ("train", "B")):
        images = {
            (b.task.name, int(i))
            for b in query_sets.blocks(*opened, name, group, 1.0)
            for i in b.indices
        }
        assert not seen & images
        seen |= images


@given(st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True))
def test_smaller_fractions_are_the_first_part_of_larger_ones(
    opened: Opened, one: float, two: float
) -> None:
    """Without it a second, smaller request would reveal the answers to further queries."""
    few, many = (query_sets.blocks(*opened, "pool", "A", f) for f in sorted((one, two)))
    for small, large in zip(few, many, strict=True):
        assert 1 <= small.rows <= large.rows <= 6
        assert large.indices[: small.rows].tolist() == small.indices.tolist()


def test_classes_of_the_union_stand_task_by_task(opened: Opened) -> None:
    """Without it a class of one task would count as another task's."""
    _, tasks = opened
    assert query_sets.class_count(tasks) == 5
    assert query_sets.class_columns(tasks) == {"first": slice(0, 2), "second": slice(2, 5)}


def test_a_blocks_labels_and_images_belong_together(opened: Opened) -> None:
    """Without it a query would be scored with another one's label."""
    block = query_sets.blocks(*opened, "evaluation", "A", 1.0)[0]
    images, labels = block.pixels(32), block.labels()
    assert len(images) == len(labels) == block.rows
    bright = images.reshape(len(images), -1).mean(axis=1) > 70
    assert bright.tolist() == (labels == 1).tolist()
