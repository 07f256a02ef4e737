"""The demonstration: a real worker measures every Python source of this environment, and every figure is checked.

    python -m tests.shop.demo [--broker URL] [--database URL] [--children 4] [--keep]

Exit codes: 0 all figures agree, 1 they do not or the worker failed, 2 bad input, 130 Ctrl-C.
"""

import argparse
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import Error as DatabaseError
from django.db import connections
from rich.console import Console
from rich.progress import Progress

from celery.exceptions import CeleryError, SchemaMissing
from celery.exceptions import TimeoutError as NotReadyError
from celery.result import AsyncResult
from tests.shop import report
from tests.shop.analysis import analyse
from tests.shop.daemon import Daemon, DaemonDied
from tests.shop.database_url import database_from
from tests.shop.queues import BrokerUnreachable, check_broker, remove_queue
from tests.shop.sources import Answers, Failure, Figures, answer_for, differences, failure_from, python_files

FEWEST_FILES = 1000
SECONDS_TO_START = 60.0
SECONDS_WITHOUT_A_RESULT = 60.0
SECONDS_BETWEEN_LOOKS = 1.0


class BadInput(Exception):
    """What was asked for cannot be done; the message says what to change."""


class DemoFailed(Exception):
    """The demonstration did not show what it promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line."""

    broker: str
    database: str
    children: int
    keep: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration and return its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            return demonstrate(parse(arguments), stack)
    except (BadInput, SchemaMissing) as exc:
        return complain(exc, code=2)
    except (DemoFailed, DaemonDied, CeleryError) as exc:
        return complain(exc, code=1)
    except KeyboardInterrupt:
        return complain("interrupted; nothing is left running.", code=130)


def complain(reason: object, *, code: int) -> int:
    print(f"demo: {reason}", file=sys.stderr)
    return code


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.shop.demo", description="Show celery at work, and check it.")
    parser.add_argument("--broker", default="", metavar="URL", help="django:// (default) or amqp://...")
    parser.add_argument("--database", default="", metavar="URL", help="postgres://..., or a file (default: a new one)")
    parser.add_argument("--children", default=4, type=at_least_one, metavar="N", help="children of celeryd (4)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with database and logs")
    found = parser.parse_args(arguments)
    return Options(**{**vars(found), "broker": found.broker or "django://"})  # make passes an empty BROKER on


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def demonstrate(options: Options, stack: ExitStack) -> int:
    """Set up, measure, check, print; what `stack` holds is undone by the caller."""
    console = Console()
    console.print("Looking for Python files ...")
    paths = enough(python_files())
    folder = stack.enter_context(working_folder(keep=options.keep))
    queue = f"demo-{uuid.uuid4().hex[:12]}"
    prepare(options, folder=folder, queue=queue)
    stack.callback(clear_away, options.broker, queue)
    console.print(f"Starting the worker, for {len(paths):,} files ...", highlight=False)
    worker = stack.enter_context(Daemon(folder, environment=os.environ, children=options.children, queue=queue))
    wait_until_ready(worker)
    with report.progress_bar(console) as progress:
        answers, seconds = measure_all(paths, worker=worker, progress=progress)
        stop(worker)
        expected = compute_all(paths, progress=progress)
    report.show(console, answers, seconds=seconds)
    return verdict(console, differences(expected, answers))


def enough(paths: list[str]) -> list[str]:
    if len(paths) < FEWEST_FILES:
        raise DemoFailed(f"found only {len(paths)} Python files; the demonstration wants at least {FEWEST_FILES:,}.")
    return paths


@contextmanager
def working_folder(*, keep: bool) -> Iterator[Path]:
    """A folder of our own, removed at the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="celery-demo-"))
    try:
        yield folder
    finally:
        if keep:
            print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder)


def prepare(options: Options, *, folder: Path, queue: str) -> None:
    """Point Django at the servers, see that they answer, and make the tables."""
    database = options.database or str(folder / "demo.sqlite3")
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "tests.shop.settings",
        "CELERY_BROKER_URL": options.broker,
        "SHOP_DATABASE": database,
        "SHOP_QUEUE": queue,
    }
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
    try:
        database_from(database)
        check_broker(options.broker)
        django.setup()
        call_command("migrate", verbosity=0, interactive=False)
    except BrokerUnreachable as exc:
        raise BadInput(f"--broker: {exc}") from exc
    except (ValueError, ImproperlyConfigured, DatabaseError, CommandError) as exc:
        raise BadInput(f"--database: {one_line(exc)}") from exc


def one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())


def clear_away(broker: str, queue: str) -> None:
    """Remove our queue; a server that is gone by now is worth a line, but no reason to fail."""
    try:
        remove_queue(broker, queue)
    except Exception as exc:  # noqa: BLE001 - every transport and database has exceptions of its own
        complain(f"the queue {queue} could not be removed: {one_line(exc)}", code=0)


def wait_until_ready(worker: Daemon) -> None:
    """Return when celeryd has done a first task."""
    answer = answer_of(analyse.delay(__file__), worker=worker, within=SECONDS_TO_START)
    if isinstance(answer, Failure):
        raise DemoFailed(f"the first task failed with {answer.name}: {answer.text}. {worker.last_words()}")


def answer_of(
    result: AsyncResult[Figures], *, worker: Daemon, within: float = SECONDS_WITHOUT_A_RESULT
) -> Figures | Failure:
    """Wait for one result while the worker lives, for `within` seconds at most."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            return result.get(timeout=SECONDS_BETWEEN_LOOKS)
        except NotReadyError:
            worker.check()
        except Exception as exc:  # noqa: BLE001 - the task's own exception, which is an answer
            return failure_from(exc)
    raise DemoFailed(f"no result within {within:.0f} seconds. {worker.last_words()}")


def measure_all(paths: list[str], *, worker: Daemon, progress: Progress) -> tuple[Answers, float]:
    """Send a task for each file; return all answers and the seconds from the first send to the last result."""
    started = time.monotonic()
    results = analyse.delay_many(each_as_arguments(paths, progress=progress))
    counted = report.counted(results, len(paths), description="Results", progress=progress)
    answers = {path: answer_of(result, worker=worker) for path, result in zip(paths, counted, strict=True)}
    return answers, time.monotonic() - started


def each_as_arguments(paths: list[str], *, progress: Progress) -> Iterable[tuple[str]]:
    return ((path,) for path in report.counted(paths, len(paths), description="Tasks sent", progress=progress))


def stop(worker: Daemon) -> None:
    """End celeryd as an operator would; anything but a clean exit is a failure."""
    try:
        code = worker.stop()
    except subprocess.TimeoutExpired as exc:
        raise DemoFailed(f"celeryd did not end within {exc.timeout:.0f} seconds of SIGTERM.") from exc
    if code != 0:
        raise DemoFailed(f"celeryd ended with exit code {code} after SIGTERM. {worker.last_words()}")


def compute_all(paths: list[str], *, progress: Progress) -> Answers:
    """Do the same without celery."""
    connections.close_all()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        answers = pool.map(answer_for, paths, chunksize=20)
        counted = report.counted(answers, len(paths), description="Checked", progress=progress)
        return dict(zip(paths, counted, strict=True))


def verdict(console: Console, found: list[str]) -> int:
    if found:
        report.show_differences(console, found)
        return 1
    console.print("Every figure agrees with the same computation in this process.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
