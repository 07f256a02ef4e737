"""Databases on the private MariaDB, for tests."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pymysql


@contextmanager
def connected(url: str) -> Iterator["pymysql.Connection[Any]"]:
    """Connect to the server of `url`, beside Django."""
    parts = urlsplit(url)
    with pymysql.connect(
        host=parts.hostname, port=parts.port or 3306, user=parts.username, autocommit=True
    ) as connection:
        yield connection


@contextmanager
def mariadb_database(url: str, purpose: str, options: str = "CHARACTER SET utf8mb4") -> Iterator[str]:
    """Make a database on the server of `url`, and remove it at the end."""
    name = f"{purpose}_{uuid.uuid4().hex}"
    with connected(url) as server, server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} {options}")
    try:
        yield f"{url.rpartition('/')[0]}/{name}"
    finally:
        with connected(url) as server, server.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")
