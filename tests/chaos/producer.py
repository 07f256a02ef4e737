"""A producer: sends tasks in every way that there is, and notes what it was promised.

python -m tests.chaos.producer NAME SEED SECONDS
"""

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import django
from django.db import transaction

from tests.chaos import history
from tests.chaos.history import History
from tests.chaos.tasks import work

#: Moves in a second, at most.
PACE = 25.0


class _RollBackError(Exception):
    """Ends a transaction without its changes."""


class Producer:
    """Makes one random move after the other."""

    def __init__(self, name: str, seed: str, history: History) -> None:
        self._name = name
        self._random = random.Random(f"{seed} {name}")
        self._history = history
        self._count = 0
        self._moves: dict[Callable[[], None], int] = {
            self._send_a_few: 40,
            self._send_many: 12,
            self._send_slow_ones: 32,
            self._send_a_long_one: 1,
            self._send_for_later: 12,
            self._commit: 14,
            self._roll_back: 8,
            self._roll_back_a_part: 4,
        }

    def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            (move,) = self._random.choices(list(self._moves), list(self._moves.values()))
            move()
            time.sleep(self._random.uniform(0, 2 / PACE))

    # -- moves

    def _send_a_few(self) -> None:
        self._promised("delay", self._random.randint(1, 5), lambda tokens: [self._delay(token) for token in tokens])

    def _send_many(self) -> None:
        def send(tokens: list[str]) -> list[str]:
            return [result.task_id for result in work.delay_many((token, 0) for token in tokens)]

        self._promised("delay_many", self._random.randint(20, 80), send)

    def _send_slow_ones(self) -> None:
        def send(tokens: list[str]) -> list[str]:
            return [self._delay(token, self._random.choice((0.02, 0.05, 0.1, 0.4))) for token in tokens]

        self._promised("delay", self._random.randint(1, 3), send)

    def _send_a_long_one(self) -> None:
        self._promised("delay", 1, lambda tokens: [self._delay(token, 2) for token in tokens])

    def _send_for_later(self) -> None:
        def send(tokens: list[str]) -> list[str]:
            wait = self._random.uniform(0.1, 3)
            return [work.apply_async((token, 0), countdown=wait).task_id for token in tokens]

        self._promised("countdown", self._random.randint(1, 10), send)

    def _commit(self) -> None:
        def send(tokens: list[str]) -> list[str]:
            with transaction.atomic():
                return [self._delay(token) for token in tokens]

        self._promised("atomic", self._random.randint(1, 10), send)

    def _roll_back(self) -> None:
        tokens = self._asked("rollback", self._random.randint(1, 5))
        self._history.note("rolled_back", pairs=list(zip(self._sent_in_vain(tokens), tokens, strict=True)))

    def _roll_back_a_part(self) -> None:
        """Roll a savepoint back in the middle of a transaction that is committed."""

        def send(tokens: list[str]) -> list[str]:
            with transaction.atomic():
                first = [self._delay(token) for token in tokens[:2]]
                self._roll_back()
                return first + [self._delay(token) for token in tokens[2:]]

        self._promised("atomic", 4, send)

    # -- how a move is noted

    def _promised(self, route: str, count: int, send: Callable[[list[str]], list[str]]) -> None:
        tokens = self._asked(route, count)
        try:
            ids = send(tokens)
        except Exception as error:  # noqa: BLE001 - whatever it is: nobody knows how far it came
            self._history.note("raised", tokens=tokens, error=f"{type(error).__name__}: {error}")
        else:
            self._history.note("confirmed", pairs=list(zip(ids, tokens, strict=True)))

    def _asked(self, route: str, count: int) -> list[str]:
        tokens = list(self._new_tokens(count))
        self._history.note("asked", tokens=tokens, route=route)
        return tokens

    def _new_tokens(self, count: int) -> Iterator[str]:
        for _ in range(count):
            self._count += 1
            yield f"{self._name}-{self._count}"

    def _sent_in_vain(self, tokens: list[str]) -> list[str]:
        ids: list[str] = []
        with suppress(_RollBackError), transaction.atomic():
            ids += [self._delay(token) for token in tokens]
            raise _RollBackError
        return ids

    def _delay(self, token: str, seconds: float = 0) -> str:
        return work.delay(token, seconds).task_id


def main(name: str, seed: str, seconds: str) -> None:
    django.setup()
    Producer(name, seed, history.current()).run(float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
