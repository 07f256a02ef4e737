"""The stand-in for Tokyo Tyrant that holds results in contracts: the fixture of `test_backends`."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from celery.backends.tyrant import Backend
from tests.tyrant.records import HASH
from tests.tyrant.stand_in import StandIn


@pytest.fixture
def tyrant_server() -> Iterator[StandIn]:
    """An empty server with a hash database."""
    with StandIn(HASH) as server:
        yield server


@pytest.fixture
def tyrant_backend(tyrant_server: StandIn, settings: Settings) -> Backend:
    """Results in that server."""
    settings.CELERY_BACKEND = "tyrant"
    settings.TT_HOST = "127.0.0.1"
    settings.TT_PORT = tyrant_server.port
    settings.CELERY_TT_TIMEOUT = 60  # a busy machine is not a silent server
    return Backend()
