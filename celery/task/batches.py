"""Many messages of one task: published in batches, each confirmed before the next is made."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from celery.message import Message
from celery.result import OpenTransaction, TaskSetResult
from celery.task.sending import BATCH, give


def send_set(task: Any, taskset_id: str, messages: Iterable[Message], total: int) -> TaskSetResult[Any]:
    """Send the `messages` of a task set and return its results to come.

    At most one batch of messages is in memory. Whatever is raised has a note that says how many were sent before it.
    """
    ids: list[str] = []
    sent_in: OpenTransaction | None = None
    pending = iter(messages)
    try:
        while batch := list(islice(pending, BATCH)):
            sent_in = give(batch)
            ids += [message.task_id for message in batch]
    except Exception as error:
        error.add_note(f"Of the {total} subtasks of task set {taskset_id}, the first {len(ids)} were sent.")
        raise
    return TaskSetResult(taskset_id, ids, ignored=getattr(task, "ignore_result", False), sent_in=sent_in)
