"""A soak on servers of its own, from beginning to end."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.integration.places import Place, migrate, opened, sqlite_template
from tests.servers import postgresql, rabbitmq
from tests.servers.rabbitmq import RabbitMQ
from tests.soak import report, verdict
from tests.soak.run import Plan, soak
from tests.soak.sample import Sample


def soak_at(kind: str, tasks: int, reports: Path) -> int:
    """Soak, print and write what came of it, and return the exit code."""
    plan = Plan(tasks=tasks, first=min(10_000, tasks // 3 // 1000 * 1000))
    folder = Path(tempfile.mkdtemp(prefix="celery-soak-"))
    print(f"soak: {kind}, {tasks:,} tasks\n{report.heading()}", flush=True)
    try:
        with _place(kind, folder) as (place, rabbit):
            known = report.facts(place, plan, rabbit)
            outcome = soak(place, plan, rabbit, _tell)
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        raise
    except (AssertionError, ProcessLookupError):
        print(f"  the worker's log: {folder}", flush=True)
        raise
    found = verdict.bounds(outcome, plan)
    print(report.summary(outcome, plan, found))
    report.write(reports / f"{kind}.json", known, outcome, found)
    if not all(bound.is_kept for bound in found):
        print(f"  the worker's log: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _tell(sample: Sample) -> None:
    print(report.line(sample), flush=True)


@contextmanager
def _place(kind: str, folder: Path) -> Iterator[tuple[Place, RabbitMQ | None]]:
    with ExitStack() as stack:
        rabbit = stack.enter_context(rabbitmq.running()) if kind == "rabbitmq" else None
        if kind == "sqlite":
            database = str(sqlite_template(folder))
        else:
            server = stack.enter_context(postgresql.running())
            migrate(server.url)
            database = server.url
        place = Place(kind=kind, database=database, broker_url=rabbit.url if rabbit else "django://", folder=folder)
        yield stack.enter_context(opened(place)), rabbit
