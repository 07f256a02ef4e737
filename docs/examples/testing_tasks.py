"""Tests of a project that sends tasks. Run them with ``manage.py test``, or with pytest and pytest-django."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.test import TestCase, TransactionTestCase

from celery.task import task
from celery.testing import Worker, assert_nothing_sent, assert_sent, run_inline, sent_tasks, worker

# -- what is tested


@task
def welcome(user_id: int) -> str:
    return f"Welcome, {User.objects.get(pk=user_id).username}"


@task(auto_retry=True, max_retries=1)
def remind(user_id: int) -> str:
    return f"Come back, {User.objects.get(pk=user_id).username}"


def sign_up(name: str) -> User:
    user = User.objects.create(username=name)
    welcome.delay(user.pk)
    remind.apply_async((user.pk,), countdown=24 * 3600)
    return user


# -- with Django's TestCase


class SignUpTests(TestCase):
    def test_both_messages_are_sent(self) -> None:
        with sent_tasks() as sent:
            user = sign_up("Ada")

        sent.assert_sent(welcome, args=[user.pk])
        sent.assert_sent(remind, args=[user.pk], countdown=24 * 3600)

    def test_nobody_is_welcomed_twice(self) -> None:
        sign_up("Ada")

        with assert_nothing_sent(), self.assertRaises(IntegrityError), transaction.atomic():
            sign_up("Ada")

    @run_inline()
    def test_a_task_that_runs_where_it_is_sent(self) -> None:
        user = sign_up("Ada")

        self.assertEqual(welcome.delay(user.pk).get(), "Welcome, Ada")

    def test_a_task_that_runs_later(self) -> None:
        with worker() as w:
            user = sign_up("Ada")
            self.assertEqual([run.task for run in w.run()], [welcome.name])

            user.delete()
            (first, second) = w.run(now=timedelta(days=1, minutes=1))

        self.assertEqual((first.task, first.state, second.state), (remind.name, "RETRY", "FAILURE"))

    def test_what_is_sent_after_the_commit(self) -> None:
        with assert_sent(welcome), self.captureOnCommitCallbacks(execute=True):
            transaction.on_commit(lambda: welcome.delay(1))


# -- with Django's TransactionTestCase


class WaitingTests(TransactionTestCase):
    def test_code_that_waits_for_a_result(self) -> None:
        user = User.objects.create(username="Ada")

        with worker(background=True):
            self.assertEqual(welcome.delay(user.pk).get(timeout=5), "Welcome, Ada")


# -- with pytest


@pytest.fixture
def celery_worker(db: None) -> Iterator[Worker]:
    with worker() as w:
        yield w


def test_with_a_fixture(celery_worker: Worker) -> None:
    user = User.objects.create(username="Ada")
    result = welcome.delay(user.pk)

    celery_worker.run()

    assert result.get() == "Welcome, Ada"


@pytest.mark.django_db(transaction=True)
def test_with_a_worker_in_the_background() -> None:
    user = User.objects.create(username="Ada")

    with worker(background=True):
        assert welcome.delay(user.pk).get(timeout=5) == "Welcome, Ada"


# ruff: noqa: ARG001, PT009, PT027, S101 - both styles are shown, as their users write them
