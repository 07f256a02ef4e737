"""Copies of one message: a suspect waits while anything with its id is in hand, so that they are worked in turn."""

from celery.worker.crew import Held


class Twins:
    """Counts what is in hand of each id, and keeps the suspects that wait for an id."""

    def __init__(self) -> None:
        self._in_hand: dict[str, int] = {}
        self._waiting: list[Held] = []

    def holds_back(self, suspect: Held) -> bool:
        """Keep `suspect` waiting if its id is in hand."""
        if suspect.delivery.task_id not in self._in_hand:
            return False
        self._waiting.append(suspect)
        return True

    def enter(self, held: Held) -> None:
        """Note that a job is in hand."""
        task_id = held.delivery.task_id
        self._in_hand[task_id] = self._in_hand.get(task_id, 0) + 1

    def leave(self, held: Held) -> Held | None:
        """Note that a job is done with; return the suspect that is next, in hand from now on."""
        task_id = held.delivery.task_id
        self._in_hand[task_id] -= 1
        if self._in_hand[task_id]:
            return None
        del self._in_hand[task_id]
        following = next((one for one in self._waiting if one.delivery.task_id == task_id), None)
        if following:
            self._waiting.remove(following)
            self.enter(following)
        return following

    def let_all_go(self) -> list[Held]:
        """Return all that waited, in hand from now on."""
        waiting, self._waiting = self._waiting, []
        for held in waiting:
            self.enter(held)
        return waiting
