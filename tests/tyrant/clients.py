"""Clients of servers on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

from celery.backends.tyrant.client import Client


@contextmanager
def connected(port: int, *, timeout: float = 30.0) -> Iterator[Client]:
    """Lend a client, and drop its connection at the end."""
    client = Client("127.0.0.1", port, timeout=timeout)
    try:
        yield client
    finally:
        client.drop()
