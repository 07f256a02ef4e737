"""What the supervisor has to start, and when: at once, or after a pause that grows while lives are short."""

import time
from typing import Final

#: A process that lives shorter than this is started again only after a pause.
SHORT_LIFE: Final = 1.0
LONGEST_PAUSE: Final = 10.0
#: Short lives in a row after which the pause grows no more.
MOST_DOUBLED: Final = 10

Key = tuple[str, int]


class Restarts:
    """The processes that are missing, by role and index."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._short_lives: dict[Key, int] = {}

    def __bool__(self) -> bool:
        return bool(self._due)

    def next_at(self) -> float:
        """Return the moment of the next start, endlessly far if there is none."""
        return min(self._due.values(), default=float("inf"))

    def pause(self, role: str, index: int) -> float:
        """Return the seconds until this process is to be started. Raises KeyError if it is not."""
        return self._due[role, index] - time.monotonic()

    def take(self) -> Key | None:
        """Return a process that is to be started now, and forget it."""
        now = time.monotonic()
        due = next((key for key, at in self._due.items() if at <= now), None)
        if due:
            del self._due[due]
        return due

    def soon(self, role: str, index: int = 0, *, after: float = 0.0) -> None:
        """Have a process started after so many seconds."""
        self._due[role, index] = time.monotonic() + after

    def follow(self, role: str, index: int, *, life: float) -> None:
        """Have a successor started of a process that lived for `life` seconds."""
        key = (role, index)
        short = self._short_lives.get(key, 0) + 1 if life < SHORT_LIFE else 0
        self._short_lives[key] = short
        self.soon(role, index, after=min(0.1 * 2.0 ** min(short, MOST_DOUBLED), LONGEST_PAUSE) if short > 1 else 0.0)

    def forget(self, *, but: str = "") -> None:
        """Start nothing any more, except for processes of the role `but`."""
        self._due = {key: at for key, at in self._due.items() if key[0] == but}
