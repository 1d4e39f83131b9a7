"""Voting: every query gets the class that most of the experts name; for answers that do not mix."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from neulig_fl.core.errors import NotAvailable
from neulig_fl.data.sources import Task
from neulig_fl.metrics.evaluation import TaskScore
from neulig_fl.records import kinds
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study.baseline_rows import Row, StageRun, close
from neulig_fl.study.needs import NOBODY, VOTE, voting

NOT_MERGED = "a vote has no merged model"
NO_VOTE = -1
"""What a query is predicted to be when nobody names a class that competes."""


def score(run: StageRun) -> None:
    """Score the plurality vote of all clients that named classes on the evaluation queries.

    It needs no Portland: every client has one vote, for the class that it holds most likely. Of
    equal counts the class wins that the first client in the scenario's order voted for. Where a
    query's task is known, votes for classes that it does not have do not count.
    """
    start = time.perf_counter()
    kind, voters = voting(run.released, run.stage.group)
    row = Row(VOTE, None, voters)
    try:
        row.scores = _scores(run, kind, voters)
        row.bytes = run.released.bytes[(run.stage.group, kind, "evaluation")]
        row.reason = run.released.without(voters)
    except NotAvailable as reason:
        row.reason = str(reason)
    close(run, row, start)


def _scores(run: StageRun, kind: str, voters: tuple[str, ...]) -> list[TaskScore]:
    if not voters:
        raise NotAvailable(NOBODY)
    released, group = run.released, run.stage.group
    place = (group, kind, "evaluation")
    questions = released.questions_at(group, "evaluation", released.fractions[place])
    answers, most_likely = released.answers[place], kinds.load(kind).most_likely
    named = torch.stack([torch.tensor(most_likely(answers[name])) for name in voters], dim=1)
    return [
        TaskScore(
            question.task,
            released.targets(question),
            None,
            plurality(*_competing(released, question.task, votes)),
            None,
            NOT_MERGED,
        )
        for question, votes in zip(
            questions, named.split([len(q.labels) for q in questions]), strict=True
        )
    ]


def _competing(released: ReleasedRecords, task: str, votes: Tensor) -> tuple[Tensor, int]:
    """Votes for the classes that compete, by their own numbers, and how many classes those are.

    Classes of two tasks with one name and one set of prompts are one class to every expert, which
    then names the first of them; so a vote for either counts.
    """
    tasks = released.setting.tasks
    if released.columns(task) is None:
        return votes, released.setting.sizes.classes
    own = {prompt: place for place, prompt in enumerate(_prompts(tasks[task]))}
    meant = [own.get(prompt, NO_VOTE) for each in tasks.values() for prompt in _prompts(each)]
    return torch.tensor(meant)[votes], len(own)


def _prompts(task: Task) -> list[tuple[str, tuple[str, ...]]]:
    """What each class of a task is called, and in which sentences."""
    return [(name, tuple(task.source.templates)) for name in task.source.class_names]


def plurality(votes: Tensor, classes: int) -> Tensor:
    """The class with most votes; of equal ones that of the first voter.

    Args:
        votes: (queries, voters) int64, each 0 ... classes - 1, or -1 for a vote that does not
            count.
        classes: how many classes compete.

    Returns:
        (queries,) int64; -1 where no vote counts.

    Example:
        >>> plurality(torch.tensor([[2, 1, 1], [0, 1, 2], [-1, -1, 2], [-1, -1, -1]]), 3)
        tensor([ 1,  0,  2, -1])
    """
    counted = votes >= 0
    ballots = torch.nn.functional.one_hot(votes.clamp_min(0), classes) * counted[:, :, None]
    totals = ballots.sum(dim=1)
    # Each voter's own class's total; argmax takes the first voter of those with the most.
    behind = torch.where(counted, totals.gather(1, votes.clamp_min(0)), 0)
    first = behind.argmax(dim=1, keepdim=True)
    return votes.gather(1, first).squeeze(1)
