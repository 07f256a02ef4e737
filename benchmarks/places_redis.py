"""Places in Redis: a database number for each contender, which is emptied before the run and after it.

Results are keys of their own or fields of one hash; messages wait in a list. The server is one of the run's own, as
Redis is without a configuration file: what a peer's user has. That of the tests puts every write on disk first.
"""

from collections.abc import Sequence
from typing import Any

import redis

from tests.servers.base import HOST
from tests.servers.redis import Redis


class OrdinaryRedis(Redis):
    """Redis with its defaults: a snapshot now and then, and no append-only file."""

    def command(self) -> Sequence[str]:
        """Run the server without a configuration file."""
        return ["redis-server", "--bind", HOST, "--port", str(self.port), "--dir", str(self.data)]


class RedisDatabase:
    """A database number of the run's own."""

    def __init__(self, server: str, number: int) -> None:
        self.url = f"{server}/{number}"
        self.client: Any = redis.Redis.from_url(self.url, decode_responses=True)
        self.clear()

    def clear(self) -> None:
        """Forget all that it holds."""
        self.client.flushdb()

    def remove(self) -> None:
        """Leave nothing on the server."""
        self.clear()
        self.client.close()


class RedisList:
    """A queue whose messages wait in a list. A worker takes a message out before it executes it."""

    def __init__(self, database: RedisDatabase, *, name: str, key: str) -> None:
        self.broker = database.url
        self.name = name
        self._database = database
        self._key = key

    def depth(self) -> int:
        return int(self._database.client.llen(self._key))

    def clear(self) -> None:
        """Empty the whole database: results, locks and schedules go with the messages."""
        self._database.clear()

    def remove(self) -> None:
        self._database.remove()

    def facts(self) -> dict[str, str]:
        self._database.client.ltrim(self._key, 1, -1)  # not read: messages are no text
        return {"message": "an element of a list"}


class RedisKeys:
    """Results that are a key each, in a database that holds nothing else. A task that ran twice has one key."""

    def __init__(self, database: RedisDatabase) -> None:
        self.url = database.url
        self._database = database

    def stored(self) -> int:
        return int(self._database.client.dbsize())

    def good(self) -> int:
        """All of them: a task that cannot fail stores nothing else."""
        return self.stored()

    def clear(self) -> None:
        self._database.clear()


class RedisHash(RedisKeys):
    """Results that are the fields of one hash."""

    def __init__(self, database: RedisDatabase, *, key: str) -> None:
        super().__init__(database)
        self._key = key

    def stored(self) -> int:
        return int(self._database.client.hlen(self._key))


class NoResults:
    """For a product that is set up without any."""

    url = ""

    def stored(self) -> int:
        return 0

    def good(self) -> int:
        return 0

    def clear(self) -> None:
        """There is nothing."""
