"""Tells listeners what happened in the steward, in a thread of its own: a slow one must not delay the proof of life."""

import queue
import threading
from collections.abc import Callable
from typing import Any, Final

from celery import signals
from celery.worker.connections import drop_connections

#: Seconds that the listeners to the last events get when the worker stops.
ANNOUNCE_TIMEOUT: Final = 2.0

#: Takes the name of a signal, and what goes with it.
Announce = Callable[[str, dict[str, Any]], None]


def announce(name: str, facts: dict[str, Any]) -> None:
    """Send the signal called `name` here and now."""
    signals.notify(getattr(signals, name), **facts)


class Announcer(threading.Thread):
    """Sends one signal after another."""

    def __init__(self) -> None:
        super().__init__(name="announcer", daemon=True)
        self._events: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = queue.SimpleQueue()

    def put(self, name: str, facts: dict[str, Any]) -> None:
        """Have the signal called `name` sent soon."""
        self._events.put((name, facts))

    def run(self) -> None:
        """Send until there is no more to come."""
        while event := self._events.get():
            announce(*event)
        drop_connections()

    def stop(self) -> None:
        """Send what is left, for a moment at most."""
        self._events.put(None)
        self.join(timeout=ANNOUNCE_TIMEOUT)
