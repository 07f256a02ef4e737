"""What migrations do on one kind of database alone."""

from collections.abc import Sequence
from typing import Any

from django.db import router
from django.db.migrations.operations.base import Operation


class OnVendor(Operation):
    """Executes statements on databases of one vendor, as Django calls it, and does nothing on others."""

    vendor = ""
    reversible = True

    def __init__(self, forwards: Sequence[str], backwards: Sequence[str] = ()) -> None:
        self.forwards = forwards
        self.backwards = backwards

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002 - Django's signature
        self._execute(self.forwards, app_label, schema_editor)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002 - the same
        self._execute(self.backwards, app_label, schema_editor)

    def _execute(self, statements: Sequence[str], app_label: str, schema_editor: Any) -> None:
        connection = schema_editor.connection
        if connection.vendor == self.vendor and router.allow_migrate(connection.alias, app_label):
            for statement in statements:
                schema_editor.execute(self.adapted(statement, connection), params=None)

    def adapted(self, statement: str, connection: Any) -> str:  # noqa: ARG002 - for those that have to ask it
        """Return `statement` as this very database takes it."""
        return statement


class OnMysql(OnVendor):
    """Executes statements on MariaDB and MySQL.

    Where a statement says ``{exact}`` it gets the collation that tells all texts apart. These databases commit each of
    their statements, so each has to be one that can be repeated.
    """

    vendor = "mysql"

    def describe(self) -> str:
        return "Adapts tables to MariaDB and MySQL"

    def adapted(self, statement: str, connection: Any) -> str:
        """Name the collation. Both compare code by code, and without filling up with spaces."""
        return statement.format(exact="utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin")


class OnPostgresql(OnVendor):
    """Executes statements on PostgreSQL."""

    vendor = "postgresql"

    def describe(self) -> str:
        return "Adapts tables to PostgreSQL"
