"""A producer: sends tasks in every way that there is, and notes what it was promised.

python -m tests.chaos.producer NAME SEED SECONDS [PACE]

PACE is tasks a second, about: what the moves do not reach is filled up with tasks that do nothing, sent many at once.
It outlives every fault but its own death: a move that raises is indeterminate, one that does not end is interrupted,
and when even that is not heard the producer executes itself anew, under another name.
"""

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import django
from django.db import connections

from celery import backends, conf, states
from tests.chaos import brake, history, transactions
from tests.chaos.history import History
from tests.chaos.kinds import KINDS
from tests.chaos.observer import value_of
from tests.chaos.tasks import BY_KIND, DEATHS, work

#: Moves in a second, at most.
PACE = 25.0
#: Seconds that a move may take; and until it is certain that nobody hears the alarm.
LONGEST_MOVE, HOPELESS = 10.0, 20.0
#: Tasks of one batch that only fills up.
BULK = (200, 500)
LARGE = "x" * 100_000
#: Of how many tasks the results are looked at now and then, and how many at once.
REMEMBERED, LOOKED_AT = 500, 20
#: Seconds between two looks.
LOOKING = 0.5


class OverdueError(Exception):
    """A move takes too long."""


class Producer:
    """Makes one random move after the other."""

    def __init__(self, name: str, seed: str, history: History, pace: float = 0.0) -> None:
        self._name = name
        self._random = random.Random(f"{seed} {name}")
        self._history = history
        self._pace = pace
        self._count = 0
        self._is_stopping = False
        self._sent: deque[str] = deque(maxlen=REMEMBERED)
        self._moves: dict[Callable[[], None], int] = {
            self._send_a_few: 40,
            self._send_many: 12,
            self._send_slow_ones: 14,
            self._send_a_long_one: 1,
            self._send_a_large_one: 4,
            self._send_for_later: 12,
            self._commit: 14,
            self._roll_back: 8,
            self._roll_back_a_part: 4,
            self._send_quiet_ones: 8,
            self._send_at_most_once: 10,
            self._send_what_retries: 12,
            self._send_what_fails: 10,
            self._send_parents: 6,
            self._send_rare_ones: 5,
            self._send_poison: 1,
            self._send_what_dies_once: 1,
            self._send_what_overruns: 1,
        }

    def run(self, seconds: float) -> None:
        began = time.monotonic()
        next_move = next_look = began
        while (now := time.monotonic()) < began + seconds and not self._is_stopping:
            if now >= next_look:
                next_look = now + LOOKING
                self._guarded(self._look)
            elif brake.is_on():
                time.sleep(0.05)
            elif now >= next_move:
                (move,) = self._random.choices(list(self._moves), list(self._moves.values()))
                self._guarded(move)
                next_move = now + self._random.uniform(0, 2 / PACE)
            elif self._count < self._pace * (now - began):
                self._guarded(self._send_bulk)
            else:
                time.sleep(min(next_move - now, 0.01))

    def stop(self, *_: object) -> None:
        """End after the move in hand."""
        self._is_stopping = True

    def _guarded(self, move: Callable[[], None]) -> None:
        """Make a move, for a bounded time. What it left undone is indeterminate, and new connections follow."""
        try:
            with _alarm(LONGEST_MOVE):
                move()
        except Exception as error:  # noqa: BLE001 - producers go on, whatever is broken
            print(f"{self._name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            _begin_afresh()

    # -- moves

    def _send_bulk(self) -> None:
        self._send_batch(self._random.randint(*BULK))

    def _send_many(self) -> None:
        self._send_batch(self._random.randint(20, 80))

    def _send_batch(self, count: int) -> None:
        def send(tokens: list[str]) -> list[str]:
            return [result.task_id for result in work.delay_many((token, 0) for token in tokens)]

        self._promised("delay_many", count, send)

    def _send_a_few(self) -> None:
        self._delay_each("work", self._random.randint(1, 5), 0)

    def _send_slow_ones(self) -> None:
        self._delay_each("work", self._random.randint(1, 3), self._random.choice((0.02, 0.05, 0.1, 0.4)))

    def _send_a_long_one(self) -> None:
        self._delay_each("work", 1, self._random.choice((2, 2, 4)))

    def _send_a_large_one(self) -> None:
        self._delay_each("work", self._random.randint(1, 3), 0, LARGE)

    def _send_quiet_ones(self) -> None:
        self._delay_each("quiet", self._random.randint(1, 5), 0)

    def _send_at_most_once(self) -> None:
        self._delay_each("once", self._random.randint(1, 3), self._random.choice((0, 0, 0.05, 0.2)))

    def _send_what_retries(self) -> None:
        times = self._random.choice((1, 2))
        kind = self._random.choice(("retry", "auto_retry"))
        self._delay_each(kind, self._random.randint(1, 3), times, attempts=times + 1)

    def _send_what_fails(self) -> None:
        self._delay_each(self._random.choice(("broken", "leave", "interrupt")), self._random.randint(1, 3))

    def _send_parents(self) -> None:
        self._delay_each("parent", self._random.randint(1, 3))

    def _send_rare_ones(self) -> None:
        self._delay_each("rare", self._random.randint(1, 3), 0)

    def _send_poison(self) -> None:
        self._delay_each(self._random.choice(("poison", "poison_at_most_once")), 1, self._death())

    def _send_what_dies_once(self) -> None:
        self._delay_each("poison_once", 1, self._death())

    def _send_what_overruns(self) -> None:
        self._delay_each("overrun", 1)

    def _death(self) -> str:
        return self._random.choice(list(DEATHS))

    def _send_for_later(self) -> None:
        def send(tokens: list[str]) -> list[str]:
            wait = self._random.uniform(0.1, 3)
            return [work.apply_async((token, 0), countdown=wait).task_id for token in tokens]

        self._promised("countdown", self._random.randint(1, 10), send)

    def _commit(self) -> None:
        def send(tokens: list[str]) -> list[str]:
            with transactions.committed():
                return [_delay(token) for token in tokens]

        self._promised("atomic", self._random.randint(1, 10), send)

    def _roll_back(self) -> None:
        tokens = self._asked("rollback", self._random.randint(1, 5))
        with transactions.rolled_back():
            ids = [_delay(token) for token in tokens]
        self._history.note("rolled_back", pairs=list(zip(ids, tokens, strict=True)))

    def _roll_back_a_part(self) -> None:
        """Roll a savepoint back in the middle of a transaction that is committed."""

        def send(tokens: list[str]) -> list[str]:
            with transactions.committed():
                first = [_delay(token) for token in tokens[:2]]
                self._roll_back()
                return first + [_delay(token) for token in tokens[2:]]

        self._promised("atomic", 4, send)

    def _look(self) -> None:
        """Note results that are final: they may not change any more."""
        some = self._random.sample(self._sent, min(LOOKED_AT, len(self._sent)))
        found = backends.default().fetch(some).values()
        ended = [(one.task_id, one.state, value_of(one)) for one in found if one.state in states.READY_STATES]
        if ended:
            self._history.note("seen", results=ended)

    # -- how a move is noted

    def _delay_each(self, kind: str, count: int, *arguments: Any, attempts: int = 1) -> None:
        def send(tokens: list[str]) -> list[str]:
            return [BY_KIND[kind].delay(token, *arguments).task_id for token in tokens]

        self._promised("delay", count, send, kind=kind, attempts=attempts)

    def _promised(
        self, route: str, count: int, send: Callable[[list[str]], list[str]], *, kind: str = "work", attempts: int = 1
    ) -> None:
        tokens = self._asked(route, count, kind=kind, attempts=attempts)
        try:
            ids = send(tokens)
        except Exception as error:  # whatever it is: nobody knows how far it came
            self._history.note("raised", tokens=tokens, error=f"{type(error).__name__}: {error}")
            raise
        facts = {} if KINDS[kind].is_awaited else {"awaited": False}
        self._history.note("confirmed", pairs=list(zip(ids, tokens, strict=True)), **facts)
        self._sent += ids

    def _asked(self, route: str, count: int, *, kind: str = "work", attempts: int = 1) -> list[str]:
        tokens = list(self._new_tokens(count))
        self._history.note("asked", tokens=tokens, route=route, kind=kind, attempts=attempts)
        return tokens

    def _new_tokens(self, count: int) -> Iterator[str]:
        for _ in range(count):
            self._count += 1
            yield f"{self._name}-{self._count}"


def _delay(token: str) -> str:
    return work.delay(token, 0).task_id


# -- never waiting for ever


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again each second: a finalizer may swallow one
    watch = threading.Timer(HOPELESS, _execute_anew)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        watch.cancel()


def _ring(*_: object) -> NoReturn:
    raise OverdueError(f"not done after {LONGEST_MOVE:g} s")


def _begin_afresh() -> None:
    for connection in connections.all(initialized_only=True):
        with contextlib.suppress(Exception), _alarm(LONGEST_MOVE):
            connection.close()


def _execute_anew() -> None:
    """Nobody hears the alarm, in a driver that waits for its server in C: begin again from nothing."""
    name, seed, seconds, *pace = sys.argv[1:]
    left = max(float(seconds) - (time.monotonic() - _BEGAN), 1.0)
    print(f"{name}: stuck; it executes itself anew", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tests.chaos.producer", f"{name}'", seed, f"{left:.1f}", *pace]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # it may ring before anybody catches it; see `main`
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


_BEGAN = time.monotonic()


def main(name: str, seed: str, seconds: str, pace: str = "0") -> None:
    django.setup()
    history.current().note("sending", name=name, broker=str(conf.BROKER_URL).partition("://")[0])
    producer = Producer(name, seed, history.current(), float(pace))
    signal.signal(signal.SIGTERM, producer.stop)
    signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    producer.run(float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
