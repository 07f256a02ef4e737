"""What happened in the steward is told in a thread of its own."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from celery import signals
from celery.worker.announcer import Announcer, announce

heard: list[dict[str, Any]] = []


def listen(**facts: Any) -> None:
    heard.append({name: value for name, value in facts.items() if name not in {"signal", "sender"}})


@pytest.fixture
def _listener() -> Iterator[None]:
    heard.clear()
    signals.job_dead.connect(listen)
    yield
    signals.job_dead.disconnect(listen)


@pytest.mark.usefixtures("_listener")
def test_a_signal_is_sent_by_its_name() -> None:
    announce("job_dead", {"task_id": "id", "name": "shop.add", "reason": "why"})

    assert heard == [{"task_id": "id", "name": "shop.add", "reason": "why"}]


@pytest.mark.usefixtures("_listener")
def test_what_was_put_before_the_end_is_sent_in_its_order() -> None:
    # given
    announcer = Announcer()
    announcer.start()

    # when
    for number in range(3):
        announcer.put("job_dead", {"number": number})
    announcer.stop()

    # then
    assert heard == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert not announcer.is_alive()


def test_who_puts_does_not_wait_for_a_slow_listener() -> None:
    # given
    gate = threading.Event()

    def wait(**_: Any) -> None:
        gate.wait(10)

    signals.job_dead.connect(wait)
    announcer = Announcer()
    announcer.start()

    # when
    for _ in range(3):
        announcer.put("job_dead", {})

    # then
    assert announcer.is_alive()
    assert not gate.is_set()
    gate.set()
    announcer.stop()
    signals.job_dead.disconnect(wait)
