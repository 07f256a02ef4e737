"""A worker is declared lost after a lease, although it gives proof of life: its counter is not looked at."""

from celery.worker.heartbeat import Heartbeat


def plant() -> None:
    Heartbeat._look_at_others = _take_all_for_silent  # type: ignore[method-assign]


def _take_all_for_silent(self: Heartbeat, elapsed: float) -> None:
    seen, self._seen = self._seen, {}
    for owner, name, counter, lease in self._store.census():
        if owner == self._owner:
            continue
        silence = seen.get(owner, (counter, -elapsed))[1] + elapsed
        self._seen[owner] = (counter, silence)
        if silence >= lease:
            self._take_over(owner, name, counter)
