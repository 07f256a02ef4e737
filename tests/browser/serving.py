"""The shop's site, static files too, in a thread of this process, under the strictest policy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import override_settings
from django.test.testcases import LiveServerThread

from tests.browser import policy

HOST = "127.0.0.1"
LONGEST_ANSWER = 5.0


@contextmanager
def serving() -> Iterator[str]:
    """Serve until the block ends, and yield the address."""
    in_memory = [one for one in connections.all() if isinstance(one, DatabaseWrapper) and one.is_in_memory_db()]
    for connection in in_memory:
        connection.inc_thread_sharing()
    thread = LiveServerThread(HOST, StaticFilesHandler, connections_override={one.alias: one for one in in_memory})
    thread.daemon = True
    try:
        with override_settings(MIDDLEWARE=[policy.NAME, *settings.MIDDLEWARE]):  # read when the thread starts
            thread.start()
            thread.is_ready.wait()
        if thread.error:
            raise thread.error
        yield f"http://{HOST}:{thread.port}"
    finally:
        _await_last_answers()
        thread.terminate()
        for connection in in_memory:
            connection.dec_thread_sharing()


def _await_last_answers() -> None:
    """Wait for the threads whose browser has gone, so that their sockets are closed."""
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(LONGEST_ANSWER)
