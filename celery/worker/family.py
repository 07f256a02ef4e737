"""The processes that the supervisor has forked and not buried yet: their start, and what is heard and seen of them."""

import selectors
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from celery.worker import channel
from celery.worker.process import Offspring


class Family:
    """`on_death` is called with each process that has ended, `on_word` with what one says on its control channel."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        *,
        on_death: Callable[[Offspring], None],
        on_word: Callable[..., None],
    ) -> None:
        self._selector = selector
        self._on_death = on_death
        self._on_word = on_word
        self._members: dict[int, Offspring] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Offspring]:
        return iter(list(self._members.values()))

    def __contains__(self, pid: object) -> bool:
        return pid in self._members

    def of_role(self, role: str) -> list[Offspring]:
        """Return those of a role."""
        return [one for one in self._members.values() if one.role == role]

    def launch(self, made: Offspring, run: Callable[[], None], close_first: Iterable[Any]) -> None:
        """Fork `made`, and watch it. The new process closes what only the supervisor and others use."""
        controls = [one.control for one in (made, *self._members.values()) if one.control]
        made.start(run, [self._selector, *close_first, *controls])
        self._members[made.pid] = made
        self._selector.register(made.pidfd, selectors.EVENT_READ, lambda: self._on_death(made))
        if made.control:
            self._selector.register(made.control, selectors.EVENT_READ, lambda: self._hear(made))

    def bury(self, dead: Offspring) -> int:
        """Forget a process that has ended, and return its exit code."""
        self._selector.unregister(dead.pidfd)
        if dead.control:
            self._selector.unregister(dead.control)
        del self._members[dead.pid]
        return dead.reap()

    def kill(self, role: str) -> None:
        """Kill all of a role."""
        self.signal(signal.SIGKILL, role)

    def signal(self, number: int, role: str = "") -> None:
        """Signal those of a role, or all."""
        for one in self.of_role(role) if role else self:
            one.send_signal(number)

    def _hear(self, one: Offspring) -> None:
        try:
            while one.control and (heard := channel.listen(one.control)):
                self._on_word(*heard[0])
        except EOFError:
            if one.control:
                self._selector.unregister(one.control)
                one.control.close()
                one.control = None

    @staticmethod
    def tell(one: Offspring, *words: Any, ends: tuple[socket.socket, ...] = ()) -> None:
        """Say something, and give `ends` away with it. One that has just died hears nothing, and is reaped soon."""
        try:
            if one.control:
                channel.tell(one.control, *words, descriptors=[end.fileno() for end in ends], wait=False)
        except OSError:
            return
        finally:
            for end in ends:
                end.close()
