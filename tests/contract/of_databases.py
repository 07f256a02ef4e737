"""The databases on which contracts are tried in turn.

One joins by a line here and by a fixture called ``<name>_alias``, which returns the alias of a migrated database.
"""

from typing import Any

import pytest

#: For `pytest.fixture(params=...)` and `pytest.mark.parametrize`.
DATABASES: list[Any] = [
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
]

#: Their names alone.
NAMES = frozenset(one if isinstance(one, str) else one.values[0] for one in DATABASES)
