"""Periodic tasks as they are written: classes, functions, what is refused, and the one that comes with us."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError
from pytest_django import Settings

from celery import backends
from celery.bin import celeryd
from celery.exceptions import AlreadyRegistered, InvalidSchedule, InvalidTask
from celery.registry import tasks
from celery.schedules import crontab, every
from celery.task import DeleteExpiredTaskMetaTask, PeriodicTask, periodic_task
from tests.unit.conftest import Recorder


def made(**attributes: Any) -> type[PeriodicTask]:
    return type("Made", (PeriodicTask,), {"name": "docs.made", **attributes})


class TestClasses:
    def test_it_is_registered_as_periodic(self) -> None:
        tasks.register(made(run_every=timedelta(minutes=5)))

        assert "docs.made" in tasks.get_all_periodic()
        assert "docs.made" not in tasks.get_all_regular()

    def test_it_can_be_sent_by_hand_as_well(self, sent: Recorder) -> None:
        made(run_every=60, queue="reports").delay()

        assert (sent.message.task, sent.message.queue) == ("docs.made", "reports")

    @pytest.mark.parametrize("run_every", [300, 300.0, timedelta(minutes=5)])
    def test_an_interval_is_a_timedelta_on_the_instance(self, run_every: Any) -> None:
        assert made(run_every=run_every)().run_every == timedelta(minutes=5)

    @pytest.mark.parametrize("run_every", [every(60), crontab(0, 3)])
    def test_a_schedule_stays_what_it_is(self, run_every: Any) -> None:
        assert made(run_every=run_every)().run_every is run_every

    @pytest.mark.parametrize("run_every", ["* * * * *", 0, -5, True, object()])
    def test_what_is_no_schedule_is_refused_where_the_class_is_defined(self, run_every: Any) -> None:
        with pytest.raises(InvalidSchedule):
            made(run_every=run_every)

    def test_a_class_without_times_is_a_base_for_others_and_cannot_be_registered(self) -> None:
        base = made()

        with pytest.raises(InvalidSchedule, match="a periodic task needs run_every: seconds"):
            tasks.register(base)
        tasks.register(type("Child", (base,), {"run_every": 60, "name": "docs.child"}))
        assert "docs.child" in tasks.get_all_periodic()

    def test_a_lifetime_that_is_none_is_refused(self) -> None:
        with pytest.raises(InvalidSchedule, match="an interval is"):
            made(run_every=60, expires="soon")


def report() -> str:
    """Say what there is."""
    return "nothing new"


class TestFunctions:
    def test_it_is_registered_as_periodic_and_stays_a_function(self) -> None:
        task = periodic_task(run_every=crontab(0, 3), name="docs.report", queue="reports", expires=600)(report)

        assert tasks.get_all_periodic()["docs.report"] is task
        assert (task(), task.__doc__, task.queue, task.expires) == ("nothing new", "Say what there is.", "reports", 600)
        assert task.run_every == crontab(0, 3)

    def test_its_name_is_that_of_the_function_by_default(self) -> None:
        task = periodic_task(run_every=60)(report)

        assert task.name == f"{__name__}.report"
        assert task.run_every == every(60)

    def test_it_is_sent_by_hand_as_well(self, sent: Recorder) -> None:
        periodic_task(run_every=60, name="docs.report")(report).delay()

        assert sent.message.task == "docs.report"

    @pytest.mark.parametrize("options", [{"run_every": None}, {"run_every": "daily"}, {"run_every": 60, "expires": 0}])
    def test_what_is_no_schedule_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidSchedule):
            periodic_task(**options)

    def test_what_task_refuses_is_refused(self) -> None:
        with pytest.raises(InvalidTask, match="lambda"):
            periodic_task(run_every=60)(lambda: None)
        with pytest.raises(InvalidTask, match="no option 'color'"):
            periodic_task(run_every=60, color="red")(report)

    def test_a_name_that_is_taken_stays_with_its_owner(self) -> None:
        tasks.register(made(run_every=60))

        with pytest.raises(AlreadyRegistered):
            periodic_task(run_every=60, name="docs.made")(report)


class TestDeletingExpiredResults:
    NAME = "celery.delete_expired_task_meta"

    def test_it_is_registered_and_runs_once_a_day(self) -> None:
        assert tasks.get_all_periodic()[self.NAME].run_every == timedelta(days=1)

    def test_registering_it_again_is_no_conflict(self) -> None:
        tasks.register(DeleteExpiredTaskMetaTask)

        assert self.NAME in tasks.get_all_periodic()

    def test_it_has_the_backend_clean_up_and_returns_how_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backends.default(), "cleanup", lambda: 7)

        assert DeleteExpiredTaskMetaTask()() == 7


class TestTheCheck:
    def errors(self) -> list[str]:
        return [found.msg for found in run_checks(tags=["celery"]) if found.id == "celery.E011"]

    def test_the_default_is_no_trouble(self) -> None:
        assert self.errors() == []

    def test_a_backend_that_keeps_no_periodic_tasks_is_an_error(self, settings: Settings) -> None:
        settings.CELERY_PERIODIC_STATUS_BACKEND = "cache"

        assert self.errors() == ["CELERY_PERIODIC_STATUS_BACKEND = 'cache' cannot keep the state of periodic tasks."]

    @pytest.mark.parametrize("name", ["nowhere.to.be.found", "celery.exceptions.InvalidTask", ""])
    def test_a_backend_that_is_none_is_an_error(self, settings: Settings, name: str) -> None:
        settings.CELERY_PERIODIC_STATUS_BACKEND = name

        (text,) = self.errors()
        assert text.startswith(f"CELERY_PERIODIC_STATUS_BACKEND = {name!r} cannot be had")

    def test_another_type_is_told_by_another_check(self, settings: Settings) -> None:
        settings.CELERY_PERIODIC_STATUS_BACKEND = 3

        assert self.errors() == []


class TestTheOption:
    def test_a_worker_sends_periodic_tasks_by_default(self) -> None:
        assert celeryd.worker_options({}).beat

    def test_the_setting_and_the_option_forbid_it(self, settings: Settings) -> None:
        assert not celeryd.worker_options(vars(celeryd.parse_options(["--no-beat"]))).beat
        settings.CELERYD_BEAT = False
        assert not celeryd.worker_options(vars(celeryd.parse_options([]))).beat

    def test_a_worker_does_not_start_if_the_state_can_be_kept_nowhere(self, settings: Settings) -> None:
        settings.CELERY_PERIODIC_STATUS_BACKEND = "cache"

        with pytest.raises(CommandError, match="write 'database', or start with --no-beat"):
            celeryd.worker_options({})
        assert not celeryd.worker_options({"beat": False}).beat
