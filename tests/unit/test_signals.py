"""celery/signals.py: who listens can do no harm."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.dispatch import Signal

from celery.signals import notify

happened = Signal()


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    """Listen, after a listener that fails."""
    facts: list[dict[str, Any]] = []

    def fail(**_: Any) -> None:
        raise KeyError("a listener's own mistake")

    def listen(**kwargs: Any) -> None:
        facts.append(kwargs)

    happened.connect(fail)
    happened.connect(listen)
    yield facts
    happened.disconnect(fail)
    happened.disconnect(listen)


def test_a_listener_that_fails_is_logged_and_the_next_one_is_told(
    heard: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    # when
    notify(happened, task_id="some id")

    # then
    assert [facts["task_id"] for facts in heard] == ["some id"]
    (record,) = [record for record in caplog.records if record.name == "celery.signals"]  # Django has a line of its own
    assert record.levelno == logging.ERROR
    assert "fail" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is KeyError
    assert record.task_id == "some id"  # type: ignore[attr-defined]
