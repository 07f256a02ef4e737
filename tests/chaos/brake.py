"""The brake: producers pause while too much waits, so that what is sent is what workers under faults can do.

It is a file beside the history; producers look for it before each move, workers know nothing of it.
"""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.chaos.history import Event, Reader

#: Tasks without a final result above which producers pause, and below which they go on.
MOST, FEWEST = 2000, 1000
SECONDS_BETWEEN_LOOKS: Final = 0.25
FINAL: Final = frozenset({"DONE", "FAILURE"})


def file_beside(history: str | Path) -> Path:
    return Path(history).with_name("brake")


def is_on() -> bool:
    """Tell a producer whether it has to pause."""
    return file_beside(os.environ.get("CHAOS_HISTORY", os.devnull)).exists()


class Brake:
    """Follows the history in a thread of its own; as a context manager. Afterwards the brake is off."""

    def __init__(self, history: Path) -> None:
        self._reader = Reader(history)
        self._file = file_beside(history)
        self._waiting: set[str] = set()
        self._early: set[str] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="brake", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._file.unlink(missing_ok=True)

    def look(self) -> None:
        """Take in what is new, and brake or let go."""
        for event in self._reader.news():
            if event["event"] == "confirmed":
                self._note_confirmed(event)
            elif event["event"] == "settled" and event["state"] in FINAL:
                self._note_settled(event["id"])
        if len(self._waiting) > MOST:
            self._file.touch()
        elif len(self._waiting) < FEWEST:
            self._file.unlink(missing_ok=True)

    def _follow(self) -> None:
        while not self._is_over.wait(SECONDS_BETWEEN_LOOKS):
            self.look()

    def _note_confirmed(self, event: Event) -> None:
        if event.get("awaited", True):
            ids = {task_id for task_id, _token in event["pairs"]}
            self._waiting |= ids - self._early
            self._early -= ids

    def _note_settled(self, task_id: str) -> None:
        """Who sends notes it only when it is back from sending: the worker may have been faster."""
        if task_id in self._waiting:
            self._waiting.remove(task_id)
        else:
            self._early.add(task_id)
