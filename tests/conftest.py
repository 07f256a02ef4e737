"""Fixtures for every kind of test."""

import os

import pytest


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """The address of the private PostgreSQL."""
    return _address_of_server("PostgreSQL", "CELERY_TEST_POSTGRES_URL")


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """The address of the private RabbitMQ."""
    return _address_of_server("RabbitMQ", "CELERY_TEST_AMQP_URL")


@pytest.fixture(scope="session")
def mariadb_url() -> str:
    """The address of the private MariaDB."""
    return _address_of_server("MariaDB", "CELERY_TEST_MARIADB_URL")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The address of the private Redis, without a database number."""
    return _address_of_server("Redis", "CELERY_TEST_REDIS_URL")


@pytest.fixture(scope="session")
def memcached_address() -> str:
    """Host and port of the private memcached."""
    return _address_of_server("memcached", "CELERY_TEST_MEMCACHED_ADDRESS")


def _address_of_server(name: str, variable: str) -> str:
    """Read an address; a server that is missing fails the tests in CI and skips them elsewhere."""
    address = os.environ.get(variable)
    if address:
        return address
    reason = f"no {name}: {variable} is not set; 'make test' and 'python -m tests.servers run -- pytest' set it"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
