"""Nobody looks whether other workers still live: what a dead one held stays with it."""

from celery.worker.heartbeat import Heartbeat


def plant() -> None:
    Heartbeat._look_at_others = _look_away  # type: ignore[assignment, method-assign]


def _look_away(_self: Heartbeat, _elapsed: float) -> None:
    pass
