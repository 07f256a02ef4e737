"""Workers started by their names of 0.2, options of 0.2, and the e-mails that a real worker sends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default
from pathlib import Path

import pytest

from celery import states
from celery.messaging import TaskConsumer
from celery.worker import TaskWrapper
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess, run_python
from tests.mails import ADMINS, sent_by
from tests.shop import tasks
from tests.shop.daemon import ROOT

SOON = 15.0

CONTROLLER = """
import django, sys
django.setup()
from celery.worker import WorkController
sys.exit(WorkController(concurrency=1, logfile=sys.argv[1], loglevel="INFO").run())
"""

MAIN = """
import sys
from celery.bin.celeryd import main, parse_options
main(**vars(parse_options(["-c", "1", "-l", "info", "-f", sys.argv[1], "-w", "0.3"])))
"""

NUMBER_FOR_A_LEVEL = """
import sys
from celery.bin.celeryd import main
main(concurrency=1, loglevel=20, logfile=sys.argv[1], pidfile=None, queue_wakeup_after=None)
"""


@contextmanager
def running(place: Place, program: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program that is a worker, and end it."""
    environment = {**os.environ, **place.environment(), "DJANGO_SETTINGS_MODULE": "tests.integration.settings"}
    command = [sys.executable, "-c", program, str(log)]
    with (log.parent / "output").open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output, process_group=0)
    try:
        eventually(lambda: "is ready" in (log.read_text() if log.exists() else ""), within=SOON)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(SOON)
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("program", [CONTROLLER, MAIN, NUMBER_FOR_A_LEVEL], ids=["controller", "main", "number"])
def test_a_worker_that_is_started_in_the_classic_way_works_and_ends_as_others_do(
    sqlite_place: Place, tmp_path: Path, program: str
) -> None:
    # given
    log = tmp_path / "log"

    # when
    with running(sqlite_place, program, log) as process:
        # then
        assert tasks.add.delay(2, 2).get(timeout=SOON) == 4
    assert process.returncode == 0
    assert log.read_text().count("-w means nothing any more") == (program == MAIN)


def test_the_program_finds_the_project_from_its_folder_and_from_the_variable(sqlite_place: Place) -> None:
    # given
    program = """
import os, sys
from celery.bin import celeryd
os.environ["DJANGO_PROJECT_DIR"] = "/srv/project"
celeryd.call_command = lambda *_, **__: print(sys.path[:2])
celeryd.main([])
"""

    # when
    ended = run_python(sqlite_place, "-c", program)

    # then
    assert ended.stdout == f"['/srv/project', {str(ROOT)!r}]\n", ended.stderr


def emails(folder: Path) -> list[Message]:
    """Return what Django's file backend wrote."""
    separator = b"-" * 79 + b"\n"
    texts = [text for path in sorted(folder.glob("*")) for text in path.read_bytes().split(separator) if text.strip()]
    return [message_from_bytes(text, policy=default) for text in texts]


def test_the_failure_of_a_task_is_mailed_before_its_worker_ends_though_the_mail_server_is_slow(
    sqlite_place: Place, tmp_path: Path
) -> None:
    # given
    folder = tmp_path / "mail"
    settings = {
        "ADMINS": ADMINS,
        **sent_by("tests.integration.oddities.mail.SlowBackend", file_path=str(folder)),
    }

    # when
    with WorkerProcess(sqlite_place, settings=settings) as worker:
        sent = tasks.fail.delay("no money")
        eventually(sent.ready, within=SOON)
        assert worker.stop() == 0

    # then
    (email,) = emails(folder)
    assert email["Subject"].endswith(f"task shop.fail [{sent.task_id}] failed: ValueError: no money")
    body = str(email.get_payload())
    assert "Traceback (most recent call last):" in body
    assert "raise ValueError(message)" in body


def test_a_message_that_was_fetched_by_hand_runs_in_the_classic_way(sqlite_place: Place) -> None:
    # given
    sent = tasks.add.delay(20, 22)

    # when
    with TaskConsumer() as consumer:
        (message,) = list(consumer)
        value = TaskWrapper.from_message(message).execute()
        message.ack()

    # then
    assert value == 42
    assert (sent.status, sent.result) == (states.DONE, 42)
    assert sqlite_place.messages() == []
    assert sqlite_place.workers() == []
