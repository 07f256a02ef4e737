"""What a soak came to, as a table for people and as JSON."""

import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
import kombu
import psycopg
from django.db import connections

import celery
from tests.integration.places import Place
from tests.servers.rabbitmq import RabbitMQ
from tests.soak import verdict
from tests.soak.run import CHILDREN, Outcome, Plan
from tests.soak.sample import Sample
from tests.soak.storage import QUEUE, RESULTS
from tests.soak.verdict import KIB, MIB, Bound

HEADER = (
    "tasks",
    "seconds",
    "waiting",
    "PSS",
    "USS",
    "files",
    "threads",
    "conns",
    "queue",
    "indexes",
    "dead",
    "result",
)
UNITS = ("", "", "", "MiB", "MiB", "", "", "", "MiB", "MiB", "rows", "B/row")
WIDTH = 9


def heading() -> str:
    """Return the head of the table."""
    return "\n".join(" ".join(f"{word:>{WIDTH}}" for word in words) for words in (HEADER, UNITS))


def line(sample: Sample) -> str:
    """Return a sample as a line of the table."""
    table = dict(sample.stored.sizes[QUEUE])
    rows = table.pop(QUEUE)
    figures = (
        f"{sample.tasks}",
        f"{sample.seconds:.1f}",
        f"{sample.waiting}",
        f"{sample.total('pss') / KIB:.1f}",
        f"{sample.total('uss') / KIB:.1f}",
        f"{sample.total('descriptors')}",
        f"{sample.total('threads')}",
        f"{sample.stored.connections}",
        f"{rows / MIB:.1f}",
        f"{sum(table.values()) / MIB:.1f}",
        f"{sample.stored.dead.get(QUEUE, 0)}",
        f"{sum(sample.stored.sizes[RESULTS].values()) / sample.stored.rows:.0f}" if sample.stored.rows else "-",
    )
    return " ".join(f"{figure:>{WIDTH}}" for figure in figures) + (f"  {sample.label}" if sample.label else "")


def summary(outcome: Outcome, plan: Plan, bounds: Sequence[Bound]) -> str:
    """Return the last lines: the pace, and what was not kept."""
    broken = [bound for bound in bounds if not bound.is_kept]
    pace = f"{plan.tasks:,} tasks in {outcome.seconds:.1f} s, {plan.tasks / outcome.seconds:,.0f}/s"
    judged = f"{len(bounds) - len(broken)} of {len(bounds)} bounds kept"
    return "\n".join([f"{pace}; {judged}", *(f"  GREW  {bound}" for bound in broken)])


def facts(place: Place, plan: Plan, rabbitmq: RabbitMQ | None) -> dict[str, Any]:
    """Return what has to be known to read the figures."""
    connection = connections[place.alias]
    found: dict[str, Any] = {
        "celery": celery.__version__,
        "Python": platform.python_version(),
        "Django": django.__version__,
        "kombu": kombu.__version__,
        "psycopg": psycopg.__version__,
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 1),
        "database": f"SQLite {sqlite3.sqlite_version}",
    }
    if connection.vendor == "postgresql":
        found["database"] = f"PostgreSQL {_shown(place, 'server_version')}"
        found["autovacuum_naptime"] = _shown(place, "autovacuum_naptime")
    if rabbitmq:
        found["broker"] = f"RabbitMQ {rabbitmq.ctl('version').strip()}"
    return {"when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "children": CHILDREN, "plan": asdict(plan)} | found


def _shown(place: Place, name: str) -> str:
    with connections[place.alias].cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])


def write(path: Path, known: dict[str, Any], outcome: Outcome, bounds: Sequence[Bound]) -> None:
    """Write all of it to `path`."""
    names = ("MEMORY", "PAGE_CACHE", "PAGES", "LOG", "UNVACUUMED", "STANDING", "STANDING_IN_INDEX", "BYTES_A_RESULT")
    tolerances = {name: getattr(verdict, name) for name in names}
    content = {
        "facts": known,
        "passed": all(bound.is_kept for bound in bounds),
        "tolerances": tolerances,
        "bounds": [asdict(bound) for bound in bounds],
        "outcome": asdict(outcome),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
