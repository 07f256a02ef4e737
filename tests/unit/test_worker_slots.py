"""What the processes of a worker see of each other in shared memory."""

import os
import time
from types import SimpleNamespace

import pytest

from celery import states
from celery.broker.amqp import HEARTBEAT
from celery.worker import slots as slots_module
from celery.worker.slots import LONGEST_SILENCE, Slots


def test_a_slot_says_what_its_child_runs() -> None:
    # given
    slots = Slots(2)

    # when
    slots.begin(1, 2**63)

    # then
    assert (slots.running(0), slots.running(1)) == (0, 2**63)
    slots.end(1)
    assert slots.running(1) == 0


def test_a_slot_names_what_a_killed_process_ran() -> None:
    # given
    slots = Slots(1)

    # when
    pid = os.fork()
    if pid == 0:
        slots.begin(0, 42)
        os._exit(9)
    os.waitpid(pid, 0)

    # then
    assert slots.running(0) == 42


def test_the_pulse_tells_for_how_long_it_was_silent() -> None:
    # given
    slots = Slots(1)

    # when
    before = time.monotonic()
    slots.beat()

    # then
    assert 0 <= slots.silence() <= time.monotonic() - before


def test_a_deadline_ends_with_its_job() -> None:
    # given
    slots = Slots(2)
    slots.begin(1, 7)

    # when
    before = time.monotonic()
    slots.set_limit(1, 12.5)

    # then
    assert before + 12.5 <= slots.deadline(1) <= time.monotonic() + 12.5
    assert (slots.deadline(0), slots.limit(1)) == (0.0, 12.5)
    slots.end(1)
    assert slots.deadline(1) == 0.0


def test_what_was_stored_is_counted_over_children_that_follow_each_other_and_the_steward() -> None:
    # given
    slots = Slots(2)

    # when
    slots.count(0, states.DONE, 0.5)
    slots.end(0)
    slots.count(0, states.DONE, 0.25)
    slots.count(1, states.RETRY, 1.0)
    slots.count(1, "POSTPONED", 9.0)
    slots.count(slots.stewards, states.FAILURE, 0.0)

    # then
    assert slots.totals() == (2, 1, 1, 1.75)
    assert slots.done() == 3
    assert slots.running(0) == 0


def test_what_the_history_has_is_known_to_the_next_steward_and_is_no_work() -> None:
    # given
    slots = Slots(2)
    slots.begin(1, 7)
    slots.beat()
    slots.count(1, states.DONE, 1.5)
    slots.count(slots.stewards, states.FAILURE, 0.0)

    # when
    pid = os.fork()
    if pid == 0:
        slots.record(slots.totals())
        os._exit(9)
    os.waitpid(pid, 0)

    # then
    assert slots.recorded() == slots.totals() == (1, 1, 0, 1.5)
    assert slots.running(1) == 7
    assert slots.silence() < 60


def test_a_child_is_busy_until_what_it_ran_is_stored() -> None:
    # given
    slots = Slots(2)
    slots.begin(1, 7)

    # when
    slots.end(1)

    # then
    assert (slots.is_busy(0), slots.is_busy(1)) == (False, True)

    # when
    slots.note_reported(1, 1)

    # then
    assert not slots.is_busy(1)


def test_a_new_child_in_a_place_has_nothing_in_hand() -> None:
    # given
    slots = Slots(1)
    slots.begin(0, 7)
    slots.set_limit(0, 5.0)

    # when
    slots.clear(0)

    # then
    assert not slots.is_busy(0)
    assert (slots.running(0), slots.deadline(0)) == (0, 0.0)


def test_the_pulses_of_dispatcher_and_steward_are_two() -> None:
    # given
    slots = Slots(1)

    # when
    slots.beat_as_steward()

    # then
    assert slots.pulse_of_steward() > 0
    assert slots.pulse_of_dispatcher() == float("inf")


def test_a_job_of_a_broker_may_start_while_the_dispatcher_looks_after_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(slots_module, "time", clock)
    slots = Slots(1)
    assert slots.may_start(has_row=False)

    # when
    slots.beat()
    clock.now += LONGEST_SILENCE

    # then
    assert not slots.may_start(has_row=False)
    assert slots.may_start(has_row=True)

    # when
    slots.beat()

    # then
    assert slots.may_start(has_row=False)


def test_the_dispatcher_is_silent_for_less_than_a_broker_waits() -> None:
    assert LONGEST_SILENCE < 2 * HEARTBEAT
