"""A result backend that keeps results in a dictionary, for tests of what is built on the port."""

from collections.abc import Sequence

from celery.backends.base import BaseBackend, Result


class MemoryBackend(BaseBackend):
    """Keeps results, remembers what it was asked, and refuses to wait if it is told so."""

    def __init__(self) -> None:
        self.rows: dict[str, Result] = {}
        self.refuses: str | None = None
        self.asked: list[Sequence[str]] = []

    def store(self, results: Sequence[Result]) -> set[str]:
        self.rows |= {result.task_id: result for result in results}
        return {result.task_id for result in results}

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        self.asked.append(task_ids)
        return {task_id: self.rows[task_id] for task_id in task_ids if task_id in self.rows}

    def refusal(self) -> str | None:
        return self.refuses
