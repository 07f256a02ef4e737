"""What the processes of a worker see of each other in shared memory."""

import os
import time

from celery.worker.slots import Slots


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
