"""The kinds of tasks that a run sends, and what each is bound to come to: known to the producer and to the checker."""

from dataclasses import dataclass
from typing import Final

DONE: Final = "DONE"
FAILURE: Final = "FAILURE"
WORKER_LOST: Final = "WorkerLost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What becomes of a task of this kind when nothing hits it."""

    name: str
    #: The exception that it fails with; none: it is DONE, with its own token.
    error: str = ""
    #: False: no row tells that it is DONE.
    is_stored: bool = True
    is_at_most_once: bool = False
    #: Its failure is stored by those who saw its process end: no execution of it has a result.
    is_told_by_others: bool = False

    @property
    def state(self) -> str:
        return FAILURE if self.error else DONE

    @property
    def is_awaited(self) -> bool:
        """Whether a stored result follows for certain."""
        return self.is_stored and not self.is_at_most_once


_ALL: Final = (
    Kind(name="work"),
    Kind(name="quiet", is_stored=False),
    Kind(name="once", is_at_most_once=True),
    Kind(name="retry"),
    Kind(name="auto_retry"),
    Kind(name="broken", error="BrokenError"),
    Kind(name="leave", error="SystemExit"),
    Kind(name="interrupt", error="KeyboardInterrupt"),
    Kind(name="poison", error=WORKER_LOST, is_told_by_others=True),
    Kind(name="poison_at_most_once", error=WORKER_LOST, is_at_most_once=True, is_told_by_others=True),
    Kind(name="poison_once"),
    Kind(name="overrun", error="TimeLimitExceeded", is_told_by_others=True),
    Kind(name="parent"),
    Kind(name="rare"),
)

KINDS: Final = {kind.name: kind for kind in _ALL}
