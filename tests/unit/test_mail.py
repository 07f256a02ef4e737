import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail as django_mail
from django.core.mail.backends.base import BaseEmailBackend
from django.test import override_settings
from pytest_django import Settings

from celery import mail, signals, states
from celery.mail import ceiling
from celery.registry import tasks
from celery.task import Task, task
from tests.helpers import eventually
from tests.mails import ADMINS, sent_by

TRACEBACK = 'Traceback (most recent call last):\n  File "tasks.py", line 1, in pay\nValueError: no money\n'


@pytest.fixture(autouse=True)
def _connected(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Error e-mails are on, and sent by a postman who has nothing to do yet."""
    settings.ADMINS = ADMINS
    settings.DEBUG = False
    monkeypatch.setattr(mail, "_postman", mail.Postman())
    monkeypatch.setattr("platform.node", lambda: "rabbit-hole")
    mail.connect()
    yield
    Slow.gate.set()
    mail.flush()
    signals.task_finished.disconnect(dispatch_uid="celery.mail")
    signals.job_dead.disconnect(dispatch_uid="celery.mail")


def finish(state: str = states.FAILURE, **facts: Any) -> None:
    """Have the news spread that a task ended."""
    known = {"task_id": "id-1", "name": "shop.pay", "attempt": 1, "runtime": 0.1, "error": "ValueError: no money"}
    signals.notify(signals.task_finished, state=state, **{**known, "traceback": TRACEBACK, **facts})


def outbox() -> list[Any]:
    mail.flush()
    return django_mail.outbox


class Slow(BaseEmailBackend):
    """A mail server that answers when it is told to."""

    gate = threading.Event()
    asked: queue.Queue[str] = queue.Queue()

    def send_messages(self, email_messages: Any) -> int:
        self.asked.put(email_messages[0].subject)
        self.gate.wait(20)
        return 1


class Broken(BaseEmailBackend):
    def send_messages(self, email_messages: Any) -> int:
        raise ConnectionRefusedError("no mail server")


@pytest.fixture
def slow(settings: Settings) -> type[Slow]:
    for name, value in sent_by(f"{__name__}.Slow").items():
        setattr(settings, name, value)
    Slow.gate, Slow.asked = threading.Event(), queue.Queue()
    return Slow


class TestAnEmail:
    def test_names_host_task_id_and_exception(self) -> None:
        finish()

        (sent,) = outbox()
        assert sent.subject == "[Django] celery@rabbit-hole: task shop.pay [id-1] failed: ValueError: no money"
        assert sent.to == ["ada@example.com"]

    def test_has_the_traceback(self) -> None:
        finish()

        (sent,) = outbox()
        assert TRACEBACK.rstrip() in sent.body
        assert "rabbit-hole" in sent.body

    def test_without_a_traceback_it_has_the_exception(self) -> None:
        finish(traceback="")

        assert "\nValueError: no money\n" in outbox()[0].body

    def test_tells_of_the_dead(self) -> None:
        signals.notify(signals.job_dead, task_id="id-2", name="", reason="it killed 3 processes")

        (sent,) = outbox()
        assert sent.subject.endswith("task ? [id-2] failed: it is dead: it killed 3 processes")
        assert "\nTo try it again: manage.py celery_dead requeue id-2\n" in sent.body

    def test_has_no_advice_that_a_shell_would_run(self) -> None:
        signals.notify(signals.job_dead, task_id="id; rm -r /", name="", reason="it killed 3 processes")

        assert "requeue 'id; rm -r /'\n" in outbox()[0].body

    def test_of_what_has_no_id_or_is_not_dead_tells_nothing_of_requeueing(self) -> None:
        finish()
        signals.notify(signals.job_dead, task_id="", name="", reason="cannot be decoded")

        assert not [sent for sent in outbox() if "requeue" in sent.body]

    def test_cannot_get_a_header_of_its_own_by_an_exception(self) -> None:
        finish(error="ValueError: first\r\nBcc: everybody@example.com")

        (sent,) = outbox()
        assert "\n" not in sent.subject
        assert "Bcc" not in sent.message()

    def test_says_whose_it_is_in_one_line_whatever_a_message_calls_it(self) -> None:
        odd = "shop.pay\n\n-- \nIT support: all is well"

        signals.notify(signals.job_dead, task_id="id-1\x1b[31m", name=odd, reason="it killed 3 processes")

        (sent,) = outbox()
        assert sent.subject.isprintable()
        first, *_ = str(sent.body).splitlines()
        assert first.startswith(r"Task shop.pay\n\n-- \nIT support: all is well with id id-1\x1b[31m failed on ")

    def test_has_a_subject_of_bounded_length(self) -> None:
        finish(error="x" * 100_000)

        assert len(outbox()[0].subject) < 250


class TestWhenThereIsNone:
    @pytest.mark.parametrize("state", [states.DONE, states.RETRY])
    def test_a_task_that_did_not_fail_causes_none(self, state: str) -> None:
        finish(state)

        assert outbox() == []

    def test_the_setting_forbids_it(self, settings: Settings) -> None:
        settings.SEND_CELERY_TASK_ERROR_EMAILS = False

        finish()

        assert outbox() == []

    def test_debug_forbids_it_unless_the_setting_says_otherwise(self, settings: Settings) -> None:
        settings.DEBUG = True
        finish()
        assert outbox() == []

        settings.SEND_CELERY_TASK_ERROR_EMAILS = True
        finish()

        assert len(outbox()) == 1

    def test_the_task_forbids_it(self) -> None:
        class Quiet(Task):
            name = "shop.quiet"
            disable_error_emails = True

        tasks.register(Quiet)

        finish(name="shop.quiet")
        finish(name="shop.loud")

        assert [sent.subject.split()[3] for sent in outbox()] == ["shop.loud"]

    def test_there_is_nobody_to_write_to(self, settings: Settings) -> None:
        settings.ADMINS = []

        finish()

        assert outbox() == []
        assert mail._postman._thread is None


class TestASlowMailServer:
    def test_holds_nobody_up(self, slow: type[Slow]) -> None:
        finish()

        eventually(lambda: not slow.asked.empty())  # it hangs, and we are here

        assert not slow.gate.is_set()

    def test_more_than_may_wait_are_dropped_with_a_line(
        self, slow: type[Slow], settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.CELERY_TASK_ERROR_EMAILS_PER_HOUR = 1000
        finish()
        eventually(lambda: not slow.asked.empty())

        for number in range(mail.MOST_WAITING + 1):
            finish(task_id=f"id-{number}")

        assert caplog.messages == [f"No e-mail about task shop.pay [id-{mail.MOST_WAITING}]: the queue is full."]

    def test_gets_a_moment_at_the_end_and_no_longer(self, slow: type[Slow], caplog: pytest.LogCaptureFixture) -> None:
        finish()

        mail.flush(timeout=0.01)

        assert caplog.messages == ["Error e-mails are lost: the mail server did not take them within 0.01 s."]

    def test_all_are_sent_when_it_wakes_up(self, slow: type[Slow]) -> None:
        for number in range(3):
            finish(task_id=f"id-{number}")
        slow.gate.set()

        mail.flush()

        assert slow.asked.qsize() == 3


def test_a_mail_server_that_fails_is_a_line_and_the_next_email_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(**sent_by(f"{__name__}.Broken")):
        finish()
        mail.flush()

    finish()

    assert len(outbox()) == 1
    assert caplog.messages == ["No e-mail about task shop.pay [id-1]: ConnectionRefusedError('no mail server')"]


class TestTheCeiling:
    @pytest.fixture(autouse=True)
    def _tasks(self) -> None:
        task(name="shop.ship")(finish)

    def test_a_task_that_fails_all_the_time_causes_few(
        self, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.CELERY_TASK_ERROR_EMAILS_PER_HOUR = 3

        for number in range(10):
            finish(task_id=f"id-{number}")

        assert len(outbox()) == 3
        assert caplog.messages == ["Task shop.pay failed more than 3 times within an hour; its e-mails pause."]

    def test_is_twenty_unless_the_setting_says_otherwise(self) -> None:
        for number in range(30):
            finish(task_id=f"id-{number}")

        assert len(outbox()) == 20

    def test_zero_sends_none_and_says_nothing(self, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
        settings.CELERY_TASK_ERROR_EMAILS_PER_HOUR = 0

        finish()

        assert outbox() == []
        assert caplog.messages == []

    def test_is_every_tasks_own(self, settings: Settings) -> None:
        settings.CELERY_TASK_ERROR_EMAILS_PER_HOUR = 1
        for name in ("shop.pay", "shop.ship", "shop.pay"):
            finish(name=name)

        assert [sent.subject.split()[3] for sent in outbox()] == ["shop.pay", "shop.ship"]

    def test_the_next_one_after_an_hour_tells_of_those_that_were_held_back(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        settings.CELERY_TASK_ERROR_EMAILS_PER_HOUR = 1
        monkeypatch.setattr(ceiling, "time", Clock(lambda: now))
        for _ in range(5):
            finish()
        now += ceiling.HOUR

        finish()

        first, second = outbox()
        assert "more failures" not in first.body
        assert "4 more failures of this task had no e-mail of their own" in second.body

    def test_names_that_are_no_tasks_share_one(self, settings: Settings) -> None:
        settings.CELERY_TASK_ERROR_EMAILS_PER_HOUR = 2

        for number in range(10):
            signals.notify(signals.job_dead, task_id="x", name=f"invented {number}", reason="unknown")

        assert len(outbox()) == 2

    def test_is_the_workers_and_not_the_processs(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.CELERY_TASK_ERROR_EMAILS_PER_HOUR = 1
        finish()
        mail.flush()
        monkeypatch.setattr("os.getpid", lambda: -1)

        finish()

        assert len(outbox()) == 1

    def test_begins_anew_with_a_worker(self, settings: Settings) -> None:
        settings.CELERY_TASK_ERROR_EMAILS_PER_HOUR = 1
        finish()
        mail.connect()

        finish()

        assert len(outbox()) == 2


class Clock:
    def __init__(self, monotonic: Any) -> None:
        self.monotonic = monotonic
        self.sleep = time.sleep


def test_a_process_that_was_forked_has_a_postman_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    finish()
    mail.flush()
    parents = mail._postman
    monkeypatch.setattr("os.getpid", lambda: parents.pid + 1)

    finish()

    assert mail._postman is not parents
    assert len(outbox()) == 2


def test_a_process_without_emails_has_nothing_to_wait_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, slow: type[Slow]
) -> None:
    finish()
    with monkeypatch.context() as other:
        other.setattr("os.getpid", lambda: -1)

        mail.flush(timeout=0)

    assert caplog.messages == []


def test_the_thread_does_not_keep_the_program_from_ending() -> None:
    finish()

    assert mail._postman._thread is not None
    assert mail._postman._thread.daemon
