"""What a result was measured with."""

import platform
import sqlite3
from importlib.metadata import version
from typing import Final

from django.db import connection

from tests.chaos.place import Place

PACKAGES: Final = {"Django": "django", "kombu": "kombu", "amqp": "amqp", "billiard": "billiard"}
DRIVERS: Final = {"postgresql": "psycopg", "mariadb": "PyMySQL"}


def of(place: Place) -> dict[str, str]:
    """Return the versions of everything that a run at this place used, by name."""
    found = {"Python": platform.python_version()}
    found |= {name: version(package) for name, package in PACKAGES.items()}
    if driver := DRIVERS.get(place.database):
        found[driver] = version(driver)
    found |= _of_database(place)
    if place.has_rabbitmq:
        found["RabbitMQ"] = place.servers["rabbitmq"].ctl("--quiet", "version").strip()
    return found | {"kernel": platform.release()}


def _of_database(place: Place) -> dict[str, str]:
    if place.database == "sqlite":
        return {"SQLite": sqlite3.sqlite_version}
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version" if place.database == "postgresql" else "SELECT version()")
        text = str(cursor.fetchone()[0])
    return {{"postgresql": "PostgreSQL", "mariadb": "MariaDB"}[place.database]: text}
