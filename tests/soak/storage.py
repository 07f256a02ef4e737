"""What databases and brokers hold: sizes in bytes, rows, connections."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connections

TABLES = ("celery_message", "celery_taskmeta", "celery_worker", "celery_throughput", "celery_queuedepth")
QUEUE, RESULTS = "celery_message", "celery_taskmeta"

#: Each index with its table, and of each table what is not index: rows, maps, texts that are kept apart.
SIZES_ON_POSTGRESQL = """
    SELECT relname, relname, pg_table_size(oid) FROM pg_class WHERE relkind = 'r' AND relname = ANY (%s)
    UNION ALL
    SELECT t.relname, i.relname, pg_relation_size(i.oid) FROM pg_index x
      JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid WHERE t.relname = ANY (%s)
"""
ACTIVITY_ON_POSTGRESQL = """
    SELECT relname, n_dead_tup, autovacuum_count FROM pg_stat_user_tables WHERE relname = ANY (%s)
"""
CONNECTIONS_ON_POSTGRESQL = """
    SELECT count(*) FROM pg_stat_activity
     WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
"""
SIZES_ON_SQLITE = """
    SELECT m.tbl_name, d.name, sum(d.pgsize) FROM dbstat d JOIN sqlite_master m ON m.name = d.name
     WHERE m.tbl_name IN (SELECT value FROM json_each(%s)) GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Sizes by table and by what belongs to it; `rows` of results, `dead` rows and vacuums by table."""

    sizes: dict[str, dict[str, int]]
    rows: int
    connections: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    vacuums: dict[str, int] = field(default_factory=dict)
    #: On SQLite: bytes of the file, of its pages that are free, and of the log beside it.
    file: int = 0
    free: int = 0
    log: int = 0


def stored(alias: str) -> Stored:
    """Ask the database of `alias`."""
    return _ON[connections[alias].vendor](alias)


def _on_postgresql(alias: str) -> Stored:
    tables = list(TABLES)
    activity = _rows(alias, ACTIVITY_ON_POSTGRESQL, tables)
    return Stored(
        sizes=_by_table(_rows(alias, SIZES_ON_POSTGRESQL, tables, tables)),
        rows=_count(alias),
        connections=int(_rows(alias, CONNECTIONS_ON_POSTGRESQL)[0][0]),
        dead={table: dead for table, dead, _ in activity},
        vacuums={table: vacuums for table, _, vacuums in activity},
    )


def _on_sqlite(alias: str) -> Stored:
    ((page,),), ((pages,),), ((free,),) = (
        _rows(alias, f"PRAGMA {name}") for name in ("page_size", "page_count", "freelist_count")
    )
    log = Path(f"{connections[alias].settings_dict['NAME']}-wal")
    return Stored(
        sizes=_by_table(_rows(alias, SIZES_ON_SQLITE, json.dumps(TABLES))),
        rows=_count(alias),
        file=page * pages,
        free=page * free,
        log=log.stat().st_size if log.exists() else 0,
    )


_ON: dict[str, Callable[[str], Stored]] = {"postgresql": _on_postgresql, "sqlite": _on_sqlite}


def _count(alias: str) -> int:
    return int(_rows(alias, f"SELECT count(*) FROM {RESULTS}")[0][0])


def _by_table(rows: list[tuple[Any, ...]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for table, name, size in sorted(rows):
        found.setdefault(table, {})[name] = size
    return found


def _rows(alias: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
