"""How much waits in a queue of the database, in a time that does not grow with the queue."""

from typing import Final

from celery.broker.store.base import READY, Store
from celery.broker.store.statements import now

#: Below the smallest rank that a row can have.
NO_RANK: Final = -(2**15) - 1
#: Ranks that are looked at for the oldest message: more different priorities are hardly in use.
MOST_RANKS: Final = 20


def ready(keeper: Store, queue: str, *, limit: int) -> tuple[int, float | None]:
    """Return how many messages are ready in `queue`, at most `limit`, and the age of the oldest in seconds."""
    which = f"{keeper.through('celery_message_ready')} WHERE queue = %s AND {READY}"
    statement = f"SELECT COUNT(*) FROM (SELECT 1 AS one FROM {which} LIMIT %s) AS counted"
    count = int(keeper.rows(statement, [queue, limit])[0][0])
    return count, _age(keeper, which, queue) if count else None


def _age(keeper: Store, which: str, queue: str) -> float | None:
    """Return the age of the oldest by the index of ready messages: the first of each rank came first."""
    statement = f"SELECT rank, created_at FROM {which} AND rank > %s ORDER BY rank, id LIMIT 1"
    rank, moments = NO_RANK, []
    for _ in range(MOST_RANKS):
        found = keeper.rows(statement, [queue, rank])
        if not found:
            break
        rank = found[0][0]
        moments.append(keeper.read_moment(found[0][1]))
    ages = [(now() - moment).total_seconds() for moment in moments if moment]
    return max(*ages, 0.0) if ages else None
