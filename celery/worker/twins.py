"""Copies of one message: a suspect waits while anything with its id is in hand, so that they are worked in turn."""

from collections.abc import Callable

from celery.worker.crew import Held


class Twins:
    """Knows what is in hand of each id, and keeps the suspects that wait for an id."""

    def __init__(self) -> None:
        self._in_hand: dict[str, list[Held]] = {}
        self._waiting: list[Held] = []

    def holds_back(self, suspect: Held) -> bool:
        """Keep `suspect` waiting if its id is in hand."""
        if suspect.delivery.task_id not in self._in_hand:
            return False
        self._waiting.append(suspect)
        return True

    def enter(self, held: Held) -> None:
        """Note that a job is in hand."""
        self._in_hand.setdefault(held.delivery.task_id, []).append(held)

    def leave(self, held: Held) -> Held | None:
        """Note that a job is done with; return the suspect that is next, in hand from now on."""
        task_id = held.delivery.task_id
        in_hand = self._in_hand[task_id]
        in_hand.remove(held)
        if in_hand:
            return None
        del self._in_hand[task_id]
        following = next((one for one in self._waiting if one.delivery.task_id == task_id), None)
        if following:
            self._waiting.remove(following)
            self.enter(following)
        return following

    def drop_needless(self, parked: Held) -> bool:
        """Let go of a waiting copy that is parked in the row of the one in hand, or has none as others have it."""
        is_needed = parked.delivery.row_id and not self.shares_row(parked)
        if is_needed or parked not in self._waiting:
            return False
        self._waiting.remove(parked)
        return True

    def shares_row(self, one: Held) -> bool:
        """Tell whether the row of a job is that of another copy, too."""
        copies = [*self._in_hand.get(one.delivery.task_id, ()), *self._waiting]
        return any(held is not one and held.delivery.row_id == one.delivery.row_id for held in copies)

    def let_go(self, which: Callable[[Held], bool]) -> list[Held]:
        """Return those that waited of which `which` is true, in hand from now on."""
        leaving = [held for held in self._waiting if which(held)]
        self._waiting = [held for held in self._waiting if held not in leaving]
        for held in leaving:
            self.enter(held)
        return leaving
