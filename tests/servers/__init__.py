"""Private servers for tests, benchmarks and the demonstration.

Each server gets free ports, data of its own under a temporary folder and, when we are root, its own system user.
Nothing here touches a server that is already on the machine. Only the standard library is used, so that this runs
before anything is installed.

    from tests.servers import postgresql

    with postgresql.running() as server:
        connect(server.url)

A new kind of server is one file with a subclass of ``base.Server``, and one line in ``KINDS``.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tests.servers import mariadb, memcached, postgresql, rabbitmq, redis
from tests.servers.install import ensure_installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.servers.base import Server

KINDS: dict[str, type[Server]] = {
    kind.name: kind
    for kind in (mariadb.MariaDB, memcached.Memcached, postgresql.PostgreSQL, rabbitmq.RabbitMQ, redis.Redis)
}


@contextmanager
def running(names: Sequence[str] = tuple(KINDS)) -> Iterator[list[Server]]:
    """Run the named servers, started side by side, until the block ends."""
    kinds = [KINDS[name] for name in names]
    ensure_installed(kinds)
    with ExitStack() as stack:
        servers = [kind() for kind in kinds]
        for server in servers:
            stack.callback(server.discard)
        start_together(servers)
        yield servers


def start_together(servers: Sequence[Server]) -> None:
    """Start all of them, then wait for all: the slowest one sets the pace."""
    for server in servers:
        server.launch()
    for server in servers:
        server.wait_until_ready()


def environment_of(servers: Sequence[Server]) -> dict[str, str]:
    """Return the environment variables by which tests find these servers."""
    return {server.variable: server.url for server in servers}
